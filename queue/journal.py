"""The journal: one process's append-only log, which is crash log, queue and hot cache at once.

Rules:

* One writer, the owner process; a lock inside the process serializes its threads. No lock is
  shared between processes, so a killed owner leaves none behind.
* ``append`` publishes (index, then tail) only after the whole record is in the page cache. A record
  behind the tail was never acknowledged.
* The journal rotates only after the next segment is ready, so a full disk leaves it as it was.
* A segment is recycled only when the service's cursor has passed its last record; among those the
  least recently used goes first, and only when the cache is over its bytes, the journal over its
  own, or the segment over its age.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

from livingai.errors import DiskFullError, JournalClosedError, JournalFullError
from livingai.failpoint import failpoint
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile, create_cursor
from livingai.queue.index import Index, create_index
from livingai.queue.layout import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Flag,
    Kind,
    aligned,
    position,
)
from livingai.queue.lock import OwnerLock, boot_id
from livingai.queue.record import Bytes, pack_record, seal_record
from livingai.queue.segment import Segment, journal_error

OWNER_LOCK = "owner.lock"


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Sizes in bytes, times in seconds."""

    segment_bytes: int = 16 << 20
    journal_bytes: int = 1 << 30
    cache_bytes: int = 256 << 20
    cache_ttl_s: float = 3600.0
    index_sets: int = 4096
    node_slots: int = 16384


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
        building = os.path.join(root, f".new-{self.id:016x}")
        try:
            os.mkdir(building, 0o700)
            self._build(building)
            os.rename(building, self.directory)
        except OSError as error:
            _discard(building)
            raise journal_error(error, "cannot make a journal") from error
        self._owner.moved(os.path.join(self.directory, OWNER_LOCK))
        self._segment.directory = self.directory
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._sealed: list[Segment] = []
        self._doomed: list[Segment] = []
        self._dirty: set[Segment] = set()
        self._dir_dirty = True
        self._rotate_next = False
        self._tail_lsn = 0
        self._stored_position = 0
        self._appended_bytes = 0
        self._synced_bytes = 0
        self._total_bytes = self._segment.size
        self._closed = False

    def _build(self, building: str) -> None:
        owner = OwnerLock.acquire(os.path.join(building, OWNER_LOCK))
        assert owner is not None, "a new journal's lock is free"
        self._owner = owner
        self._boot = boot_id()
        create_index(building, self.id, self.limits.index_sets, self.limits.node_slots)
        create_cursor(building)
        self._control = Control.create(building, self.id, self._boot)
        self.index = Index(building)
        self._cursor = CursorFile(building, self.id)
        size = self.limits.segment_bytes
        self._segment = Segment.create(building, 1, size, self.id, 1, self._boot)

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
            if segment.used + length > segment.size or self._rotate_next:
                segment = self._rotate(length)
            elif self._closed:
                raise JournalClosedError
            failpoint("journal.before_append")
            lsn = self._tail_lsn + 1
            offset = segment.used
            mono_ns = time.monotonic_ns()
            header = pack_record(
                kind=Kind.WRITE, flags=flags, state_kind=state_kind, journal_id=self.id,
                segment=segment.number, lsn=lsn, claim=claim, epoch=epoch, seq=seq,
                mono_ns=mono_ns, wall_ns=time.time_ns(), key=key, node=node, ext=ext, state=state,
                budget_us=budget_us, length=length,
            )  # fmt: skip
            parts: list[Bytes] = [header, node, ext, state]
            total = RECORD_HEADER_BYTES + len(node) + len(ext) + len(state)
            try:
                if os.pwritev(segment.fd, parts, offset) != total:
                    _finish(segment.fd, parts, offset)
            except OSError as error:
                raise journal_error(error, "cannot append to the journal") from error
            failpoint("journal.after_append")
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
            return Appended(lsn, at, mono_ns)

    def locate(self, key: int) -> int:
        """The execution's slot in the index, made if missing."""
        with self._lock:
            return self.index.locate(key, self._stored_position)

    # -- rotation --

    def _rotate(self, length: int) -> Segment:
        if self._closed:
            raise JournalClosedError
        fresh = self._next_segment(length)
        old = self._segment
        if old.used + RECORD_HEADER_BYTES <= old.size:
            seal = seal_record(
                journal_id=self.id, segment=old.number, lsn=self._tail_lsn,
                mono_ns=time.monotonic_ns(), wall_ns=time.time_ns(),
            )  # fmt: skip
            try:
                os.pwrite(old.fd, seal, old.used)
            except OSError as error:
                self._drop(fresh)
                raise journal_error(error, "cannot seal a journal segment") from error
        self._sealed.append(old)
        self._segment = fresh
        self._rotate_next = False
        return fresh

    def _next_segment(self, length: int) -> Segment:
        """A segment with room for ``length``: a new one while the cache may grow, else the least
        recently used one of those that the service has finished with."""
        need = SEGMENT_HEADER_BYTES + length
        size = max(self.limits.segment_bytes, need)
        number = self._segment.number + 1
        done = self._drained()
        cached = sum(segment.size for segment in done)
        fitting = next((s for s in done if need <= s.size <= 2 * size), None)
        if fitting is not None and cached + size > self.limits.cache_bytes:
            return self._recycle(fitting, number)
        while done and self._total_bytes + size > self.limits.journal_bytes:
            if fitting is not None:
                return self._recycle(fitting, number)
            self._drop(done.pop(0))
        if self._total_bytes + size > self.limits.journal_bytes and self._sealed:
            raise JournalFullError(
                f"the journal holds {self._total_bytes} bytes that the store has not taken yet "
                f"(journal_bytes={self.limits.journal_bytes}); the store is too slow or down: see "
                "`livingai status`. Everything saved before is kept and will be stored."
            )
        try:
            fresh = Segment.create(
                self.directory, number, size, self.id, self._tail_lsn + 1, self._boot
            )
        except DiskFullError:
            if fitting is None:
                raise
            return self._recycle(fitting, number)
        self._total_bytes += size
        self._dir_dirty = True
        return fresh

    def _drained(self) -> list[Segment]:
        """Sealed segments that hold only terminal records, least recently used first."""
        cursor = self._cursor.read()
        self._stored_position = cursor.position
        touched = self.index.touched
        done = [segment for segment in self._sealed if segment.last_lsn <= cursor.lsn]
        return sorted(done, key=lambda s: max(s.touched_ns, touched(s.number)))

    def _recycle(self, segment: Segment, number: int) -> Segment:
        failpoint("journal.before_recycle")
        try:
            segment.recycle(number, self.id, self._tail_lsn + 1, self._boot)
        except OSError as error:
            raise journal_error(error, "cannot recycle a journal segment") from error
        self._sealed.remove(segment)
        self._dirty.discard(segment)
        self._dir_dirty = True
        failpoint("journal.after_recycle")
        return segment

    def _drop(self, segment: Segment) -> None:
        """Delete a segment's file; its descriptor is closed where no fdatasync can be using it."""
        segment.unlink()
        if segment in self._sealed:
            self._sealed.remove(segment)
        self._dirty.discard(segment)
        self._doomed.append(segment)
        self._total_bytes -= segment.size

    def expire(self) -> None:
        """Give drained segments back that nobody used for ``cache_ttl_s``."""
        horizon = time.monotonic_ns() - int(self.limits.cache_ttl_s * 1e9)
        with self._lock:
            if not self._closed and self._sealed:
                for segment in self._drained():
                    if max(segment.touched_ns, self.index.touched(segment.number)) < horizon:
                        self._drop(segment)

    # -- durability --

    @property
    def tail_lsn(self) -> int:
        """Sequence number of the newest record."""
        return self._tail_lsn

    @property
    def synced_lsn(self) -> int:
        """All records up to this one survive power loss."""
        return self._control.synced_lsn

    @property
    def unsynced_bytes(self) -> int:
        """Bytes appended that a power loss could still take."""
        return self._appended_bytes - self._synced_bytes

    def sync(self) -> int:
        """Group commit: one fdatasync per segment with new records; the lsn that is now durable.

        Raises:
            JournalError: the disk failed. The pages of a failed fsync count as clean, so it is
                never retried; the journal goes on in a new segment.
        """
        with self._sync_lock:
            with self._lock:
                if self._closed:
                    return self.synced_lsn
                lsn, appended = self._tail_lsn, self._appended_bytes
                dirty, self._dirty = self._dirty, set()
                sync_directory, self._dir_dirty = self._dir_dirty, False
                doomed, self._doomed = self._doomed, []
            for segment in doomed:
                segment.close()
            failpoint("journal.before_fsync")
            try:
                for segment in dirty:
                    os.fdatasync(segment.fd)
                if sync_directory:
                    _sync_directory(self.directory)
            except OSError as error:
                self._rotate_next = True
                raise journal_error(error, "cannot sync the journal to disk") from error
            failpoint("journal.after_fsync")
            self._synced_bytes = appended
            self._control.publish_synced(lsn)
            return lsn

    # -- end --

    def close(self) -> None:
        """Sync, mark the journal as closed in order and give up ownership. Idempotent."""
        if self._closed:
            return
        try:
            self.sync()
        finally:
            with self._sync_lock, self._lock:
                self._closed = True
                self._control.publish_closed()
                for segment in (*self._sealed, *self._doomed, self._segment):
                    segment.close()
                self._cursor.close()
                self.index.close()
                self._control.close()
                self._owner.release()


    def abandon(self) -> None:
        """In a forked child: close the copies of the parent's descriptors; the journal stays the
        parent's."""
        self._closed = True
        for segment in (*self._sealed, *self._doomed, self._segment):
            segment.close()
        self._cursor.close()
        self._owner.release()


def _finish(fd: int, parts: list[Bytes], offset: int) -> None:
    """Write what a short ``pwritev`` left over (a signal, or a file-size limit: then it raises)."""
    whole = b"".join(bytes(part) for part in parts)
    done = 0
    while done < len(whole):
        done += os.pwrite(fd, whole[done:], offset + done)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
