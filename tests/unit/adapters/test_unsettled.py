"""Entries without an outcome: what is saved again, in which order, and who is told of what is not.

Receipts are real ones and settled as the engine settles them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from livingai import Durability, ExecutionNode, Outcome, OutcomeStatus, Receipt
from livingai.adapters.unsettled import LogEntry, UnsettledEntries
from livingai.errors import FencedError, FlushTimeoutError, JournalFullError, RecordRefusedError
from livingai.outcome import settle
from tests.support.patience import patience

MET = Outcome(OutcomeStatus.MET, Durability.STORE, 1.0)
FENCED = Outcome(OutcomeStatus.FENCED, Durability.JOURNAL, 1.0)
REFUSED = Outcome(OutcomeStatus.QUARANTINED, Durability.JOURNAL, 1.0, "too ugly")


class Journal:
    """Where entries are saved again."""

    def __init__(self) -> None:
        self.entries = UnsettledEntries(self.save, lambda: self.closed)
        self.closed = False
        self.lsn = itertools.count(1)
        self.saved: list[str] = []
        self.errors: list[Exception] = []
        self.may = threading.Event()
        self.may.set()

    def receipt(self, entry: LogEntry) -> Receipt:
        """Of a save."""
        node = entry.node
        return Receipt(node.execution_id, node.id, next(self.lsn), 0, self.sink)

    def sink(self, receipt: Receipt) -> None:
        """As the engine's observers."""
        assert receipt.known is not None
        self.entries.settled(receipt, receipt.known)

    def save(self, entry: LogEntry) -> Receipt:
        """Save it again."""
        assert self.may.wait(patience(30))
        if self.errors:
            raise self.errors.pop(0)
        self.saved.append(entry.node.id)
        return self.receipt(entry)

    def append(self, name: str, execution: str = "x") -> LogEntry:
        """Save it for the first time."""
        entry = LogEntry(ExecutionNode(execution, id=name), None)
        self.entries.add(self.receipt(entry), entry)
        return entry


class SlowJournal(Journal):
    """It takes its time to say that an entry was saved."""

    def __init__(self) -> None:
        super().__init__()
        self.saving, self.done = threading.Event(), threading.Event()

    def save(self, entry: LogEntry) -> Receipt:
        """Save it again."""
        receipt = super().save(entry)
        self.saving.set()
        assert self.done.wait(patience(30))
        return receipt


def told(entry: LogEntry, outcome: Outcome) -> None:
    """Its newest save has that outcome."""
    assert entry.receipt is not None
    settle([(entry.receipt, outcome)])


def deadline() -> float:
    """Of a wait that ends."""
    return time.monotonic() + patience(30)


def test_a_stored_entry_is_forgotten() -> None:
    journal = Journal()
    entry = journal.append("a")
    assert journal.entries.any_left(entry.number)
    told(entry, MET)
    assert not journal.entries.any_left(entry.number)
    journal.entries.check_any()
    assert journal.entries.fences == 0


def test_fenced_entries_are_saved_again_in_order_until_they_are_stored() -> None:
    journal = Journal()
    journal.may.clear()
    made = [journal.append(name) for name in "abc"]
    first = [entry.receipt for entry in made]
    for entry in made:
        told(entry, FENCED)
    assert journal.entries.any_left(1)
    assert journal.entries.any_fenced
    journal.may.set()
    journal.entries.wait_saved_again(deadline())
    assert journal.saved == ["a", "b", "c"]
    assert journal.entries.any_left(1), "it has been saved, and is not stored yet"
    told(made[1], FENCED)
    journal.entries.wait_saved_again(deadline())
    assert journal.saved == ["a", "b", "c", "b"]
    assert journal.entries.fences == 4
    for entry in made:
        assert entry.receipt not in first
        told(entry, MET)
    assert journal.entries.left == 0


def test_a_newer_version_of_a_node_is_not_put_out_by_an_older_one() -> None:
    """Whether the older one is still to be saved again, is put out later, or stored."""
    for older_first in (True, False):
        journal = Journal()
        journal.may.clear()
        call = journal.append("call")
        if older_first:
            told(call, FENCED)
        result = journal.append("call")
        if not older_first:
            told(call, FENCED)
        journal.may.set()
        journal.entries.wait_saved_again(deadline())
        assert journal.saved[-1:] in ([], ["call"])
        assert older_first or not journal.saved, "the older one was saved behind the newer one"
        assert journal.entries.any_left(result.number)
        told(result, MET)
        journal.entries.wait_saved_again(deadline())
        assert not journal.entries.any_left(result.number)
        assert journal.entries.left == 0


def test_a_newer_version_is_saved_again_behind_an_older_one_that_came_in_between() -> None:
    """The older one is being saved again as the newer one is appended, and stored."""
    for is_stored in (False, True):
        journal = SlowJournal()
        call = journal.append("call")
        told(call, FENCED)
        assert journal.saving.wait(patience(30))
        result = journal.append("call")
        if is_stored:
            told(result, MET)
        journal.done.set()
        journal.entries.wait_saved_again(deadline())
        assert journal.saved == ["call", "call"]
        assert result.receipt is not None
        assert call.receipt is not None
        assert result.receipt.lsn > call.receipt.lsn
        told(result, MET)
        assert journal.entries.left == 0


def test_an_outcome_that_comes_before_its_receipt_is_known() -> None:
    journal = Journal()
    entry = LogEntry(ExecutionNode("x", id="early"), None)
    receipt = journal.receipt(entry)
    settle([(receipt, FENCED)])
    journal.entries.add(receipt, entry)
    journal.entries.wait_saved_again(deadline())
    assert journal.saved == ["early"]
    assert journal.entries.fences == 1


def test_outcomes_of_others_are_nothing_to_it() -> None:
    journal = Journal()
    other = Receipt("x", "of somebody else", 7, 0, journal.sink)
    settle([(other, REFUSED)])
    journal.entries.check("x")
    assert not journal.entries.any_fenced


def test_what_was_refused_is_told_once_and_to_whom_it_concerns() -> None:
    journal = Journal()
    told(journal.append("a", "one"), REFUSED)
    told(journal.append("b", "two"), REFUSED)
    journal.entries.check("three")
    with pytest.raises(RecordRefusedError, match=r"two \(b\).*too ugly"):
        journal.entries.check("two")
    journal.entries.check("two")
    with pytest.raises(RecordRefusedError, match=r"one \(a\)"):
        journal.entries.check_any()
    journal.entries.check_any()


def test_each_of_several_is_told() -> None:
    journal = Journal()
    for execution in ("one", "two"):
        told(journal.append(execution, execution), REFUSED)
    for _ in range(2):
        with pytest.raises(RecordRefusedError):
            journal.entries.check_any()
    journal.entries.check_any()


def test_all_failures_of_one_execution_are_told() -> None:
    journal = Journal()
    for number in range(25):
        told(journal.append(f"node {number}", "one"), REFUSED)
    with pytest.raises(RecordRefusedError) as raised:
        journal.entries.check("one")
    for number in range(21):
        assert f"(node {number})" in str(raised.value)
    assert "24 more failed" in str(raised.value)
    assert str(raised.value).endswith("; and 4 more")
    journal.entries.check("one")
    told(journal.append("later", "one"), REFUSED)
    with pytest.raises(RecordRefusedError, match="later"):
        journal.entries.check_any()
    journal.entries.check_any()


def test_a_wait_for_a_receipt_may_end_before_its_observers_are_called() -> None:
    journal = Journal()
    for outcome in (FENCED, REFUSED):
        entry = LogEntry(ExecutionNode("x", id=outcome.status), None)
        receipt = Receipt("x", entry.node.id, next(journal.lsn), 0, lambda receipt: None)
        journal.entries.add(receipt, entry)
        settle([(receipt, outcome)])
        # As in an append: what the observers are going to say is said here.
        if outcome is FENCED:
            journal.entries.settled(receipt, outcome)
            journal.entries.wait_saved_again(deadline())
            assert journal.entries.following(entry, receipt, outcome) is entry.receipt
            continue
        with pytest.raises(RecordRefusedError, match=r"accepted.*too ugly"):
            journal.entries.following(entry, receipt, outcome)
        journal.entries.settled(receipt, outcome)  # now they are called
        journal.entries.check("x")


async def test_waits_in_an_event_loop_hold_no_thread() -> None:
    journal = Journal()
    journal.may.clear()
    told(journal.append("a"), FENCED)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    with pytest.raises(FlushTimeoutError, match="1 entries"):
        await journal.entries.saved_again(time.monotonic() + 0.01)
    waits = [asyncio.create_task(journal.entries.saved_again(deadline())) for _ in range(50)]
    gone = asyncio.create_task(journal.entries.saved_again(deadline()))
    await asyncio.sleep(0)
    gone.cancel()
    assert await asyncio.to_thread(lambda: 7) == 7, "no thread is left"
    assert not any(wait.done() for wait in waits)
    journal.may.set()
    await asyncio.gather(*waits)
    assert journal.saved == ["a"]
    await journal.entries.saved_again(deadline())


def test_a_failing_save_is_tried_again() -> None:
    journal = Journal()
    journal.errors = [JournalFullError(), JournalFullError()]
    told(journal.append("a"), FENCED)
    journal.entries.wait_saved_again(deadline())
    assert journal.saved == ["a"]


def test_a_wait_has_an_end() -> None:
    journal = Journal()
    journal.may.clear()
    told(journal.append("a"), FENCED)
    with pytest.raises(FlushTimeoutError, match="1 entries"):
        journal.entries.wait_saved_again(time.monotonic() + 0.01)
    journal.may.set()
    journal.entries.wait_saved_again(deadline())


def test_what_cannot_be_saved_again_any_more_is_said(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    journal.may.clear()
    journal.errors = [JournalFullError()]
    lost = journal.append("a")
    receipt = lost.receipt
    told(lost, FENCED)
    journal.closed = True
    with caplog.at_level(logging.ERROR, "livingai"):
        journal.may.set()
        journal.entries.wait_saved_again(deadline())
    assert "1 entries are lost" in caplog.text
    assert not journal.entries.any_left(lost.number)
    assert receipt is not None
    with pytest.raises(FencedError, match="engine was closed"):
        journal.entries.following(lost, receipt, FENCED)


@pytest.mark.parametrize("outcome", [FENCED, REFUSED])
def test_the_save_that_followed(outcome: Outcome) -> None:
    journal = Journal()
    entry = journal.append("a")
    receipt = entry.receipt
    assert receipt is not None
    told(entry, outcome)
    journal.entries.wait_saved_again(deadline())
    if outcome is FENCED:
        assert journal.entries.following(entry, receipt, outcome) is entry.receipt is not receipt
        return
    for _ in range(2):  # another thread may have been told before
        with pytest.raises(RecordRefusedError, match="too ugly"):
            journal.entries.following(entry, receipt, outcome)
