"""The ways by which an outcome comes to its receipt, and what is then forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.engine.handle import DirectoryHandle
from livingai.outcome import STATUS_CODES, OutcomeStatus, Receipt
from livingai.protocol.frames import OUTCOME_PAIR
from livingai.queue.layout import segment_of
from livingai.queue.record import pack_outcome
from livingai.queue.segment import segment_name
from livingai.queue.tail import JournalTail

MET, LATE, FENCED, QUARANTINED = (
    STATUS_CODES[status]
    for status in (
        OutcomeStatus.MET, OutcomeStatus.LATE, OutcomeStatus.FENCED, OutcomeStatus.QUARANTINED,
    )
)  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[CheckpointEngine]:
    """An engine without a service: outcomes come from the test."""
    store, directory = SQLiteStore(tmp_path / "agent.db"), str(tmp_path / "state")
    engine = CheckpointEngine(store, directory=directory, service="attach")
    yield engine
    engine.close_sync(timeout=0)


def saved(engine: CheckpointEngine, count: int = 1, run: str = "run") -> list[Receipt]:
    return [engine.save_sync(ExecutionNode(run), b"state %d" % n) for n in range(count)]


def pair(receipt: Receipt, status: int, lsn: int | None = None) -> bytes:
    word = pack_outcome(receipt.lsn if lsn is None else lsn, status, 7)
    return OUTCOME_PAIR.pack(receipt.lsn, word)


def note(handle: DirectoryHandle, receipt: Receipt, status: int) -> None:
    """What the service writes into the journal, and then dies."""
    assert handle.journal is not None
    with closing(JournalTail(handle.journal.directory)) as tail:
        tail.segments.write_outcome(receipt.position, receipt.lsn, status, 7)


def status_of(receipt: Receipt) -> OutcomeStatus | None:
    return None if receipt.outcome is None else receipt.outcome.status


def test_outcomes_that_the_service_sends(engine: CheckpointEngine) -> None:
    receipts, pending = saved(engine, 4), engine.open_handle().pending
    words = pair(receipts[0], MET) + pair(receipts[1], FENCED) + pair(receipts[2], MET, lsn=999)
    pending.arrived(words, {receipts[1].lsn: "taken over"}, [])
    assert [status_of(receipt) for receipt in receipts] == ["met", "fenced", None, None]
    assert receipts[1].outcome is not None
    assert receipts[1].outcome.reason == "taken over"
    assert len(pending) == 2


@pytest.mark.parametrize(("first", "last"), [(2, 3), (1, 1), (4, 4), (1, 4), (5, 9), (0, 0)])
def test_a_range_of_damaged_records(engine: CheckpointEngine, first: int, last: int) -> None:
    receipts = saved(engine, 4)
    engine.open_handle().pending.arrived(b"", {}, [(first, last, "damaged")])
    gone = ["quarantined" if first <= n <= last else None for n in range(1, 5)]
    assert [status_of(receipt) for receipt in receipts] == gone


def test_outcomes_that_were_written_while_it_was_not_connected(engine: CheckpointEngine) -> None:
    receipts, handle = saved(engine, 3), engine.open_handle()
    note(handle, receipts[0], MET)
    note(handle, receipts[2], QUARANTINED)
    handle.pending.catch_up()
    assert [status_of(receipt) for receipt in receipts] == ["met", None, "quarantined"]


def test_outcomes_in_a_segment_that_goes(engine: CheckpointEngine) -> None:
    receipts, handle = saved(engine, 3), engine.open_handle()
    note(handle, receipts[0], MET)
    note(handle, receipts[1], FENCED)
    number = segment_of(receipts[0].position)
    handle.pending.before_reuse(number + 1)
    handle.pending.deliver_late()
    assert [status_of(receipt) for receipt in receipts] == [None] * 3
    assert handle.owned["run"].state_at
    handle.pending.before_reuse(number)
    assert len(handle.pending) == 0
    handle.pending.deliver_late()
    assert [status_of(receipt) for receipt in receipts] == ["met", "fenced", "quarantined"]
    assert not handle.owned["run"].state_at, "it was fenced"


def test_outcomes_in_the_segments_behind_wait(engine: CheckpointEngine) -> None:
    """Those that are alone in the segment that goes are looked for there."""
    (first,), handle = saved(engine), engine.open_handle()
    large = engine.save_sync(ExecutionNode("run"), bytes(handle.config.segment_bytes))
    assert segment_of(first.position) < segment_of(large.position)
    for receipt in (first, large):
        note(handle, receipt, MET)
    handle.pending.before_reuse(segment_of(first.position))
    handle.pending.deliver_late()
    assert [status_of(receipt) for receipt in (first, large)] == ["met", None]
    assert len(handle.pending) == 1


@pytest.mark.parametrize("way", ["sent", "written"])
def test_what_was_fenced_is_not_read_from_the_cache(engine: CheckpointEngine, way: str) -> None:
    (receipt,), handle = saved(engine), engine.open_handle()
    assert engine.latest_sync("run")[1] == b"state 0"
    if way == "sent":
        handle.pending.arrived(pair(receipt, FENCED), {}, [])
    else:
        note(handle, receipt, FENCED)
        handle.pending.catch_up()
    owned = handle.owned["run"]
    assert handle.journal is not None
    slot = handle.journal.index.get(owned.key)
    assert slot is None or not slot.state
    assert not owned.state_at
    assert engine.cached("run") is None


def test_a_fenced_claim_takes_nothing_from_a_newer_one(engine: CheckpointEngine) -> None:
    (receipt,), handle = saved(engine), engine.open_handle()
    assert handle.journal is not None
    with handle.lock:
        del handle.owned["run"]
        handle.enter("run", handle.journal)
    engine.save_sync(ExecutionNode("run"), b"newer")
    handle.pending.arrived(pair(receipt, FENCED), {}, [])
    assert status_of(receipt) == "fenced"
    assert engine.latest_sync("run")[1] == b"newer"
    found = engine.cached("run")
    assert found is not None
    assert found.state == b"newer"


@pytest.mark.parametrize("way", ["sent", "damaged", "written", "reused"])
def test_nothing_builds_on_what_was_quarantined(engine: CheckpointEngine, way: str) -> None:
    """Whichever way that is heard of."""
    handle = engine.open_handle()
    receipt = engine.save_sync(ExecutionNode("run"), bytes(range(256)) * 4000)
    assert handle.owned["run"].lineage is not None
    if way == "sent":
        handle.pending.arrived(pair(receipt, QUARANTINED), {}, [])
    elif way == "damaged":
        handle.pending.arrived(b"", {}, [(receipt.lsn, receipt.lsn, "damaged")])
    elif way == "written":
        note(handle, receipt, QUARANTINED)
        handle.pending.catch_up()
    else:
        handle.pending.before_reuse(segment_of(receipt.position))
        handle.pending.deliver_late()
    assert status_of(receipt) == "quarantined"
    assert handle.owned["run"].lineage is None


def test_a_segment_that_is_gone_hides_no_other_outcome(engine: CheckpointEngine) -> None:
    (first,), handle = saved(engine), engine.open_handle()
    large = engine.save_sync(ExecutionNode("run"), bytes(handle.config.segment_bytes))
    note(handle, large, MET)
    assert handle.journal is not None
    os.unlink(os.path.join(handle.journal.directory, segment_name(segment_of(first.position))))
    handle.pending.catch_up()
    assert [status_of(receipt) for receipt in (first, large)] == [None, "met"]


@pytest.mark.parametrize("before", [True, False])
def test_why_a_write_is_late(engine: CheckpointEngine, before: bool) -> None:
    (receipt,), handle = saved(engine), engine.open_handle()
    handle.connection.connected_ns = 1 << 62 if before else 1
    handle.pending.arrived(pair(receipt, LATE), {}, [])
    assert receipt.outcome is not None
    assert receipt.outcome.status == "late"
    assert ("before this process was connected" in receipt.outcome.reason) == before
