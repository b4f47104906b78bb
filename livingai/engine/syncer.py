"""Group commit: one thread that syncs the journal for all that wait, and at a steady interval while
there is anything to sync. While there is not, it sleeps."""

from __future__ import annotations

import logging
import threading
import time

from livingai.errors import JournalClosedError, JournalError
from livingai.promise import Bell, Deferred
from livingai.queue.journal import Journal

_log = logging.getLogger("livingai")
#: Seconds between looks of a thread that sleeps: an append wakes it, but an exception of a
#: signal may come between the two.
_LOOK_S = 5.0


class Syncer:
    """Syncs a journal in the background; see :meth:`wait_for`."""

    def __init__(self, journal: Journal, interval_s: float) -> None:
        self._journal = journal
        self._interval_s = interval_s
        #: Guards the next two.
        self._lock = threading.Lock()
        self._waiters: list[Deferred[int]] = []
        self._stop = False
        self._bell = Bell()
        #: Everything was synced, and the thread sleeps: :meth:`wake` it after an append.
        self.idle = False
        self._thread = threading.Thread(target=self._run, name="livingai-sync", daemon=True)
        self._thread.start()

    def wait_for(self) -> Deferred[int]:
        """Over when all that is in the journal now survives power loss; it fails with
        :class:`~livingai.errors.JournalError` if the disk failed, and with
        :class:`~livingai.errors.JournalClosedError` if the thread has ended."""
        deferred: Deferred[int] = Deferred()
        with self._lock:
            if not self._stop:
                self._waiters.append(deferred)
                self._bell.ring()
                return deferred
        deferred.fail(JournalClosedError())
        return deferred

    def wake(self) -> None:
        """Something was appended while :attr:`idle`: it is synced within the interval."""
        self._bell.ring()

    def _run(self) -> None:
        stop = False
        while not stop:
            # Said first, looked then: an append that we do not see sees it, and wakes us.
            self.idle = True
            while not (self._journal.unsynced_bytes or self._waiters or self._stop):
                self._bell.wait(_LOOK_S)
            self.idle = False
            until = time.monotonic() + self._interval_s
            while not (self._waiters or self._stop) and self._bell.wait(until - time.monotonic()):
                pass  # rung for what will be synced then
            with self._lock:
                waiters, self._waiters = self._waiters, []
                stop = self._stop
            if waiters or self._journal.unsynced_bytes:
                self._sync(waiters)

    def _sync(self, waiters: list[Deferred[int]]) -> None:
        try:
            lsn = self._journal.sync()
        except JournalError as error:
            _log.error("%s; what was not synced is written again to a new segment", error)
            for deferred in waiters:
                deferred.fail(error)
        else:
            for deferred in waiters:
                deferred.set(lsn)

    def close(self) -> None:
        """Sync once more and end the thread. Idempotent."""
        with self._lock:
            self._stop = True
        self._bell.ring()
        self._thread.join()
