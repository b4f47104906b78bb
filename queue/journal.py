"""The journal: one process's append-only log, which is crash log, queue and hot cache at once.

Rules:

* One writer, the owner process; a lock inside the process serializes its threads. No lock is
  shared between processes, so a killed owner leaves none behind.
* ``append`` publishes (index, then tail) only after the whole record is in the page cache. A record
  behind the tail was never acknowledged.
* The journal rotates only after the next segment is ready, so a full disk leaves it as it was.
* Before the first record of a claim is written, other journals' slots of the execution are marked
  as taken (:mod:`livingai.queue.index`, rule 2).
* What an fdatasync has failed on is never synced again: it is copied into a new segment.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from livingai.errors import JournalClosedError, JournalError
from livingai.failpoint import failpoint
from livingai.queue.control import NAME as CONTROL
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile, create_cursor
from livingai.queue.directory import remove_journal
from livingai.queue.index import Index, create_index
from livingai.queue.layout import RECORD_HEADER_BYTES, Flag, Kind, aligned, position
from livingai.queue.lock import OwnerLock, boot_id
from livingai.queue.record import Bytes, pack_record, seal_record
from livingai.queue.rescue import Pause, copy_record, records_of
from livingai.queue.segment import Segment, journal_error
from livingai.queue.space import JournalLimits, Space

__all__ = ["OWNER_LOCK", "Appended", "Journal", "JournalLimits"]

OWNER_LOCK = "owner.lock"
_log = logging.getLogger("livingai")


class Appended(NamedTuple):
    """Where a record went, and when (CLOCK_MONOTONIC ns) it was accepted."""

    lsn: int
    position: int
    mono_ns: int


class Journal:
    """The journal of this process; see the rules above. Thread-safe."""

    def __init__(self, root: str, limits: JournalLimits) -> None:
        """Make a new journal below ``root`` (the state directory's ``journals`` folder).

        It is built under a temporary name and renamed into place, so nobody sees half of one.

        Raises:
            DiskFullError, JournalError: nothing is left behind.
        """
        self.limits = limits
        self.id = secrets.randbits(63) | 1 << 63
        self.directory = os.path.join(root, f"{self.id:016x}")
        #: Called with an execution's key before the first record of a claim on it is written:
        #: marks it as taken over in all other journals (see :class:`livingai.cache.HotCache`).
        self.supersede: Callable[[int], None] | None = None
        building = os.path.join(root, f".new-{self.id:016x}")
        with contextlib.ExitStack() as undo:
            try:
                undo.callback(_discard, building)
                os.mkdir(building, 0o700)
                self._build(building, undo)
                os.rename(building, self.directory)
            except OSError as error:
                if isinstance(error, JournalError):
                    raise
                raise journal_error(error, "cannot make a journal") from error
            self._owner.moved(os.path.join(self.directory, OWNER_LOCK))
            self._segment.directory = self.directory
            undo.pop_all()
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._pause = Pause()
        self._rotate_next = False
        self._tail_lsn = 0
        self._synced_lsn = 0
        self._appended_bytes = 0
        self._synced_bytes = 0
        self._closed = False

    def _build(self, building: str, undo: contextlib.ExitStack) -> None:
        owner = OwnerLock.acquire(os.path.join(building, OWNER_LOCK))
        assert owner is not None, "a new journal's lock is free"
        undo.callback(owner.release)
        self._owner = owner
        boot = boot_id()
        create_index(building, self.id, self.limits.index_sets, self.limits.node_slots, boot)
        create_cursor(building)
        self._control = Control.create(building, self.id, boot)
        undo.callback(self._control.close)
        self.index = Index(building)
        undo.callback(self.index.close)
        self._cursor = CursorFile(building, self.id)
        undo.callback(self._cursor.close)
        self._segment = Segment.create(building, 1, self.limits.segment_bytes, self.id, 1, boot)
        undo.callback(self._segment.close)
        self._space = Space(
            self.limits,
            create=lambda number, size, lsn: Segment.create(
                self.directory, number, size, self.id, lsn, boot
            ),
            recycle=lambda segment, number, lsn: segment.recycle(number, self.id, lsn, boot),
            cursor=self._cursor.read,
            touched=self.index.touched,
        )
        self._dirty = self._space.dirty

    # -- writing --

    def append(
        self,
        *,
        key: int,
        slot: int,
        node_key: int,
        claim: int,
        epoch: int,
        seq: int,
        flags: int,
        state_kind: int,
        node: Bytes,
        ext: Bytes,
        state: Bytes,
        budget_us: int,
    ) -> Appended:
        """Append a record, point the index to it (unless ``slot`` is negative) and publish it.

        When it returns the record survives the death of this and any process (level JOURNAL).

        Raises:
            JournalFullError: ``journal_bytes`` of records wait for the store.
            DiskFullError, JournalError: nothing was appended, all before is kept.
            JournalClosedError: the journal is closed.
        """
        length = aligned(RECORD_HEADER_BYTES + len(node) + len(ext) + len(state))
        with self._lock:
            segment = self._segment
            if segment.used + length > segment.size or self._rotate_next or self._closed:
                segment = self._rotate(length)
            lsn = self._tail_lsn + 1
            offset = segment.used
            mono_ns = time.monotonic_ns()
            takes = self.supersede if seq == 1 and slot >= 0 else None
            if takes is not None:
                takes(key)
            header = pack_record(
                kind=Kind.WRITE, flags=flags, state_kind=state_kind, journal_id=self.id,
                segment=segment.number, lsn=lsn, claim=claim, epoch=epoch, seq=seq,
                mono_ns=mono_ns, wall_ns=time.time_ns(), key=key, node=node, ext=ext, state=state,
                budget_us=budget_us, length=length,
            )  # fmt: skip
            parts: list[Bytes] = [header, node, ext, state]
            total = RECORD_HEADER_BYTES + len(node) + len(ext) + len(state)
            try:
                failpoint("journal.before_append")
                if os.pwritev(segment.fd, parts, offset) != total:
                    _finish(segment.fd, parts, offset)
                failpoint("journal.after_append")
            except OSError as error:
                _wipe(segment.fd, offset)
                raise journal_error(error, "cannot append to the journal") from error
            segment.used = offset + length
            segment.last_lsn = lsn
            segment.touched_ns = mono_ns
            self._tail_lsn = lsn
            self._appended_bytes += length
            self._dirty.add(segment)
            at = position(segment.number, offset)
            if slot >= 0:
                self.index.put_node(node_key, at)
                self.index.put(slot, at, seq, bool(flags & Flag.STATE))
            failpoint("journal.before_publish")
            self._control.publish(position(segment.number, segment.used), lsn)
            failpoint("journal.after_publish")
            if takes is not None and self.index.taken(slot):
                self._contested(key)
            return Appended(lsn, at, mono_ns)

    def _contested(self, key: int) -> None:
        """Somebody else took the execution over while we did. Which of us the service meets first
        is open, so neither may be believed: the other one has marked us, we mark the other."""
        if self.supersede is not None:
            with contextlib.suppress(OSError):  # the record is accepted all the same
                self.supersede(key)

    def locate(self, key: int) -> int:
        """The execution's slot in the index, made if missing. Raises JournalClosedError."""
        with self._lock:
            if self._closed:
                raise JournalClosedError
            return self.index.locate(key, self._space.stored_position)

    def _rotate(self, length: int) -> Segment:
        if self._closed:
            raise JournalClosedError
        old = self._segment
        fresh = self._space.next(old, length, self._tail_lsn + 1)
        if old.used + RECORD_HEADER_BYTES <= old.size:
            seal = seal_record(
                journal_id=self.id, segment=old.number, lsn=self._tail_lsn,
                mono_ns=time.monotonic_ns(), wall_ns=time.time_ns(),
            )  # fmt: skip
            try:
                if os.pwrite(old.fd, seal, old.used) != len(seal):
                    _finish(old.fd, [seal], old.used)
            except OSError as error:
                self._space.drop(fresh)
                raise journal_error(error, "cannot seal a journal segment") from error
        self._space.sealed.append(old)
        self._segment = fresh
        self._rotate_next = False
        return fresh

    def watch_reuse(self, before_reuse: Callable[[int], None]) -> None:
        """Have ``before_reuse(number)`` called, with the journal locked, before a segment whose
        records are all terminal is reused or deleted."""
        self._space.before_reuse = before_reuse

    def expire(self) -> None:
        """Give drained segments back that nobody used for ``cache_ttl_s``, one by one, so that an
        append never waits for more than one deletion. Raises JournalError."""
        horizon = time.monotonic_ns() - int(self.limits.cache_ttl_s * 1e9)
        while True:
            with self._lock:
                if self._closed or not self._space.drop_unused(horizon):
                    return

    # -- durability --

    @property
    def tail_lsn(self) -> int:
        """Sequence number of the newest record."""
        return self._tail_lsn

    @property
    def synced_lsn(self) -> int:
        """All records up to this one survive power loss."""
        return self._synced_lsn

    @property
    def unsynced_bytes(self) -> int:
        """Bytes appended that a power loss could still take."""
        return self._appended_bytes - self._synced_bytes

    def sync(self) -> int:
        """Group commit: one fdatasync per segment with new records; the lsn that is now durable.

        When it fails, the pages count as clean although they were not written. So it is never
        repeated: what the service has not stored yet is copied into a new segment, and that is
        synced instead.

        Raises:
            JournalError: that failed, too. Records are where they were; nothing more is durable
                than before. The next attempt comes after a growing pause.
        """
        with self._sync_lock:
            if self._closed:
                return self._synced_lsn
            if not self._space.failed:
                try:
                    return self._sync_dirty()
                except OSError as error:
                    _log.error("cannot sync the journal (%s); copying it to a new segment", error)
                    self._pause.end()
            try:
                self._pause.check()
                with self._lock:
                    self._copy_failed()
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
        with self._lock:
            lsn, appended = self._tail_lsn, self._appended_bytes
            dirty = self._dirty.copy()
            self._dirty.clear()
            names = self._space.names_dirty
            self._space.names_dirty = False
            self._space.syncing = True
        synced = False
        try:
            failpoint("journal.before_fsync")
            for segment in dirty:
                os.fdatasync(segment.fd)
            if names:
                self._sync_names(first=self._synced_lsn == 0)
            synced = True
        finally:
            with self._lock:
                self._space.synced()
                if not synced:
                    self._space.failed |= {segment for segment in dirty if segment.fd >= 0}
                    self._space.names_dirty |= names
                    self._rotate_next = True
        failpoint("journal.after_fsync")
        self._synced_bytes = appended
        self._synced_lsn = lsn
        self._control.publish_synced(lsn)
        return lsn

    def _sync_names(self, *, first: bool) -> None:
        """The journal's folder; at first also its control page and the folder that it is in."""
        _sync_path(self.directory)
        if first:
            _sync_path(os.path.join(self.directory, CONTROL))
            _sync_path(os.path.dirname(self.directory))

    def _copy_failed(self) -> None:
        """Append copies of the records whose fdatasync failed and that the service has not stored
        yet: the same writes (claim and seq), so the store takes them once."""
        after, last = max(self._synced_lsn, self._cursor.read().lsn), self._tail_lsn
        for failed in sorted(self._space.failed, key=lambda segment: segment.number):
            for old in records_of(failed, after, last):
                length = old.header.length
                segment = self._segment
                if segment.used + length > segment.size or self._rotate_next:
                    segment = self._rotate(length)
                lsn = self._tail_lsn + 1
                try:
                    _finish(segment.fd, copy_record(old, segment.number, lsn), segment.used)
                except OSError as error:
                    raise journal_error(error, "cannot append to the journal") from error
                segment.used += length
                segment.last_lsn = self._tail_lsn = lsn
                self._appended_bytes += length
                self._dirty.add(segment)
                self._control.publish(position(segment.number, segment.used), lsn)
            self._space.failed.discard(failed)
            self._dirty.discard(failed)

    # -- end --

    def close(self, *, remove: bool = False) -> None:
        """Sync, mark the journal as closed in order and give up ownership. Idempotent.

        With ``remove`` a journal whose records are all stored is deleted: no service is there to
        keep it as a cache and to delete it in the end.

        Raises:
            JournalError: the sync failed; the journal is closed all the same.
        """
        try:
            self.sync()
        finally:
            with self._sync_lock, self._lock:
                if not self._closed:
                    self._closed = True
                    self._control.publish_closed()
                    if remove and self._cursor.read().lsn >= self._tail_lsn:
                        remove_journal(self.directory)
                    self._release()
                    self.index.close()
                    self._control.close()

    def abandon(self) -> None:
        """In a forked child: close the copies of the parent's descriptors; the journal stays the
        parent's. The mappings go with the last reference."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        self._space.close()
        self._segment.close()
        self._cursor.close()
        self._owner.release()


def _finish(fd: int, parts: list[Bytes], offset: int) -> None:
    """Write what a short ``pwritev`` left over (a signal, or a file-size limit: then it raises)."""
    whole = b"".join(bytes(part) for part in parts)
    done = 0
    while done < len(whole):
        done += os.pwrite(fd, whole[done:], offset + done)


def _wipe(fd: int, offset: int) -> None:
    """Nothing was appended: what was written of the record must not be found after a crash."""
    with contextlib.suppress(OSError):
        os.pwrite(fd, bytes(RECORD_HEADER_BYTES), offset)


def _sync_path(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _discard(building: str) -> None:
    """Remove what a failed construction left."""
    if os.path.isdir(building):
        for name in os.listdir(building):
            os.unlink(os.path.join(building, name))
        os.rmdir(building)
