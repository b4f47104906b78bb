"""Runs that go on behind their newest checkpoint: what was done before it stays done, and the
places of its calls are not given out again."""

from __future__ import annotations

import asyncio

import pytest

from livingai import CheckpointEngine
from tests.support.runs import Counter, Crash, new_id, nodes_of


@pytest.mark.parametrize("behind", [True, False])
def test_names_of_scopes_are_counted_on(engine: CheckpointEngine, behind: bool) -> None:
    """The tool in the scope before the checkpoint is neither missed in the end nor found in place
    of the one behind it."""
    done, run_id = Counter(), new_id()

    def life(crash: bool) -> list[int]:
        with engine.run_sync(run_id, resume="checkpoint") as run:
            if run.state is None:
                with run.scope("pay"):
                    run.state = [run.tool("charge", done.add, "first")]
                run.checkpoint()
            if crash:
                raise Crash
            if behind:
                with run.scope("pay"):
                    return [*run.state, run.tool("charge", done.add, "second")]
            run.step("look", int, 1)
            return [*run.state]

    with pytest.raises(Crash):
        life(True)
    expected = [1, 2] if behind else [1]
    assert life(False) == life(False) == expected
    assert len(done.calls) == len(expected)
    paths = [node.metadata["call"] for node in nodes_of(engine, run_id, "charge")]
    assert paths == ["(pay).0", "(pay)#1.0"][: len(expected)]


@pytest.mark.parametrize("behind", [True, False])
async def test_tasks_are_counted_on(engine: CheckpointEngine, behind: bool) -> None:
    done, run_id = Counter(), new_id()

    async def life(crash: bool) -> list[int]:
        async with engine.run(run_id, resume="checkpoint") as run:

            async def charge(what: str) -> int:
                return await run.tool("charge", done.add, what)

            if run.state is None:
                run.state = await asyncio.gather(charge("first"))
                await run.checkpoint()
            if crash:
                raise Crash
            if behind:
                return [*run.state, *await asyncio.gather(charge("second"))]
            await run.step("look", int, 1)
            return [*run.state]

    with pytest.raises(Crash):
        await life(True)
    expected = [1, 2] if behind else [1]
    assert await life(False) == await life(False) == expected
    assert len(done.calls) == len(expected)
    paths = [node.metadata["call"] for node in nodes_of(engine, run_id, "charge")]
    assert paths == ["t0.0", "t1.0"][: len(expected)]
