"""close(): which waits it ends, what it waits for, and what concurrent calls of the engine see."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, TypeVarTuple

import pytest

from livingai import CheckpointEngine, Durability, ExecutionNode
from livingai.errors import (
    ExecutionNotFoundError,
    FlushTimeoutError,
    JournalClosedError,
    JournalError,
    OutcomeUnknownError,
)
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen, joined, until


def test_waiting_for_an_outcome_ends_with_the_engine(served: Place) -> None:
    engine = served.engine()
    engine.save_sync(ExecutionNode(served.run), b"first").result(patience(60))
    with frozen(served.service_processes()):
        receipt = engine.save_sync(ExecutionNode(served.run), b"second")
        found: list[BaseException] = []

        def wait() -> None:
            try:
                receipt.result()
            except OutcomeUnknownError as error:
                found.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        engine.close_sync(0.05)
        joined(waiting)
        assert [type(error) for error in found] == [OutcomeUnknownError]
        with pytest.raises(OutcomeUnknownError, match="Nothing is lost"):
            receipt.result(0)
        called: list[Any] = []
        receipt.add_callback(called.append)
        assert not called
        assert not receipt.done()


def test_awaiting_an_outcome_ends_with_the_engine(served: Place) -> None:
    async def main() -> None:
        engine = served.engine()
        await (await engine.save(ExecutionNode(served.run), b"first"))
        with frozen(served.service_processes()):
            receipt = await engine.save(ExecutionNode(served.run), b"second")

            async def wait() -> None:
                await receipt

            waiting = asyncio.create_task(wait())
            await engine.close(0.05)
            with pytest.raises(OutcomeUnknownError):
                await asyncio.wait_for(waiting, patience(10))

    asyncio.run(main())


def test_a_request_ends_with_the_engine(served: Place) -> None:
    engine = served.engine()
    engine.save_sync(ExecutionNode(served.run), b"first").result(patience(60))
    with frozen(served.service_processes()):
        found: list[BaseException] = []

        def ask() -> None:
            try:
                engine.nodes_sync(served.run)
            except JournalClosedError as error:
                found.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        requests = engine.open_handle().connection._requests
        until(lambda: requests, what="the question")
        engine.close_sync(0.05)
        joined(asking)
        assert found


def test_a_cancelled_flush_delays_neither_loop_nor_process(served: Place) -> None:
    """Neither the loop's end nor the process's waits for what the caller no longer wants."""

    async def main() -> None:
        engine = served.engine()
        await (await engine.save(ExecutionNode(served.run), b"first"))
        with frozen(served.service_processes()):
            await engine.save(ExecutionNode(served.run), b"second")
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(engine.flush(), 0.01)
            with pytest.raises(FlushTimeoutError, match="1 writes"):
                await engine.flush(timeout=0.01)
            await engine.close(0.05)
            await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(asyncio.wait_for(main(), patience(30)))  # all of it while the service is stopped


def test_leaving_with_more_wake_ups_than_the_socket_holds(state_dir: Place) -> None:
    """The service sleeps and is stopped: no process reads what wakes it."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1")
    agent.settled(1)
    agent.call(until_service_sleeps)
    with frozen(state_dir.service_processes()):
        agent.call(acts.save_many, "run-2", 1000, size=10)
        assert agent.leave(timeout=10.0) == 0
    state_dir.empty()
    assert peek.stored_steps(state_dir.database, "run-2") == list(range(1000))


def until_service_sleeps(agent: AgentSide) -> None:
    """Wait until it wants to be woken."""
    words = agent.engine.open_handle().connection._words
    until(lambda: words[0], what="the service sleeps")


def test_closing_while_other_threads_use_the_engine(served: Place) -> None:
    """Threads that save, read and look see an engine that is open, or one that is closed."""
    for turn in range(10):
        engine = served.engine()
        execution = f"{served.run} {turn}"
        engine.save_sync(ExecutionNode(execution), b"state").result(patience(60))
        acts_: list[Callable[[], Any]] = [
            partial(save_new, engine, execution),
            partial(save_new, engine, execution, durability=Durability.FSYNC),
            partial(engine.latest_sync, execution),
            partial(engine.latest_sync, f"{execution} none"),
            partial(engine.claim_sync, f"{execution} claimed"),
        ]
        begun = threading.Barrier(len(acts_) + 1)
        found: list[BaseException] = []
        threads = [threading.Thread(target=use, args=(engine, act, begun, found)) for act in acts_]
        for thread in threads:
            thread.start()
        begun.wait(patience(30))
        engine.close_sync(0.01)
        for thread in threads:
            joined(thread)
            assert not thread.is_alive(), "it hangs"
        assert {type(error) for error in found} == {JournalClosedError}, found


def save_new(engine: CheckpointEngine, execution: str, **how: Any) -> None:
    engine.save_sync(ExecutionNode(execution), b"state", **how)


def use(
    engine: CheckpointEngine,
    act: Callable[[], Any],
    begun: threading.Barrier,
    found: list[BaseException],
) -> None:
    """Act until that fails."""
    try:
        begun.wait(patience(30))
        while True:
            try:
                act()
            except ExecutionNotFoundError:
                continue
    except BaseException as error:
        found.append(error)


def close_with_broken_disk(agent: AgentSide) -> str:
    """Close while no sync works; what it says."""
    from livingai import failpoint

    acts.save(agent, "run-1", 1)
    failpoint.arm("journal.before_fsync=error")
    try:
        agent.engine.close_sync()
    except JournalError as error:
        failpoint.arm("")
        with open("/proc/self/maps", encoding="utf-8") as maps:
            left = [line for line in maps if agent.engine.directory.path in line]
        assert not left, left
        return str(error)
    return ""


def test_an_engine_closes_even_if_its_last_sync_fails(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    assert "cannot sync" in agent.call(close_with_broken_disk)
    assert agent.leave() == 0
    state_dir.empty()
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1]


Ts = TypeVarTuple("Ts")


class ClosingLoop(asyncio.SelectorEventLoop):
    """Is closed by its thread at the moment when another thread wants to wake it."""

    ending = False

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self.ending:
            self.close()
        return super().call_soon_threadsafe(callback, *args, context=context)


def test_an_event_loop_that_ends_while_outcomes_arrive(served: Place) -> None:
    """Others wait for outcomes, too."""
    with served.engine() as engine:
        engine.save_sync(ExecutionNode(served.run), b"first").result(patience(60))
        loop = ClosingLoop()

        async def wait(receipt: Any) -> None:
            await receipt

        with frozen(served.service_processes()):
            receipt = engine.save_sync(ExecutionNode(served.run), b"second")
            waiting = loop.create_task(wait(receipt))
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.ending = True
            other = engine.save_sync(ExecutionNode(served.run), b"third")
        assert other.result(patience(60)).stored
        assert engine.save_sync(ExecutionNode(served.run), b"fourth").result(patience(60)).stored
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        until(loop.is_closed, what="the loop is closed")
