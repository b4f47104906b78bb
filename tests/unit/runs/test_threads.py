"""Plain functions of asynchronous runs: in threads, so that they do not block the event loop; what
is cancelled meanwhile, what belongs to the loop's thread, and what a thread must not change."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
import threading
import time
from typing import Any

import pytest

from livingai import CheckpointEngine, Run, Status, step, tool
from livingai.errors import RunError
from livingai.runs import threads
from livingai.runs.threads import MOST
from tests.support.patience import patience
from tests.support.runs import new_id, nodes_of

DEADLINE_S = 30.0
HERE: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="unset")


class Gate:
    """A plain function that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.calls = 0

    def __call__(self, value: Any = None) -> Any:
        with self._lock:
            self.calls += 1
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._open.wait(patience(DEADLINE_S))
        if isinstance(value, str):
            raise ValueError(value)
        return value

    def let_through(self) -> None:
        self._open.set()


async def test_ten_calls_at_a_time_do_not_hold_up_the_event_loop(engine: CheckpointEngine) -> None:
    """None of them gets through before all have begun, and the loop is free meanwhile."""
    run_id = new_id()
    barrier = threading.Barrier(11)

    def slow(number: int) -> int:
        barrier.wait(patience(DEADLINE_S))
        return number

    async with engine.run(run_id) as run:
        calls = asyncio.gather(*(run.step("slow", slow, number) for number in range(10)))
        await asyncio.to_thread(barrier.wait, patience(DEADLINE_S))
        assert await calls == list(range(10))
    paths = [node.metadata["call"] for node in nodes_of(engine, run_id, "slow")]
    assert sorted(paths) == [str(number) for number in range(10)]
    async with engine.run(run_id) as run:
        again = asyncio.gather(*(run.step("slow", slow, number) for number in range(10)))
        assert await again == list(range(10)), "served by their places, whoever was faster"


async def test_the_number_of_threads_is_limited(engine: CheckpointEngine) -> None:
    lock = threading.Lock()
    now = most = 0

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return number

    async with engine.run(new_id()) as run:
        calls = (run.step("work", work, number) for number in range(3 * MOST))
        assert await asyncio.gather(*calls) == list(range(3 * MOST))
    assert 1 < most <= MOST


async def test_context_variables_go_in_and_come_back(engine: CheckpointEngine) -> None:
    def look() -> str:
        before = HERE.get()
        HERE.set("set inside")
        return before

    HERE.set("set outside")
    async with engine.run(new_id()) as run:
        assert await run.step("look", look) == "set outside"
        assert HERE.get() == "set inside"


# -- a program that is cancelled -------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_begun_is_recorded_and_then_cancelled(
    engine: CheckpointEngine, fails: bool
) -> None:
    run_id, gate = new_id(), Gate()
    value = "no" if fails else 5

    async def program() -> Any:
        async with engine.run(run_id) as run:
            paid = await run.tool("charge", gate, value)
            await run.tool("ship", gate, 0)
            return paid

    task = asyncio.create_task(program())
    await asyncio.wait_for(gate.entered.wait(), patience(DEADLINE_S))
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done(), "nobody knows yet what came of it"
    gate.let_through()
    with pytest.raises(asyncio.CancelledError):
        await task
    (node,) = nodes_of(engine, run_id, "charge")
    assert node.status is (Status.FAILED if fails else Status.SUCCESS)
    assert not nodes_of(engine, run_id, "ship")
    if fails:
        with pytest.raises(ValueError, match="no"):
            await program()
    else:
        assert await program() == 5
    assert gate.calls == (1 if fails else 2), "once each"


async def test_a_timeout_around_a_call(engine: CheckpointEngine) -> None:
    run_id, gate = new_id(), Gate()

    async def strike(around: asyncio.Timeout) -> None:
        await asyncio.wait_for(gate.entered.wait(), patience(DEADLINE_S))
        around.reschedule(0)
        for _ in range(2):  # turns of the loop
            await asyncio.sleep(0)
        assert around.expired()
        gate.let_through()

    async def charge(run: Run) -> None:
        async with asyncio.timeout(None) as around:
            striking = asyncio.create_task(strike(around))
            await run.tool("charge", gate, 5)
            await striking

    async with engine.run(run_id) as run:
        with pytest.raises(TimeoutError):
            await charge(run)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0, "the program goes on"
    (node,) = nodes_of(engine, run_id, "charge")
    assert (node.status, node.output) == (Status.SUCCESS, 5)


async def test_no_other_attempt_in_a_cancelled_program(engine: CheckpointEngine) -> None:
    run_id, gate = new_id(), Gate()

    async def program() -> Any:
        async with engine.run(run_id) as run:
            return await run.using(retries=5).step("ask", gate, "busy")

    task = asyncio.create_task(program())
    await asyncio.wait_for(gate.entered.wait(), patience(DEADLINE_S))
    task.cancel()
    await asyncio.sleep(0)
    gate.let_through()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.calls == 1


async def test_a_cancelled_call_that_waits_for_a_thread_does_not_begin(
    engine: CheckpointEngine,
) -> None:
    gate, late = Gate(), Gate()

    async def program() -> None:
        async with engine.run(new_id()) as run:
            await asyncio.gather(*(run.step("ask", gate, number) for number in range(MOST)))

    async def behind() -> None:
        async with engine.run(new_id()) as run:
            await run.step("ask", late)

    first = asyncio.create_task(program())
    await asyncio.wait_for(gate.entered.wait(), patience(DEADLINE_S))
    async with asyncio.timeout(patience(DEADLINE_S)):
        while gate.calls < MOST:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.001)
        second = asyncio.create_task(behind())
        while not threads._threads._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.let_through()
    await first
    assert late.calls == 0


async def test_its_own_timeout_leaves_the_thread_alone(engine: CheckpointEngine) -> None:
    run_id, gate = new_id(), Gate()
    async with engine.run(run_id) as run:
        with pytest.raises(TimeoutError):
            await run.using(timeout=0.05).tool("charge", gate, 5)
        gate.let_through()
        with pytest.raises(TimeoutError):  # a coroutine that a plain function has made
            await run.using(timeout=0.05).step("hang", lambda: asyncio.sleep(DEADLINE_S))
    (node,) = nodes_of(engine, run_id, "charge")
    assert node.status is Status.FAILED


# -- what happens inside ---------------------------------------------------------------------------


async def test_recorded_calls_inside_of_a_thread(engine: CheckpointEngine) -> None:
    run_id = new_id()
    calls: list[str] = []

    @tool
    def charge(amount: int) -> int:
        calls.append("charge")
        return amount

    @step
    async def ask() -> str:
        calls.append("ask")
        return "asked"

    def order(number: int) -> int:
        calls.append("order")
        return charge(number) + charge(number + 1)

    for _ in range(2):
        async with engine.run(run_id) as run:
            orders = (run.step("order", order, number) for number in range(3))
            assert await asyncio.gather(*orders) == [1, 3, 5]
            assert await run.step("later", lambda: [ask()][0]) == "asked"

            def outer(run: Any = run) -> Any:
                return run.step("inner", order, 7)

            assert await run.step("outer", outer) == 15
    assert (calls.count("charge"), calls.count("order"), calls.count("ask")) == (8, 4, 1)
    paths = {node.metadata["call"] for node in nodes_of(engine, run_id, "charge")}
    assert paths == {"0.0", "0.1", "1.0", "1.1", "2.0", "2.1", "4.0.0", "4.0.1"}


async def test_errors_come_through(engine: CheckpointEngine) -> None:
    def fail(error: BaseException) -> None:
        raise error

    async with engine.run(new_id()) as run:
        for error in (ValueError("no"), TimeoutError("late"), ExceptionGroup("two", [KeyError(1)])):
            with pytest.raises(type(error)) as caught:
                await run.step("fail", fail, error)
            assert caught.value is error
        with pytest.raises(RuntimeError, match="StopIteration"):
            await run.step("fail", next, iter(()))
        with pytest.raises(asyncio.CancelledError):
            await run.step("fail", fail, asyncio.CancelledError())
        with pytest.raises(GeneratorExit):
            await run.step("fail", fail, GeneratorExit())


# -- what belongs to the loop's thread -------------------------------------------------------------


async def test_a_function_that_needs_the_loops_thread_gets_advice(
    engine: CheckpointEngine,
) -> None:
    run_id = new_id()
    connection = sqlite3.connect(":memory:")

    def query() -> int:
        return int(connection.execute("SELECT 5").fetchone()[0])

    async def two() -> list[Any]:
        return list(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))

    def needs_the_loop() -> Any:
        return asyncio.get_running_loop().create_task(two())

    for _ in range(2):
        async with engine.run(run_id, resolver=lambda node: None) as run:
            for function in (query, needs_the_loop):
                with pytest.raises(RunError, match="thread=False"):
                    await run.step("look", function)
            inline = run.using(thread=False)
            assert await inline.step("query", query) == 5
            assert await inline.step("loop", needs_the_loop) == [1, 2]
            here = await inline.step("here", threading.get_ident)
            assert here == threading.get_ident()
    connection.close()
    assert not nodes_of(engine, run_id, "look"), "no outcome of the program's work"


@pytest.mark.parametrize("how", ["thread=False", "decorated"])
async def test_a_call_that_holds_up_the_event_loop_is_warned_of(
    engine: CheckpointEngine, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def slow() -> None:
        time.sleep(0.15)

    slow.__qualname__ = f"slow {how}"
    slow = step(slow)
    with caplog.at_level(logging.WARNING, "livingai"):
        async with engine.run(new_id()) as run:
            for _ in range(2):
                if how == "decorated":
                    slow()
                else:
                    await run.using(thread=False).step("slow", slow)
    assert caplog.text.count("held up the event loop for 0.") == 1, "once"
    assert "slow" in caplog.text


async def test_a_function_is_called_in_the_loop_if_no_thread_can_start(
    engine: CheckpointEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with engine.run(new_id()) as run:
        with monkeypatch.context() as patched:
            patched.setattr(threads, "_threads", threads._Threads())
            patched.setattr(threading.Thread, "start", none_left)
            assert await run.tool("here", threading.get_ident) == threading.get_ident()
        assert await run.tool("there", threading.get_ident) != threading.get_ident()
