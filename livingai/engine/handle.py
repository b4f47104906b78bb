"""What a process shares: one journal, one cache, one connection per state directory.

Engines of the same process on the same directory use the same :class:`DirectoryHandle`
(:mod:`.registry` counts them), so they are one owner and do not fence each other.

Rules of its locks:

1. :attr:`~DirectoryHandle.lock` is held for every change of ``owned`` and of the journal's index,
   and while a write is appended and noted in ``pending``. It comes before the journal's own lock.
2. Without it, ``owned`` may be asked for one execution (a single dict lookup); what was found is
   then compared with the index, which other processes change at any time anyway.
3. Without it, an entry of ``pending`` may be taken out by the journal's callback
   (:meth:`.PendingWrites.before_reuse`, in a save that holds it or in the connection's thread,
   which does not) and at the end. Taking out is one dict operation: the thread that gets the entry
   delivers its outcome, so each receipt has one.
4. ``journal`` is set last, under the lock, and never changes: a thread that sees it sees the syncer
   and the mapped segments, too. These are used with the lock held, after a look at ``closed``, and
   with their own lock, which comes last: a segment that goes is dropped from them by whichever
   thread has the journal's lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from contextlib import ExitStack
from functools import partial

from livingai.config import EngineConfig, ServiceConfig
from livingai.engine.cache import HotCache
from livingai.engine.connection import ServiceConnection
from livingai.engine.pending import OwnedExecution, PendingWrites
from livingai.engine.starting import Starter
from livingai.engine.syncer import Syncer
from livingai.errors import JournalClosedError, LivingAIError
from livingai.outcome import (
    give_up,
    orphan,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import Journal
from livingai.queue.lock import owner_alive
from livingai.queue.record import execution_hash
from livingai.queue.removal import remove_if_stored
from livingai.queue.tail import Segments
from livingai.stores.base import Store
from livingai.stores.belonging import enter, enter_again

_log = logging.getLogger("livingai")
#: Executions whose claim a process remembers; one that was not saved for longer than so many others
#: is claimed anew, like one that another process has written.
_MAX_OWNED = 100_000


class DirectoryHandle:
    """One state directory as this process uses it: its journal, cache, connection to the service,
    the executions it owns and the writes without an outcome. Thread-safe."""

    def __init__(self, store: Store, directory: StateDirectory, config: EngineConfig) -> None:
        name = self._name = enter(store, directory)
        service = ServiceConfig.build(store, directory.path, config)
        starter = Starter(directory, config, service)
        starter.check()
        self.pid = os.getpid()
        self._store = store
        self.directory = directory
        self.config = config
        self.cache = HotCache(directory, ttl_s=config.cache_ttl_s)
        #: See the rules above.
        self.lock = threading.Lock()
        #: Held while the journal is made; it comes before ``lock``.
        self._opening = threading.Lock()
        self.closed = False
        self.owned: dict[str, OwnedExecution] = {}
        self.users = 0
        #: This process's journal, once it has written anything.
        self.journal: Journal | None = None
        self._syncer: Syncer | None = None
        self._own: Segments | None = None
        self._expired_at = time.monotonic()
        self.pending = PendingWrites(self.lock, lambda: self.connection.connected_ns)
        self.connection = ServiceConnection(
            directory,
            starter,
            name,
            on_outcomes=self.pending.arrived,
            on_connect=self.pending.catch_up,
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
            DirectoryError, StoreError: the directory is another store's by now.
        """
        with self._opening:
            with self.lock:
                if not self._usable():
                    raise JournalClosedError
                if self.journal is not None:
                    return self.journal
            journal = Journal(self.directory.journals, self.config.limits())
            self._check_still_ours(journal)  # may wait for the manifest, so without ``lock``
            with self.lock:
                if not self._usable():
                    journal.discard()
                    raise JournalClosedError
                journal.supersede = partial(self.cache.supersede, own=journal.id)
                journal.watch_reuse(self._before_reuse)
                self._own = Segments(journal.directory)
                self.pending.use(journal, self._own)
                self._syncer = Syncer(journal, self.config.fsync_interval_ms / 1000)
                self.journal = journal
                self.connection.attach(journal.id)
                return journal

    def _before_reuse(self, number: int) -> None:
        """A segment of the own journal goes (any thread, with the journal locked): our mapping
        would keep its disk space."""
        self.pending.before_reuse(number)
        own = self._own
        if own is not None:
            with own.lock:
                own.drop(number)

    def _usable(self) -> bool:
        return not self.closed

    def _check_still_ours(self, journal: Journal) -> None:
        """`livingai relocate` may have brought the directory to another store while this process
        had no journal to be seen by: compare again, and remove the new journal if it is not ours.
        """
        try:
            self._name = enter_again(self._store, self.directory, self._name)
        except BaseException:
            journal.discard()
            raise

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
        claim = self.cache.take_over(execution_id, floor, journal.id)
        slot = journal.locate(key)
        journal.index.begin(slot, claim)
        owned = OwnedExecution(key, slot, claim, 0, 0)
        if len(self.owned) >= _MAX_OWNED:
            del self.owned[next(iter(self.owned))]
        self.owned[execution_id] = owned
        return owned

    def entry(self, execution_id: str, journal: Journal) -> OwnedExecution:
        """The execution as this process writes it: under its claim, or else under a new one. Call
        with ``lock`` held."""
        owned = self.owned.get(execution_id)
        if owned is None:
            return self.enter(execution_id, journal)
        if len(self.owned) > _MAX_OWNED // 2:  # the ones in use stay
            self.owned[execution_id] = self.owned.pop(execution_id)
        if not journal.index.owns(owned.slot, owned.key):
            self._resume(owned, journal)
        return owned

    def keep(self, execution_id: str, owned: OwnedExecution) -> None:
        """Remember a claim of this process that was displaced, unless there is a newer one."""
        journal = self.open_journal()
        with self.lock:
            if self.closed or self.owned.setdefault(execution_id, owned) is not owned:
                return
            if not journal.index.owns(owned.slot, owned.key):
                self._resume(owned, journal)

    @staticmethod
    def _resume(owned: OwnedExecution, journal: Journal) -> None:
        """Other executions have displaced the claim's slot. It goes on under the same claim: a new
        one would fence a process that has taken the execution over meanwhile. The store decides,
        and until this process claims anew, the cache does not."""
        owned.state_at = 0
        owned.lineage = None
        slot = journal.locate(owned.key)
        if owned.seq or owned.epoch:
            journal.index.resume(slot, owned.claim, owned.seq)
        else:  # the store does not know it yet: its first record takes the execution over
            journal.index.begin(slot, owned.claim)
        owned.slot = slot  # last: where a signal's exception comes before, this is done again

    def forget(self, execution_id: str) -> None:
        """Drop an execution from the hot cache: it is about to be deleted from the store."""
        with self.lock:
            self.owned.pop(execution_id, None)
            self.cache.forget(execution_id)

    # -- once in a while (connection thread) --

    def _tick(self) -> None:
        """About once a second: give old cache segments back, and get others ready for reuse."""
        self.pending.deliver_late()
        now = time.monotonic()
        if self.journal is not None and now - self._expired_at > 1.0:
            self._expired_at = now
            with contextlib.suppress(LivingAIError, OSError):
                self.journal.look_ahead()
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
                self.pending.catch_up()
            if self._syncer is not None:
                self._syncer.close()
            with self.lock:  # no thread is between a look at ``closed`` and the use of a mapping
                self.closed = True
                self.pending.use(None, None)
                if self._own is not None:
                    last.callback(self._own.close)
                if self.journal is not None:
                    self.journal.close(remove=not self._served())
            if self.journal is not None and not self._served():  # it ended in the meantime
                remove_if_stored(self.journal.directory)

    def _served(self) -> bool:
        """Whether a service is there, or may be."""
        try:
            return owner_alive(self.directory.lock)
        except OSError:  # out of descriptors
            return True

    def _give_up(self, trouble: str, quiet: bool) -> None:
        self.pending.deliver_late()
        if self.pending and not quiet:
            why = f": {trouble}" if trouble else ""
            _log.warning(
                "left with %d writes that are not stored yet%s. They are safe in the journal in "
                "%s, and the service stores them as soon as it can; `livingai status %s` says how "
                "many wait, and `livingai serve` stores them if no service runs.",
                len(self.pending), why, self.directory.path, self.directory.path,
            )  # fmt: skip
        give_up(self.pending.receipts())

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self.connection.abandon()
        if self.journal is not None:
            self.journal.abandon()
        orphan(self.pending.receipts())
