"""Group commit: one thread that syncs the journal for all who wait, and at a steady interval while
there is anything to sync. While there is not, it sleeps."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from livingai.errors import JournalClosedError, JournalError
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
        self._condition = threading.Condition()
        self._waiters: list[Future[int]] = []
        self._stop = False
        #: Everything was synced, and the thread sleeps: :meth:`wake` it after an append.
        self.idle = False
        self._thread = threading.Thread(target=self._run, name="livingai-sync", daemon=True)
        self._thread.start()

    def wait_for(self) -> Future[int]:
        """A future that is done when all that is in the journal now survives power loss; it
        raises :class:`~livingai.errors.JournalError` if the disk failed, and
        :class:`~livingai.errors.JournalClosedError` if the thread has ended."""
        future: Future[int] = Future()
        with self._condition:
            if self._stop:
                future.set_exception(JournalClosedError())
            else:
                self._waiters.append(future)
                self._condition.notify()
        return future

    def wake(self) -> None:
        """Something was appended while :attr:`idle`: it is synced within the interval."""
        with self._condition:
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                # Said first, looked then: an append that we do not see sees it, and wakes us.
                self.idle = True
                while not (self._journal.unsynced_bytes or self._waiters or self._stop):
                    self._condition.wait(_LOOK_S)
                self.idle = False
                if not self._waiters and not self._stop:
                    self._condition.wait(self._interval_s)
                waiters, self._waiters = self._waiters, []
                stop = self._stop
            if waiters or self._journal.unsynced_bytes:
                self._sync(waiters)
            if stop:
                return

    def _sync(self, waiters: list[Future[int]]) -> None:
        # A waiter's task may have been cancelled, and its future with it; from here on none can be.
        waiters = [future for future in waiters if future.set_running_or_notify_cancel()]
        try:
            lsn = self._journal.sync()
        except JournalError as error:
            _log.error("%s; what was not synced is written again to a new segment", error)
            for future in waiters:
                future.set_exception(error)
        else:
            for future in waiters:
                future.set_result(lsn)

    def close(self) -> None:
        """Sync once more and end the thread. Idempotent."""
        with self._condition:
            self._stop = True
            self._condition.notify()
        self._thread.join()
