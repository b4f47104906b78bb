"""Tools in doubt: what a resolver is asked, and what its answer does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    Durability,
    ExecutionNode,
    NodeType,
    Resolution,
    Status,
    step,
    tool,
)
from livingai.errors import (
    InDoubtError,
)
from tests.support.patience import patience
from tests.support.runs import Counter, Crash, new_id, nodes_of


def crash_in_tool(engine: CheckpointEngine, run_id: str, **settings: Any) -> list[int]:
    """A run that crashes inside of its tool once; what the tool was called with."""
    calls: list[int] = []

    def charge(amount: int) -> str:
        calls.append(amount)
        if len(calls) == 1:
            raise Crash
        return "again"

    with pytest.raises(Crash), engine.run_sync(run_id) as run:
        run.tool("charge", charge, 5)
    with engine.run_sync(run_id, **settings) as run:
        calls.append(run.tool("charge", charge, 5))  # type: ignore[arg-type]
    return calls


def test_in_doubt_without_a_resolver(engine: CheckpointEngine) -> None:
    run_id = new_id()
    for _ in range(2):
        with pytest.raises(InDoubtError, match="charge") as caught:
            crash_in_tool(engine, run_id)
        (node,) = nodes_of(engine, run_id, "charge")
        assert caught.value.node_ids == (node.id,)
        assert node.status is Status.RUNNING
        run_id = new_id()


def test_in_doubt_is_decided_once(engine: CheckpointEngine) -> None:
    run_id, asked = new_id(), []

    def resolver(node: ExecutionNode) -> Resolution:
        asked.append(node.input)
        return Resolution.done({"receipt": "R-1"})

    assert crash_in_tool(engine, run_id, resolver=resolver) == [5, {"receipt": "R-1"}]
    with engine.run_sync(run_id) as run:
        receipt: Any = run.tool("charge", lambda _: 0, 5)
        assert receipt == {"receipt": "R-1"}
    assert asked == [{"args": [5], "kwargs": {}}]
    assert nodes_of(engine, run_id, "charge")[0].metadata["resolved"] == "done"


def test_in_doubt_resolved_to_retry_and_to_fail(engine: CheckpointEngine) -> None:
    retried = crash_in_tool(engine, new_id(), resolver=lambda _: Resolution.retry())
    assert retried == [5, 5, "again"]
    with pytest.raises(ValueError, match="gave up"):
        crash_in_tool(engine, new_id(), resolver=lambda _: Resolution.fail(ValueError("gave up")))
    with pytest.raises(InDoubtError):
        crash_in_tool(engine, new_id(), resolver=lambda _: None)


async def test_asynchronous_resolver(engine: CheckpointEngine) -> None:
    run_id = new_id()

    async def charge() -> str:
        raise Crash

    async def resolver(node: ExecutionNode) -> Resolution:
        await asyncio.sleep(0)
        return Resolution.done(str(node.status))

    with pytest.raises(Crash):
        async with engine.run(run_id) as run:
            await run.tool("charge", charge)
    async with engine.run(run_id, resolver=resolver) as run:
        assert [node.metadata["name"] for node in run.in_doubt] == ["charge"]
        assert await run.tool("charge", charge) == "running"


async def test_cancelled_tool_is_in_doubt(engine: CheckpointEngine) -> None:
    run_id = new_id()

    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def life() -> None:
        async with engine.run(run_id) as run:
            await run.tool("hang", hang)

    task = asyncio.create_task(life())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(InDoubtError):
        await life()


def test_idempotent_tool_is_made_again(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    @tool(idempotent=True)
    def put(key: str) -> int:
        if calls.add(key) == 1:
            raise Crash
        return 9

    with pytest.raises(Crash), engine.run_sync(run_id):
        put("k")
    with engine.run_sync(run_id):
        assert put("k") == 9
    assert len(calls.calls) == 2


async def test_cancelled_while_the_intent_is_synced(engine: CheckpointEngine) -> None:
    """The next intent is synced all the same."""
    for _ in range(50):
        node = ExecutionNode(new_id(), NodeType.TOOL, Status.RUNNING)
        saving = asyncio.create_task(engine.save(node, durability=Durability.FSYNC))
        await asyncio.sleep(0)
        saving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saving
    async with asyncio.timeout(patience(60)):
        await engine.save(node, durability=Durability.FSYNC)


@pytest.mark.parametrize("answer", [True, {"receipt": 1}, ZeroDivisionError("who knows")])
def test_resolver_that_does_not_resolve(engine: CheckpointEngine, answer: Any) -> None:
    """The question stays open; a program that catches everything around the tool does not go on."""
    run_id = new_id()

    def resolver(node: ExecutionNode) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(InDoubtError, match=r"the resolver r.*Resolution.done"):
        crash_in_tool(engine, run_id, resolver=resolver)
    with pytest.raises(InDoubtError), engine.run_sync(run_id, resolver=resolver) as run:  # noqa: PT012
        with contextlib.suppress(Exception):
            run.tool("charge", lambda _: "called", 5)
        run.step("more", str)
    (node,) = nodes_of(engine, run_id, "charge")
    assert node.status is Status.RUNNING
    assert nodes_of(engine, run_id, "more") == []


def test_step_that_is_called_as_a_tool(engine: CheckpointEngine) -> None:
    """What the program says at the call counts: at most once."""
    run_id, calls = new_id(), Counter()

    @step
    def charge() -> None:
        calls.add()
        raise Crash

    with pytest.raises(Crash), engine.run_sync(run_id) as run:
        run.tool("charge", charge)
    with pytest.raises(InDoubtError), engine.run_sync(run_id) as run:
        run.tool("charge", charge)
    assert len(calls.calls) == 1
