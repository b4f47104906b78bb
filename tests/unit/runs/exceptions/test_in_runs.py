"""Exceptions in runs: a resumed program sees the same errors as the program that failed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from livingai import CheckpointEngine
from tests.support.exceptions import differences
from tests.support.raising import chained, gone, grouped, renamed, slotted, wordy
from tests.support.runs import new_id


def lost() -> None:
    raise gone(OSError)(3, "x")


@pytest.mark.parametrize("kind", ["step", "tool"])
def test_a_run_that_handles_another_error_meanwhile(engine: CheckpointEngine, kind: str) -> None:
    """The context is the one that was there when the call failed, in every life."""
    run_id, seen = new_id(), []
    for _ in range(2):
        with engine.run_sync(run_id) as run:
            try:
                raise BufferError("around")
            except BufferError:
                with pytest.raises(RuntimeError) as caught:
                    getattr(run, kind)("a", chained)
            seen.append(caught.value)
    first, second = seen
    assert not differences(first, second)


def test_stop_iteration_comes_out_as_it_is(engine: CheckpointEngine) -> None:
    run_id = new_id()
    for _ in range(2):
        with engine.run_sync(run_id) as run, pytest.raises(StopIteration) as caught:
            run.step("next", next, iter(()))
        assert caught.value.__context__ is None


@pytest.mark.parametrize("options", [{}, {"timeout": 60.0}])
async def test_stop_iteration_with_an_event_loop(
    engine: CheckpointEngine, options: dict[str, Any]
) -> None:
    """It is what Python makes of it in any coroutine; above all, it does not hang."""
    run_id = new_id()
    for _ in range(2):
        async with engine.run(run_id) as run:
            with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
                await run.using(**options).step("next", next, iter(()))
            assert type(caught.value.__cause__) is StopIteration


async def test_programs_that_look_at_their_errors(engine: CheckpointEngine, tmp_path: Any) -> None:
    """What a program makes of an error is an argument of its next call: it must be the same."""
    run_id, texts = new_id(), []

    def look(text: str) -> str:
        texts.append(text)
        return text

    results = []
    for _ in range(2):
        async with engine.run(run_id) as run:
            for provoke in (renamed, slotted, wordy, grouped, lost):
                try:
                    await run.tool("tool", provoke)
                except Exception as error:
                    said = f"{type(error).__name__}: {error} {error!r} {error.__cause__!r}"
                    results.append(
                        await run.step("look", look, re.sub(" at 0x[0-9a-f]+", "", said))
                    )
    assert results[:5] == results[5:]
    assert len(texts) == 5
