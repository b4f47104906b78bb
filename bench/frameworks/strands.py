"""Strands' storages."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from strands.storage import LocalFileStorage

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import production_state, production_states
from livingai.adapters.strands import LivingAIStorage


def _opener(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        production_states()
        storage: Any
        if side == OURS:
            storage = LivingAIStorage(place.ours)
        else:
            storage = LocalFileStorage(str(place.data / "storage"))

        async def step(number: int) -> None:
            agent, state = production_state(number)
            await storage.write(f"sessions/{agent}/snapshot.json", state)

        yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    ("write", side): _opener(side) for side in (OURS, "LocalFileStorage")
}
