"""Options of recorded calls: retries, timeouts, decorators, costs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    Status,
    current_run,
    step,
    tool,
)
from livingai.errors import (
    ConfigurationError,
)
from tests.support.patience import patience
from tests.support.runs import Counter, Crash, new_id, nodes_of


def test_retries_are_recorded(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    def flaky() -> int:
        if calls.add() < 3:
            raise ConnectionError("busy")
        return 1

    with engine.run_sync(run_id) as run:
        assert run.using(retries=3, backoff_s=0.001).step("flaky", flaky) == 1
        with pytest.raises(ConfigurationError, match="retry_on"):
            run.using(retries=1).tool("flaky", flaky)
        with pytest.raises(ConfigurationError, match="unknown option"):
            run.using(retrys=1).step("flaky", flaky)  # type: ignore[call-arg]
    (node,) = nodes_of(engine, run_id, "flaky")
    assert [a[:2] for a in node.metadata["attempts"]] == [["ConnectionError", "busy"]] * 2


def test_attempts_count_across_crashes(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    @tool(retries=3, retry_on=(ConnectionError,), idempotent=True)
    def flaky() -> int:
        if calls.add() == 3:
            raise Crash
        raise ConnectionError(str(len(calls.calls)))

    with pytest.raises(Crash), engine.run_sync(run_id):
        flaky()
    with pytest.raises(ConnectionError, match="5"), engine.run_sync(run_id):
        flaky()
    assert len(calls.calls) == 5  # four attempts, one of them interrupted


def test_another_attempt_is_served_what_the_last_one_did(engine: CheckpointEngine) -> None:
    charged, tries = Counter(), Counter()

    def outer() -> int:
        ticket = run.tool("charge", charged.add)
        if run.step("ask", tries.add) < 3:
            raise ConnectionError
        return ticket

    def ask_again() -> int:
        ticket = run.tool("charge", charged.add)
        run.step("unsure", unsure)
        return ticket

    def unsure() -> int:
        if tries.add() < 6:
            raise ConnectionError
        return 0

    with engine.run_sync(new_id()) as run:
        with pytest.raises(ConnectionError):  # what was recorded is served: it never gets to 3
            run.using(retries=3).step("outer", outer)
        assert len(tries.calls) == 1
        assert run.using(retries=5).step("again", ask_again) == 2
    assert len(charged.calls) == 2


async def test_timeouts(engine: CheckpointEngine) -> None:
    run_id, hold = new_id(), threading.Event()

    @step(timeout=0.01)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @tool(timeout=0.01)
    def blocks() -> None:
        hold.wait(patience(30))

    for _ in range(2):
        async with engine.run(run_id) as run:
            with pytest.raises(TimeoutError):
                await hangs()
            with pytest.raises(TimeoutError):
                blocks()
            assert await run.using(timeout=30).step("quick", lambda: 1) == 1
    hold.set()
    statuses = {n.metadata["name"]: n.status for n in await engine.nodes(run_id)}
    assert statuses["blocks"] == statuses["hangs"] == Status.FAILED


async def test_decorated_functions(engine: CheckpointEngine) -> None:
    calls, run_id = Counter(), new_id()

    @step
    async def think(topic: str) -> str:
        calls.add(topic)
        if (run := current_run()) is not None:
            run.record_cost(tokens=7)
        return topic.upper()

    @tool(name="pay")
    def charge(amount: int) -> int:
        return calls.add(amount)

    assert current_run() is None
    assert (await think("plain"), charge(1)) == ("PLAIN", 2)  # outside of a run: plain functions
    for _ in range(2):
        async with engine.run(run_id) as run:
            assert list(await asyncio.gather(think("a"), think("b"))) == ["A", "B"]
            assert charge(5) == 5
            assert await run.step("named", think, "c") == "C"
    assert len(calls.calls) == 6
    lines = {line.group: line for line in await engine.costs("name", run_id)}
    assert (lines["think"].nodes, lines["think"].cost_tokens) == (2, 14)
    assert lines["named"].cost_tokens == 7
    (whole,) = await engine.costs(prefix=run_id)
    assert whole.cost_tokens == 21
    assert len(engine.costs_sync("day", run_id)) == 1
    with pytest.raises(ConfigurationError):
        engine.costs_sync("week", run_id)  # type: ignore[arg-type]


async def test_timeout_of_a_lambda_around_a_coroutine(engine: CheckpointEngine) -> None:
    async def ask(question: str) -> str:
        await asyncio.sleep(0)
        return question.upper()

    async def hang() -> None:
        await asyncio.Event().wait()

    async with engine.run(new_id()) as run:
        assert await run.using(timeout=30).step("ask", lambda: ask("why")) == "WHY"
        with pytest.raises(TimeoutError):
            await run.using(timeout=0.01).step("hang", lambda: hang(*()))


@pytest.mark.parametrize("tokens", [1.5, -1, True, "7"])
def test_an_invalid_cost_is_an_error_of_the_call(engine: CheckpointEngine, tokens: Any) -> None:
    """An error of the program, and as such an outcome of the tool."""
    run_id = new_id()
    for _ in range(2):
        with engine.run_sync(run_id) as run, pytest.raises(ValueError, match="whole number"):
            run.tool("costly", lambda: run.record_cost(tokens))
