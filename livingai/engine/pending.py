"""Writes that wait for their outcome, and the ways by which it comes.

The service sends outcomes (:meth:`PendingWrites.arrived`). What it wrote while this process was not
connected is read from the own journal, at the next connection or before the segment is reused.
``lock`` is the handle's; its rules are in :mod:`livingai.engine.handle`.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from livingai.engine.patches import Lineage
from livingai.outcome import (
    Durability,
    Outcome,
    OutcomeStatus,
    Receipt,
    outcome_from_code,
    settle,
)
from livingai.protocol.frames import OUTCOME_PAIR
from livingai.queue.journal import Journal
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.record import read_outcome, unpack_outcome
from livingai.queue.segment import SegmentMap
from livingai.queue.tail import Segments

#: The outcome of a record that is terminal without an outcome word in the journal.
_DAMAGED = Outcome(
    OutcomeStatus.QUARANTINED, Durability.JOURNAL, 0.0, "the record was damaged in the journal"
)


@dataclass(slots=True)
class OwnedExecution:
    """An execution that this process writes: its index slot, claim, epoch (0: the store gives it
    at the first commit), and the sequence number of its last record."""

    key: int
    slot: int
    claim: int
    epoch: int
    seq: int
    state_at: int = 0
    #: Once a state was large enough for patches.
    lineage: Lineage | None = None
    #: Records under this claim whose outcome was not delivered yet.
    unsettled: int = 0


class Pending(NamedTuple):
    """A write without an outcome: when it was accepted (CLOCK_MONOTONIC ns), and the claim that it
    was written under (None: a record that was queued again from the quarantine)."""

    receipt: Receipt
    mono_ns: int
    owned: OwnedExecution | None


class PendingWrites:
    """The writes of one process without an outcome, by the number of their record. Thread-safe."""

    def __init__(self, lock: threading.Lock, connected_ns: Callable[[], int]) -> None:
        """``connected_ns``: since when this process has been connected (CLOCK_MONOTONIC)."""
        self._lock = lock
        self._connected_ns = connected_ns
        self._writes: dict[int, Pending] = {}
        self._journal: Journal | None = None
        self._own: Segments | None = None
        #: Outcomes that were found in a segment before it was reused.
        self._late: collections.deque[tuple[Pending, Outcome]] = collections.deque()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._writes)

    def use(self, journal: Journal | None, own: Segments | None) -> None:
        """The journal that the writes are in, and its segments; None: they are closed. Call with
        ``lock`` held."""
        self._journal, self._own = journal, own

    def add(self, lsn: int, write: Pending) -> None:
        """A write was accepted. Call with ``lock`` held."""
        self._writes[lsn] = write
        if write.owned is not None:
            write.owned.unsettled += 1

    def oldest(self) -> Pending | None:
        """The oldest one. Once that has its outcome, there may be room in the journal."""
        with self._lock:
            return next(iter(self._writes.values()), None)

    def receipts(self) -> Iterator[Receipt]:
        """The receipts of all; for the end, when nobody adds any more."""
        return (write.receipt for write in self._writes.copy().values())

    def arrived(
        self, packed: bytes, reasons: dict[int, str], lost: list[tuple[int, int, str]]
    ) -> None:
        """Outcomes that the service has sent: pairs of a record's number and its outcome word, the
        reasons of some, and ranges (first, last, reason) of numbers whose records are damaged."""
        settled: list[tuple[Pending, Outcome]] = []
        with self._lock:
            for lsn, word in OUTCOME_PAIR.iter_unpack(packed):
                known = unpack_outcome(lsn, word)
                waiting = self._writes.pop(lsn, None) if known is not None else None
                if known is not None and waiting is not None:
                    settled.append(self._learned(waiting, known, reasons.get(lsn, "")))
            for first, last, reason in lost:
                outcome = Outcome(OutcomeStatus.QUARANTINED, Durability.JOURNAL, 0.0, reason)
                gone = [lsn for lsn in list(self._writes) if first <= lsn <= last]
                waited = [self._writes.pop(lsn, None) for lsn in gone]
                for write in filter(None, waited):
                    self._see(write, outcome)
                    settled.append((write, outcome))
        settle([(write.receipt, outcome) for write, outcome in settled])
        self._told(settled)

    def _learned(
        self, write: Pending, known: tuple[int, int], reason: str = ""
    ) -> tuple[Pending, Outcome]:
        """An outcome that the service wrote, to be delivered. Call with ``lock`` held: a write that
        was fenced is forgotten here, whichever way its outcome came."""
        outcome = self._outcome(write, known, reason)
        self._see(write, outcome)
        return write, outcome

    def _see(self, write: Pending, outcome: Outcome) -> None:
        if outcome.status is OutcomeStatus.FENCED:
            self._fenced(write)
        elif outcome.status is OutcomeStatus.QUARANTINED and write.owned is not None:
            write.owned.lineage = None

    def _outcome(self, write: Pending, known: tuple[int, int], reason: str = "") -> Outcome:
        """An outcome, with the reason where it is late for want of a service."""
        outcome = outcome_from_code(*known, reason)
        if outcome.status == "late" and not reason and write.mono_ns < self._connected_ns():
            return replace(
                outcome, reason="accepted before this process was connected to the service"
            )
        return outcome

    def _fenced(self, write: Pending) -> None:
        """Forget what the cache says of a claim that was fenced, unless the execution was claimed
        anew since: a new claim keeps nothing of the old one."""
        owned, journal = write.owned, self._journal
        if owned is None:
            return
        owned.state_at = 0
        owned.lineage = None
        if journal is None or not journal.index.owns(owned.slot, owned.key):
            return
        slot = journal.index.get(owned.key)
        if slot is None or slot.claim == owned.claim:
            journal.index.forget(owned.slot)

    def catch_up(self) -> None:
        """Read outcomes that were written while this process was not connected."""
        own = self._own
        if own is None:
            return
        settled = []
        with self._lock, own.lock:
            for lsn, (receipt, _, _) in list(self._writes.items()):
                segment = own.get(segment_of(receipt.position))
                if segment is None:
                    continue
                known = read_outcome(segment.view, offset_of(receipt.position), lsn)
                waiting = self._writes.pop(lsn, None) if known is not None else None
                if known is not None and waiting is not None:
                    settled.append(self._learned(waiting, known))
        settle([(write.receipt, outcome) for write, outcome in settled])
        self._told(settled)

    def before_reuse(self, number: int) -> None:
        """A drained segment of ours goes. Outcomes in it that were not sent to us (the service died
        before it could) are kept for :meth:`deliver_late`. Any thread, with the journal locked."""
        waiting = [
            (lsn, write)
            for lsn, write in self._writes.copy().items()  # at once: others may add
            if segment_of(write.receipt.position) == number
        ]
        if not waiting or self._journal is None:
            return
        try:
            segment = SegmentMap(self._journal.directory, number)
        except (OSError, ValueError):
            return  # out of descriptors: better a late outcome than a failing save
        for lsn, write in waiting:
            known = read_outcome(segment.view, offset_of(write.receipt.position), lsn)
            outcome = self._outcome(write, known) if known is not None else _DAMAGED
            if self._writes.pop(lsn, None) is not None:
                self._late.append((write, outcome))
        segment.close()

    def deliver_late(self) -> None:
        """Deliver the outcomes that were kept."""
        if not self._late:  # without the lock, which a save may hold for a while
            return
        settled = []
        with self._lock:
            while self._late:
                write, outcome = self._late.popleft()
                self._see(write, outcome)
                settled.append((write, outcome))
        settle([(write.receipt, outcome) for write, outcome in settled])
        self._told(settled)

    def _told(self, settled: list[tuple[Pending, Outcome]]) -> None:
        """Everybody has heard of these outcomes; only now they count (SoleWriter depends on it)."""
        with self._lock:
            for write, _ in settled:
                if write.owned is not None:
                    write.owned.unsettled -= 1
