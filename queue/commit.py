"""Group commit: making what was appended safe from power loss.

Rules:

* One commit at a time. It covers all that was appended before it began, and is published after it.
* What an fdatasync has failed on is never synced again: the kernel counts its pages as clean. What
  the service has not stored yet of it is copied into a new segment, and that is synced instead.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Protocol

from livingai.errors import JournalError
from livingai.failpoint import failpoint
from livingai.queue.control import NAME as CONTROL
from livingai.queue.control import Control
from livingai.queue.opening import sync_names, sync_path
from livingai.queue.rescue import Pause
from livingai.queue.segment import Segment, journal_error
from livingai.queue.space import Space

_log = logging.getLogger("livingai")


class Log(Protocol):
    """What is committed; ``lock`` serializes appends."""

    directory: str
    lock: threading.Lock

    @property
    def tail_lsn(self) -> int:
        """The newest record."""

    @property
    def tail(self) -> int:
        """Position behind the newest record."""

    @property
    def appended_bytes(self) -> int:
        """Bytes appended so far."""

    def sync_failed(self, segments: set[Segment]) -> None:
        """An fdatasync has failed on these: nothing more may be appended to the segment that is
        written now, and nothing may build on what is there. With ``lock`` held."""

    def copy_failed(self, after: int) -> None:
        """Append copies of the records above ``after`` of all segments that failed. With ``lock``
        held. Raises JournalError."""


class GroupCommit:
    """Makes what a journal has appended safe from power loss, by the rules above. Thread-safe."""

    def __init__(self, log: Log, space: Space, control: Control) -> None:
        self._log = log
        self._space = space
        self._control = control
        self._pause = Pause()
        #: Held during a commit.
        self.lock = threading.Lock()
        #: All records up to this one survive power loss; so many bytes do.
        self.synced_lsn = 0
        self.synced_bytes = 0

    def run(self) -> int:
        """One fdatasync per segment with new records; the lsn that is now durable. Call with
        ``lock`` held.

        Raises:
            JournalError: the disk failed, and so did the copy. Records are where they were; nothing
                more is durable than before. The next attempt comes after a growing pause.
        """
        if not self._space.failed:
            try:
                return self._sync_dirty()
            except OSError as error:
                _log.error("cannot sync the journal (%s); copying it to a new segment", error)
                self._pause.end()
        try:
            self._pause.check()
            with self._log.lock:
                self._log.copy_failed(self.synced_lsn)
            return self._sync_dirty()
        except JournalError as error:
            self._pause.begin(error)
            raise
        except OSError as error:
            failed = journal_error(error, "cannot sync the journal to disk")
            self._pause.begin(failed)
            raise failed from error

    def _sync_dirty(self) -> int:
        """Sync segments with new records, and the folders if names have changed. Raises OSError."""
        log, space = self._log, self._space
        with log.lock:
            lsn, tail, appended = log.tail_lsn, log.tail, log.appended_bytes
            dirty = space.dirty.copy()
            space.dirty.clear()
            names = space.names_dirty
            space.names_dirty = False
            space.syncing = True
        synced = False
        try:
            failpoint("journal.before_fsync")
            for segment in dirty:
                os.fdatasync(segment.fd)
            if names:
                self._sync_names(first=self.synced_lsn == 0)
            synced = True
        finally:
            with log.lock:
                space.synced()
                if not synced:
                    space.names_dirty |= names
                    log.sync_failed({segment for segment in dirty if segment.fd >= 0})
        failpoint("journal.after_fsync")
        self.synced_bytes = appended
        self.synced_lsn = lsn
        self._control.publish_synced(lsn, tail)
        return lsn

    def _sync_names(self, *, first: bool) -> None:
        """The journal's folder; at first also its control page and all folders above it: they may
        be as new."""
        path = self._log.directory
        if first:
            sync_path(os.path.join(path, CONTROL))
            sync_names(path)
        else:
            sync_path(path)
