"""The step stores of Pydantic AI's harness."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    FileStepStore,
    InMemoryStepStore,
    RunRecord,
    SqliteStepStore,
    StepEvent,
)

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import texts
from livingai.adapters.pydantic_ai_harness import LivingAIStepStore

#: Steps of a run, each of which adds a message to its history.
_STEPS: Final = 20


def _store(place: Place, side: str) -> Any:
    match side:
        case "FileStepStore":
            return FileStepStore(place.data / "runs")
        case "SqliteStepStore":
            return SqliteStepStore(database=place.data / "runs.db")
        case "InMemoryStepStore":
            return InMemoryStepStore()
        case _:
            return LivingAIStepStore(place.ours)


def _message(number: int, text: str) -> Any:
    if number % 2:
        return ModelResponse(parts=[TextPart(text)])
    return ModelRequest(parts=[UserPromptPart(text)])


def _opener(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        messages = [_message(number, text) for number, text in enumerate(texts(1000))]
        store = _store(place, side)

        async def step(number: int) -> None:
            run, index = divmod(number, _STEPS)
            run_id = f"run-{run}"
            if index == 0:
                await store.register_run(RunRecord(run_id=run_id, agent_name="agent"))
            await store.append_event(
                StepEvent(
                    run_id=run_id, kind="model_request_completed", step_index=index,
                    idempotency_key=f"{run_id}:{index}",
                )
            )  # fmt: skip
            begin = run * _STEPS % len(messages)
            await store.save_snapshot(
                ContinuableSnapshot(
                    run_id=run_id, step_index=index,
                    messages=messages[begin : begin + index + 1],
                )
            )  # fmt: skip

        yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    ("step", side): _opener(side)
    for side in (OURS, "FileStepStore", "SqliteStepStore", "InMemoryStepStore")
}
