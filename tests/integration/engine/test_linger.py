"""A service that lingers leaves writes for a moment, unless somebody waits for one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from livingai import CheckpointEngine, Durability, ExecutionNode, Receipt
from livingai.engine.connection import ServiceConnection
from livingai.protocol.frames import WAKE_FRAME
from livingai.queue.layout import ServiceWord, WakeFor
from tests.support import acts, peek
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen, joined, until

LONGEST: dict[str, Any] = {"linger_ms": 100, "budget_ms": 600_000}


class Watched:
    """A connection's socket that counts wake-ups."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.real: Any = connection._socket
        self.wakes = 0

    def send(self, data: bytes, flags: int = 0) -> int:
        self.wakes += data == WAKE_FRAME
        sent: int = self.real.send(data, flags)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def save(engine: CheckpointEngine, **how: Any) -> Receipt:
    return engine.save_sync(ExecutionNode("run-1"), b"state", **how)


def waiting(engine: CheckpointEngine) -> int:
    """For what the service wants to be woken now."""
    return engine.open_handle().connection._words[ServiceWord.WAITING]


def lingers(engine: CheckpointEngine) -> bool:
    """Whether the service does so now."""
    return waiting(engine) == WakeFor.HASTE


@contextmanager
def caught(place: Place, engine: CheckpointEngine) -> Iterator[Watched]:
    """Inside the block the service is stopped in the midst of lingering."""
    save(engine).result(patience(60))
    pid, connection = place.pids()["dispatcher"], engine.open_handle().connection
    for _ in range(1000):  # its start took long, for which it does not linger at first
        save(engine).result(patience(60))
        with frozen([pid]):
            if lingers(engine):
                watched = Watched(connection)
                connection._socket = watched  # type: ignore[assignment]
                try:
                    yield watched
                finally:
                    connection._socket = watched.real
                return
    raise AssertionError("it does not linger")


def by_result(_: CheckpointEngine, receipt: Receipt) -> None:
    receipt.result(patience(60))


def by_await(_: CheckpointEngine, receipt: Receipt) -> None:
    async def wait() -> None:
        await asyncio.wait_for(receipt, patience(60))

    asyncio.run(wait())


def by_callback(_: CheckpointEngine, receipt: Receipt) -> None:
    heard = threading.Event()
    receipt.add_callback(lambda _: heard.set())
    assert heard.wait(patience(60))


def by_flush(engine: CheckpointEngine, _: Receipt) -> None:
    engine.flush_sync(timeout=patience(60))


@pytest.mark.parametrize("wait", [by_result, by_await, by_callback, by_flush])
def test_who_waits_wakes_it(
    state_dir: Place, wait: Callable[[CheckpointEngine, Receipt], None]
) -> None:
    with state_dir.engine(**LONGEST) as engine:
        with caught(state_dir, engine) as watched:
            left, waited = save(engine), save(engine)
            assert not watched.wakes, "a save for which nobody waits"
            thread = threading.Thread(target=wait, args=(engine, waited))
            thread.start()
            until(lambda: watched.wakes, what="a message")
        joined(thread, timeout=60)
        assert waited.done()
        assert left.done(), "what came before is stored with it"
        assert watched.wakes <= 2


def test_who_wants_the_store_wakes_it(state_dir: Place) -> None:
    with state_dir.engine(**LONGEST) as engine:
        with caught(state_dir, engine) as watched:
            how = {"durability": Durability.STORE}
            thread = threading.Thread(target=save, args=(engine,), kwargs=how)
            thread.start()
            until(lambda: watched.wakes, what="a message")
        joined(thread, timeout=60)


def test_a_budget_that_leaves_no_time_wakes_it(state_dir: Place) -> None:
    with state_dir.engine(**LONGEST) as engine, caught(state_dir, engine) as watched:
        save(engine, budget_ms=200)
        wakes = [watched.wakes]
        save(engine, budget_ms=199)
        assert [*wakes, watched.wakes] == [0, 1]


def test_who_asks_waits(state_dir: Place) -> None:
    with state_dir.engine(**LONGEST) as engine, caught(state_dir, engine) as watched:
        receipts = [save(engine) for _ in range(50)]
        assert not any(receipt.done() for receipt in receipts)
        assert watched.wakes == 1, "one message is enough for all"
        assert save(engine).outcome is None
        assert watched.wakes == 2


def test_an_engine_need_not_be_left(state_dir: Place) -> None:
    """The service is that of another engine, which does not mind."""
    mine = {**LONGEST, "linger_ms": 99}
    with (
        state_dir.engine(**LONGEST) as engine,
        state_dir.engine(**mine) as hasty,
        caught(state_dir, engine) as watched,
    ):
        hasty.save_sync(ExecutionNode("run-2"), b"state")
        assert watched.wakes == 1


def test_it_does_not_linger_where_storing_takes_long(state_dir: Place) -> None:
    with state_dir.engine(**LONGEST) as engine:
        with caught(state_dir, engine):
            pass
        (writer,) = state_dir.pids()["writers"]
        for _ in range(10):  # what is slow is forgotten within seconds, which may pass at any point
            with frozen([writer]):
                slow = save(engine)
                time.sleep(0.3)  # longer than twice the longest that it may linger
            slow.result(patience(60))
            began = time.monotonic()
            save(engine).result(patience(60))
            until(lambda: waiting(engine) == WakeFor.APPENDS, what="the end of lingering")
            if time.monotonic() - began < 0.05:  # a fifth of 100 ms, and what else takes time
                return
    raise AssertionError("it lingers for long, although it took long lately")


def test_nobody_waits_and_all_is_stored(state_dir: Place) -> None:
    with state_dir.engine(budget_ms=600_000) as engine:
        save(engine).result(patience(60))
        receipts = [save(engine) for _ in range(5)]
        until(lambda: all(one.done() for one in receipts), what="their outcomes", timeout=60)


def test_what_a_killed_agent_left_is_stored(state_dir: Place) -> None:
    with state_dir.engine(**LONGEST) as engine:
        agent = state_dir.agent(**LONGEST)
        agent.call(acts.save, "run-2", 1)
        with caught(state_dir, engine):
            agent.call(acts.save, "run-2", 2)
            os.kill(agent.pid, signal.SIGKILL)
            agent.died()
        until(
            lambda: len(peek.stored_nodes(state_dir.database, "run-2")) == 2,
            what="both nodes", timeout=60,
        )  # fmt: skip


def test_leaving_stores_everything(state_dir: Place) -> None:
    engine = state_dir.engine(**LONGEST)
    with engine:
        with caught(state_dir, engine):
            save(engine)
        before = engine.sla().saves
    assert len(peek.stored_nodes(state_dir.database, "run-1")) == before


def test_it_need_not_linger(state_dir: Place) -> None:
    with state_dir.engine(linger_ms=0, budget_ms=1e9) as engine:
        for _ in range(20):
            save(engine).result(patience(60))
            assert not lingers(engine)
