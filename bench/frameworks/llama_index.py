"""The states of LlamaIndex workflows."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.context.state_store_integration import StateStoreFacade

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import texts
from livingai.adapters.llama_index import LivingAIStateStorage

#: Messages in the state.
_NEWEST: Final = 50


def _opener(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        made = texts(1000)
        store: Any
        if side == OURS:
            storage = LivingAIStateStorage(place.ours, "run")
            store = StateStoreFacade(storage, DictState, JsonSerializer())
        else:
            store = InMemoryStateStore(DictState())

        async def step(number: int) -> None:
            await store.set("messages", list(made[max(0, number + 1 - _NEWEST) : number + 1]))

        yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    ("state", side): _opener(side) for side in (OURS, "InMemoryStateStore")
}
