"""Microsoft Agent Framework's storages of workflow checkpoints."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from agent_framework import FileCheckpointStorage, WorkflowCheckpoint

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import texts
from livingai.adapters.agent_framework import LivingAICheckpointStorage

#: Messages in a checkpoint's state.
_NEWEST: Final = 50


def _opener(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        made = texts(1000)
        storage: Any
        if side == OURS:
            storage = LivingAICheckpointStorage(place.ours)
        else:
            storage = FileCheckpointStorage(place.data / "checkpoints")
        previous: str | None = None

        async def step(number: int) -> None:
            nonlocal previous
            history = made[max(0, number + 1 - _NEWEST) : number + 1]
            checkpoint = WorkflowCheckpoint(
                workflow_name="steps",
                graph_signature_hash="0" * 64,
                previous_checkpoint_id=previous,
                state={"history": [{"role": "user", "text": text} for text in history]},
                iteration_count=number,
            )
            previous = await storage.save(checkpoint)

        yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    ("checkpoint", side): _opener(side) for side in (OURS, "FileCheckpointStorage")
}
