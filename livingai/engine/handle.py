"""What a process shares: one journal, one cache, one connection per state directory.

Engines of the same process on the same directory use the same :class:`DirectoryHandle`
(:mod:`.registry` counts them), so they are one owner and do not fence each other.

Rules of its locks:

1. :attr:`~DirectoryHandle.lock` is held for every change of ``owned`` and of the journal's index,
   and while a write is appended and noted in ``pending``. It comes before the journal's own lock.
2. Without it, ``owned`` may be asked for one execution (a single dict lookup); what was found is
   then compared with the index, which other processes change at any time anyway.
3. Without it, an entry of ``pending`` may be taken out by the journal's callback
   (:meth:`~DirectoryHandle._before_reuse`, in a save that holds it or in the connection's thread,
   which does not) and at the end. Taking out is one dict operation: the thread that gets the entry
   delivers its outcome, so each receipt has one.
4. ``journal`` is set last, under the lock, and never changes: a thread that sees it sees the syncer
   and the mapped segments, too. The mapped segments are used with the lock held, after a look at
   ``closed``.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from livingai.config import EngineConfig, ServiceConfig
from livingai.engine.cache import HotCache
from livingai.engine.connection import ServiceConnection
from livingai.engine.starting import Starter
from livingai.engine.syncer import Syncer
from livingai.errors import JournalClosedError, LivingAIError
from livingai.outcome import (
    Durability,
    Outcome,
    OutcomeStatus,
    Receipt,
    give_up,
    orphan,
    outcome_from_code,
    settle,
)
from livingai.protocol.frames import OUTCOME_PAIR
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import Journal
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.lock import owner_alive
from livingai.queue.record import execution_hash, read_outcome, unpack_outcome
from livingai.queue.removal import remove_if_stored
from livingai.queue.segment import SegmentMap
from livingai.queue.tail import Segments
from livingai.stores.base import Store
from livingai.stores.belonging import enter

_log = logging.getLogger("livingai")
#: Executions whose place in the journal a process remembers; an older one is claimed anew.
_MAX_OWNED = 100_000


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


class Pending(NamedTuple):
    """A write without an outcome: when it was accepted (CLOCK_MONOTONIC ns), and the claim that it
    was written under (None: an older one, of whomever)."""

    receipt: Receipt
    mono_ns: int
    owned: OwnedExecution | None


class DirectoryHandle:
    """See the module's text. Thread-safe."""

    def __init__(self, store: Store, directory: StateDirectory, config: EngineConfig) -> None:
        name = enter(store, directory)
        service = ServiceConfig.build(store, directory.path, config)
        starter = Starter(directory, config, service)
        starter.check()
        self.pid = os.getpid()
        self.directory = directory
        self.config = config
        self.cache = HotCache(directory, ttl_s=config.cache_ttl_s)
        #: See the rules above.
        self.lock = threading.Lock()
        self.closed = False
        self.pending: dict[int, Pending] = {}
        self.owned: dict[str, OwnedExecution] = {}
        self.users = 0
        #: This process's journal, once it has written anything.
        self.journal: Journal | None = None
        self._syncer: Syncer | None = None
        self._own: Segments | None = None
        self._expired_at = time.monotonic()
        #: Outcomes that were found in a segment before it was reused; see :meth:`_before_reuse`.
        self._late: collections.deque[tuple[Receipt, Outcome]] = collections.deque()
        self.connection = ServiceConnection(
            directory,
            starter,
            name,
            on_outcomes=self._outcomes,
            on_connect=self._catch_up,
            on_tick=self._tick,
        )

    # -- journal --

    @property
    def own_segments(self) -> Segments | None:
        """The own journal, mapped for reading; use with ``lock`` held."""
        return self._own

    def open_journal(self) -> Journal:
        """The journal, made now if there is none.

        Raises:
            JournalClosedError: the last engine has left.
            DiskFullError, JournalError: there can be none now.
        """
        with self.lock:
            if self.closed:
                raise JournalClosedError
            if self.journal is None:
                journal = Journal(self.directory.journals, self.config.limits())
                journal.supersede = partial(self.cache.supersede, own=journal.id)
                journal.watch_reuse(self._before_reuse)
                self._own = Segments(journal.directory)
                self._syncer = Syncer(journal, self.config.fsync_interval_ms / 1000)
                self.journal = journal
                self.connection.attach(journal.id)
            return self.journal

    @property
    def syncer(self) -> Syncer:
        """The group-commit thread; there is one as soon as there is a journal."""
        self.open_journal()
        assert self._syncer is not None
        return self._syncer

    def sync_soon(self) -> None:
        """Something was appended: see that it is synced within the interval."""
        syncer = self._syncer
        if syncer is not None and syncer.idle:
            syncer.wake()

    def enter(self, execution_id: str, journal: Journal) -> OwnedExecution:
        """Begin to write an execution: take its next claim. Call with ``lock`` held."""
        key = execution_hash(execution_id)
        floor = time.time_ns() // 1_000_000
        claim, mine = self.cache.take_over(execution_id, floor, journal.id)
        slot = journal.locate(key)
        journal.index.begin(slot, claim, keep_state=mine)
        owned = OwnedExecution(key, slot, claim, 0, 0)
        if len(self.owned) >= _MAX_OWNED:
            del self.owned[next(iter(self.owned))]
        self.owned[execution_id] = owned
        return owned

    def forget(self, execution_id: str) -> None:
        """Drop an execution from the hot cache: it is about to be deleted from the store."""
        with self.lock:
            self.owned.pop(execution_id, None)
            self.cache.forget(execution_id)

    def oldest_pending(self) -> Pending | None:
        """The oldest write without an outcome. Once that has one, there may be room."""
        with self.lock:
            return next(iter(self.pending.values()), None)

    # -- outcomes (client thread) --

    def _outcomes(
        self, packed: bytes, reasons: dict[int, str], lost: list[tuple[int, int, str]]
    ) -> None:
        settled: list[tuple[Receipt, Outcome]] = []
        with self.lock:
            for lsn, word in OUTCOME_PAIR.iter_unpack(packed):
                known = unpack_outcome(lsn, word)
                waiting = self.pending.pop(lsn, None) if known is not None else None
                if known is not None and waiting is not None:
                    outcome = self._outcome(waiting, known, reasons.get(lsn, ""))
                    settled.append((waiting.receipt, outcome))
                    if outcome.status == "fenced":
                        self._fenced(waiting)
            for first, last, reason in lost:
                outcome = Outcome(OutcomeStatus.QUARANTINED, Durability.JOURNAL, 0.0, reason)
                gone = [lsn for lsn in list(self.pending) if first <= lsn <= last]
                waited = [self.pending.pop(lsn, None) for lsn in gone]
                settled += [(write.receipt, outcome) for write in waited if write is not None]
        settle(settled)

    def _outcome(self, write: Pending, known: tuple[int, int], reason: str = "") -> Outcome:
        """An outcome, with the reason where it is late for want of a service."""
        outcome = outcome_from_code(*known, reason)
        if outcome.status == "late" and not reason and write.mono_ns < self.connection.connected_ns:
            return replace(
                outcome, reason="accepted before this process was connected to the service"
            )
        return outcome

    def _fenced(self, write: Pending) -> None:
        """Forget what the cache says of an execution that is no longer ours, unless we have claimed
        it anew since."""
        owned = write.owned
        if owned is None or self.owned.get(write.receipt.execution_id) is not owned:
            return
        owned.state_at = 0
        if self.journal is not None and self.journal.index.owns(owned.slot, owned.key):
            self.journal.index.forget(owned.slot)

    def _catch_up(self) -> None:
        """Read outcomes that were written while this process was not connected."""
        own = self._own
        if own is None:
            return
        settled = []
        with self.lock:
            for lsn, (receipt, _, _) in list(self.pending.items()):
                segment = own.get(segment_of(receipt.position))
                if segment is None:
                    continue
                known = read_outcome(segment.view, offset_of(receipt.position), lsn)
                waiting = self.pending.pop(lsn, None) if known is not None else None
                if known is not None and waiting is not None:
                    settled.append((receipt, self._outcome(waiting, known)))
        settle(settled)

    def _before_reuse(self, number: int) -> None:
        """A drained segment of ours goes. Outcomes in it that were not sent to us (the service died
        before it could) are kept for :meth:`_tick`. Any thread, with the journal locked."""
        waiting = [
            (lsn, receipt)
            for lsn, (receipt, _, _) in self.pending.copy().items()  # at once: others may add
            if segment_of(receipt.position) == number
        ]
        if not waiting or self.journal is None:
            return
        try:
            segment = SegmentMap(self.journal.directory, number)
        except (OSError, ValueError):
            return  # out of descriptors: better a late outcome than a failing save
        for lsn, receipt in waiting:
            known = read_outcome(segment.view, offset_of(receipt.position), lsn)
            outcome = outcome_from_code(*known) if known is not None else _DAMAGED
            if self.pending.pop(lsn, None) is not None:
                self._late.append((receipt, outcome))
        segment.close()

    def _deliver_late(self) -> None:
        settled = []
        while self._late:
            settled.append(self._late.popleft())
        settle(settled)

    def _tick(self) -> None:
        """About once a second: give old cache segments back."""
        self._deliver_late()
        now = time.monotonic()
        if self.journal is not None and now - self._expired_at > 1.0:
            self._expired_at = now
            with contextlib.suppress(LivingAIError, OSError):
                self.journal.expire()

    # -- end --

    def close(self, *, at_exit: bool = False) -> None:
        """End threads, leave the service, close the journal. Its records stay until stored, and a
        warning says how many wait; ``at_exit``, where the program has not waited for them, only if
        something is in their way.

        Raises:
            JournalError: the last sync failed; all is closed nevertheless.
        """
        trouble = self.connection.trouble
        quiet = at_exit and not trouble and self.connection.state in ("starting", "connected")
        with ExitStack() as last:
            last.callback(self._give_up, trouble, quiet)
            last.callback(self.cache.close)
            self.connection.close()
            with contextlib.suppress(OSError):  # out of descriptors
                self._catch_up()
            if self._syncer is not None:
                self._syncer.close()
            with self.lock:  # no thread is between a look at ``closed`` and the use of a mapping
                self.closed = True
                if self._own is not None:
                    last.callback(self._own.close)
                if self.journal is not None:
                    self.journal.close(remove=not self._served())
            if self.journal is not None and not self._served():  # it has gone in the meantime
                remove_if_stored(self.journal.directory)

    def _served(self) -> bool:
        """Whether a service is there, or may be."""
        try:
            return owner_alive(self.directory.lock)
        except OSError:  # out of descriptors
            return True

    def _give_up(self, trouble: str, quiet: bool) -> None:
        self._deliver_late()
        if self.pending and not quiet:
            why = f": {trouble}" if trouble else ""
            _log.warning(
                "left with %d writes that are not stored yet%s. They are safe in the journal in "
                "%s, and the service stores them as soon as it can; `livingai status %s` says how "
                "many wait, and `livingai serve` stores them if no service runs.",
                len(self.pending), why, self.directory.path, self.directory.path,
            )  # fmt: skip
        give_up(write.receipt for write in self.pending.values())

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self.connection.abandon()
        if self.journal is not None:
            self.journal.abandon()
        orphan(write.receipt for write in self.pending.values())
