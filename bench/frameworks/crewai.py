"""CrewAI's persistence of flows."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from crewai.flow.persistence.sqlite import SQLiteFlowPersistence

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import texts
from livingai.adapters.crewai import LivingAIFlowPersistence

#: Methods of a flow, each of which adds a message to its state.
_METHODS: Final = 20


def _opener(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        made = texts(1000)
        persistence: Any
        if side == OURS:
            persistence = LivingAIFlowPersistence(place.ours)
        else:
            persistence = SQLiteFlowPersistence(str(place.data / "flows.db"))

        async def step(number: int) -> None:
            flow, method = divmod(number, _METHODS)
            begin = flow * _METHODS
            messages = [
                {"role": "user", "content": made[at % len(made)]} for at in range(begin, number + 1)
            ]
            state = {"id": f"flow-{flow}", "messages": messages}
            persistence.save_state(f"flow-{flow}", f"method_{method}", state)

        yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    ("save state", side): _opener(side) for side in (OURS, "SQLiteFlowPersistence")
}
