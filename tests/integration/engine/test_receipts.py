"""How an agent learns of its writes' outcomes: receipts, callbacks, barriers, and the summary."""

from __future__ import annotations

import asyncio
import math
import os
import threading

import pytest

from livingai import CheckpointEngine, Durability, ExecutionNode, Outcome, Receipt
from livingai.config import EngineConfig, ServiceConfig
from livingai.engine.connection import ServiceConnection
from livingai.engine.starting import Starter
from livingai.errors import FlushTimeoutError, OutcomeTimeoutError
from livingai.protocol.sections import encode_sections
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.journal import Appended, Journal
from livingai.queue.layout import Flag
from livingai.queue.record import execution_hash
from livingai.queue.tail import JournalTail
from tests.support import acts, peek
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen, joined, kill, until


def test_every_way_to_get_an_outcome(served: Place) -> None:
    async def main() -> None:
        async with served.engine() as engine:
            receipt = await engine.save(ExecutionNode(served.run), b"state")
            called: list[Receipt] = []
            receipt.add_callback(called.append)
            first, second, third = await asyncio.gather(waits(receipt), waits(receipt), receipt)
            assert first is second is third is receipt.outcome
            assert receipt.result(0) is first
            assert receipt.done()
            assert called == [receipt]
            receipt.add_callback(called.append)
            assert called == [receipt, receipt], "known already: called at once"
            assert "met" in repr(receipt) or "late" in repr(receipt)

    async def waits(receipt: Receipt) -> Outcome:
        return await receipt

    asyncio.run(main())


def test_cancelling_one_waiter_leaves_the_others(served: Place) -> None:
    async def main() -> None:
        async with served.engine() as engine:
            await (await engine.save(ExecutionNode(served.run), b"first"))
            with frozen(served.service_processes()):
                receipt = await engine.save(ExecutionNode(served.run), b"state")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(receipt, 0.1)
                assert not receipt.done()
                other = asyncio.create_task(waits(receipt))
                await asyncio.sleep(0)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(receipt, 0.1)
            assert (await other).stored

    async def waits(receipt: Receipt) -> Outcome:
        return await receipt

    asyncio.run(main())


def test_waiting_in_many_threads(served: Place) -> None:
    with served.engine() as engine:
        receipts = [
            engine.save_sync(ExecutionNode(f"{served.run} {i}"), b"state") for i in range(20)
        ]
        found: list[Outcome] = []
        threads = [
            threading.Thread(target=lambda r=receipt: found.append(r.result(patience(60))))
            for receipt in receipts
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            joined(thread)
        assert len(found) == 60
        assert {id(o) for o in found} == {id(receipt.outcome) for receipt in receipts}


def test_timeout_says_that_nothing_is_lost(served: Place) -> None:
    with served.engine() as engine:
        engine.save_sync(ExecutionNode(served.run), b"first").result(patience(60))
        with frozen(served.service_processes()):
            receipt = engine.save_sync(ExecutionNode(served.run), b"second")
            with pytest.raises(OutcomeTimeoutError, match=r"safe in the journal.*livingai status"):
                receipt.result(0.05)
            with pytest.raises(TimeoutError):
                receipt.result(0)
            assert receipt.outcome is None
            assert not receipt.done()
            assert receipt, "accepted, whatever becomes of it"
            with pytest.raises(FlushTimeoutError, match="1 writes"):
                engine.flush_sync(timeout=0.05)
            engine.flush_sync(Durability.JOURNAL, timeout=0)
            engine.flush_sync(Durability.FSYNC, timeout=patience(30))
            assert engine.latest_sync(served.run)[1] == b"second"
        assert receipt.result(patience(60)).stored
        engine.flush_sync(timeout=0)


def test_an_agent_that_was_away_gets_its_outcomes(state_dir: Place) -> None:
    """Outcomes that were decided while the agent had no connection are read from its journal."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    agent.call(acts.save_many, "run-2", 5)
    agent.stop()
    store = state_dir.database
    until(lambda: len(peek.stored_versions(store, "run-2")) == 5, what="5 states in the store")
    os.kill(state_dir.pids()["dispatcher"], 9)
    state_dir.pids()
    agent.resume()
    agent.settled(6)


def test_durability_that_save_waits_for(served: Place) -> None:
    with served.engine(durability=Durability.STORE) as engine:
        assert engine.save_sync(ExecutionNode(served.run), b"1").done()
        assert engine.sla().pending == 0
        engine.save_sync(ExecutionNode(served.run), b"2", durability=Durability.FSYNC)
        with frozen(served.service_processes()):
            receipt = engine.save_sync(ExecutionNode(served.run), b"3", durability=Durability.FSYNC)
            assert not receipt.done()
            assert engine.sla().unsynced_bytes == 0
    assert peek.stored_state(served.database, served.run) == b"3"

    async def main() -> None:
        async with served.engine(durability=Durability.STORE) as engine:
            assert (await engine.save(ExecutionNode(served.run), b"4")).done()
            await engine.save(ExecutionNode(served.run), b"5", durability=Durability.FSYNC)

    asyncio.run(main())
    assert peek.stored_state(served.database, served.run) == b"5"


def test_sla(state_dir: Place) -> None:
    with state_dir.engine(budget_ms=60_000) as engine:
        fresh = engine.sla()
        assert (fresh.saves, fresh.pending, fresh.outcomes, fresh.met_share) == (0, 0, {}, 1.0)
        save_some(engine, 30, budget_ms=None)
        save_some(engine, 10, budget_ms=0.001)
        engine.flush_sync(timeout=patience(60))
        summed = engine.sla()
        assert summed.outcomes == {"met": 30, "late": 10}
        assert (summed.saves, summed.pending, summed.queue_age_ms) == (40, 0, 0.0)
        assert 0 < summed.p50_ms <= summed.p95_ms <= summed.p99_ms < 60_000
        assert math.isclose(summed.met_share, 0.75)
        assert summed.service == "connected"
        with frozen(state_dir.service_processes()):
            save_some(engine, 3, budget_ms=None)
            younger, older = engine.sla(), engine.sla()
            assert younger.pending == older.pending == 3
            assert 0 < younger.queue_age_ms < older.queue_age_ms
        engine.flush_sync(timeout=patience(60))
        assert sum(engine.sla().outcomes.values()) == 43
        assert state_dir.ask("status").outcomes == {
            **dict.fromkeys(("superseded", "fenced", "quarantined"), 0), **engine.sla().outcomes
        }  # fmt: skip


def save_some(engine: CheckpointEngine, count: int, budget_ms: float | None) -> None:
    for number in range(count):
        engine.save_sync(ExecutionNode(f"run-{number % 3}"), b"state", budget_ms=budget_ms)


def test_every_write_has_an_outcome_in_the_journal(state_dir: Place) -> None:
    """The outcome words, which survive the death of every process, agree with what was sent."""
    agent = state_dir.agent()
    for step in range(20):
        agent.call(acts.save, f"run-{step % 4}", step)
    agent.settled(20)
    (journal,) = state_dir.journals()
    tail = JournalTail(journal)
    try:
        assert [peek.has_outcome(tail, found) for found in tail.read(alive=True)] == [True] * 20
    finally:
        tail.close()


def test_an_agent_that_attaches_late_gets_its_outcomes(state_dir: Place) -> None:
    """The service finds a journal by itself and may be through with it before its owner's message
    arrives (the owner was stopped in between, say); then the owner is asked to catch up."""
    greeted = threading.Semaphore(0)
    config = EngineConfig()
    service = ServiceConfig.build(state_dir.store(), state_dir.directory.path, config)
    with state_dir.service():
        client = ServiceConnection(
            state_dir.directory,
            Starter(state_dir.directory, config, service),
            state_dir.store().url,
            on_outcomes=lambda *_: None,
            on_connect=greeted.release,
            on_tick=lambda: None,
        )
        journal = Journal(state_dir.directory.journals, EngineConfig().limits())
        try:
            assert greeted.acquire(timeout=patience(30))
            at = append(journal, ExecutionNode("run-1"), b"state")
            tail = JournalTail(journal.directory)
            (found,) = tail.read(alive=True)
            assert found.position == at.position
            until(lambda: peek.has_outcome(tail, found), what="the service stored it")
            tail.close()
            assert not greeted.acquire(timeout=0)
            client.attach(journal.id)
            assert greeted.acquire(timeout=patience(30)), "the owner will never know"
        finally:
            client.close()
            journal.close()


def append(journal: Journal, node: ExecutionNode, state: bytes) -> Appended:
    wire, ext, kind, raw = encode_sections(node, state, None, 1 << 20)
    key = execution_hash(node.execution_id)
    return journal.append(
        key=key, slot=journal.locate(key), node_key=execution_hash(node.id), claim=1, epoch=0,
        seq=1, flags=int(Flag.STATE), state_kind=kind, node=wire, ext=ext, state=raw,
        budget_us=50_000,
    )  # fmt: skip


def test_an_outcome_arrives_though_its_segment_is_reused(state_dir: Place) -> None:
    """The service dies between moving the cursor and sending the outcomes; the agent goes on and
    reuses the segments that hold the outcomes before there is a service again."""
    pause = {"LIVINGAI_FAILPOINTS": "dispatcher.after_cursor=pause:0.3"}
    agent = state_dir.agent(segment_bytes=1 << 16, journal_bytes=1 << 18, cache_bytes=0, env=pause)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    (journal,) = state_dir.journals()
    control = Control(journal)
    cursor = CursorFile(journal, control.journal_id)
    dispatcher = state_dir.pids()["dispatcher"]
    agent.call(acts.save_many, "run-2", 25)
    until(lambda: cursor.read().lsn >= 14, what="the cursor has moved")
    kill(dispatcher)
    agent.call(acts.save_many, "run-3", 25)
    control.close()
    cursor.close()
    assert agent.settled(51).keys() <= {"met", "late"}
    assert peek.stored_steps(state_dir.database, "run-2") == list(range(25))


def test_a_callback_that_raises_does_not_affect_the_others(
    served: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(receipt: Receipt) -> None:
        raise ValueError("this callback is wrong")

    with served.engine() as engine:
        called = threading.Event()
        receipt = engine.save_sync(ExecutionNode(served.run), b"state")
        receipt.add_callback(wrong)
        receipt.add_callback(lambda _: called.set())
        assert receipt.result(patience(60)).stored
        assert called.wait(patience(60))
        assert engine.save_sync(ExecutionNode(served.run), b"more").result(patience(60)).stored
    assert "this callback is wrong" in caplog.text
