"""The journal: one process's append-only log, which is crash log, queue and hot cache at once.

Rules:

* One writer, the owner process; a lock inside the process serializes its threads. No lock is
  shared between processes, so a killed owner leaves none behind.
* ``append`` publishes (index, then tail) only after the whole record is in the page cache. A record
  behind the tail was never acknowledged.
* The journal rotates only after the next segment is ready, so a full disk leaves it as it was.
* Before the first record of a claim is written, other journals' slots of the execution are marked
  as taken (:mod:`livingai.queue.index`, rule 2). If our slot has been marked by the time it could
  be published, another process has taken over, and its writes may count as accepted: the record is
  written anew, with a new acceptance time, so that it follows those. Both slots stay marked: the
  store decides. If the disk fails just then, the save is refused, and whoever read the execution
  meanwhile may have met the record; nobody does afterwards.
* What makes records safe from power loss is :mod:`livingai.queue.commit`.
* A patch (:mod:`livingai.queue.patch`) is written only while its base is in a segment that is kept,
  not too far back, and no fdatasync has failed since; else the state is written whole.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple

from livingai.codecs import Codec
from livingai.errors import JournalClosedError
from livingai.failpoint import failpoint
from livingai.queue.commit import GroupCommit
from livingai.queue.cursor import Cursor
from livingai.queue.directory import remove_journal
from livingai.queue.layout import (
    OUTCOME_OFFSET,
    RECORD_HEADER_BYTES,
    Flag,
    Kind,
    aligned,
    pack_place,
    position,
    segment_of,
)
from livingai.queue.new_journal import OWNER_LOCK, JournalFiles, discard_journal
from livingai.queue.patch import Base, Patch, copy_record, reaches
from livingai.queue.record import Bytes, Record, body_bytes, pack_record, seal_record
from livingai.queue.rescue import Copies, records_of
from livingai.queue.reuse import is_settled, look
from livingai.queue.segment import Segment, journal_error
from livingai.queue.space import JournalLimits, Space

__all__ = ["OWNER_LOCK", "Appended", "Journal", "JournalLimits"]


#: Of what a journal may hold, the share that a patch may reach back over to its base.
_REACH_SHARE = 4


class Appended(NamedTuple):
    """Where a record went, when (CLOCK_MONOTONIC ns) it was accepted, whether as a patch, and
    :attr:`Journal.reliance` at that moment."""

    lsn: int
    position: int
    mono_ns: int
    patched: bool
    reliance: int


class Journal:
    """The journal of this process; see the rules above. Thread-safe."""

    def __init__(self, root: str, limits: JournalLimits) -> None:
        """Make a new journal below ``root`` (the state directory's ``journals`` folder).

        Raises:
            DiskFullError, JournalError: nothing is left behind.
        """
        self.limits = limits
        files = JournalFiles.make(root, limits)
        self.id = files.journal_id
        self.directory = files.directory
        self.index = files.index
        #: Called with an execution's key before the first record of a claim on it is written:
        #: marks it as taken over in all other journals (see
        #: :class:`livingai.engine.cache.HotCache`).
        self.supersede: Callable[[int], None] | None = None
        #: Serializes appends.
        self.lock = threading.Lock()
        self._owner = files.owner
        self._control = files.control
        self._cursor = files.cursor
        self._segment = files.first
        boot = files.boot
        self._space = Space(
            limits,
            create=lambda number, size, lsn: Segment.create(
                self.directory, number, size, self.id, lsn, boot
            ),
            recycle=lambda segment, number, lsn: segment.recycle(number, self.id, lsn, boot),
            cursor=self._stored,
            settled=lambda segment: is_settled(segment, self.id),
            touched=self.index.touched,
        )
        self._dirty = self._space.dirty
        self._commit = GroupCommit(self, self._space, self._control)
        self._rotate_next = False
        self._closed = False
        #: Another number means that states which were written before may no longer be read: an
        #: fdatasync has failed, and the kernel may have dropped their pages.
        self.reliance = 0
        #: Sequence number of the newest record.
        self.tail_lsn = 0
        self.appended_bytes = 0

    def _stored(self) -> Cursor:
        """The service's cursor; one that passes records which were never written is not true."""
        cursor = self._cursor.reread()
        return cursor if cursor.lsn <= self.tail_lsn else Cursor(0, 0)

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
        patch: Patch | None = None,
    ) -> Appended:
        """Append a record, point the index to it (unless ``slot`` is negative) and publish it. A
        ``patch`` is written instead of the state if its base is still there.

        When it returns the record survives the death of this and any process (level JOURNAL).

        Raises:
            JournalFullError: ``journal_bytes`` of records wait for the store.
            DiskFullError, JournalError: nothing was appended, all before is kept.
            JournalClosedError: the journal is closed.
        """
        around = RECORD_HEADER_BYTES + len(node) + len(ext)
        codec = back = place = 0
        with self.lock:
            segment = self._room(around + len(state if patch is None else patch.section))
            if patch is not None and not self._may_build_on(patch.base, segment, seq):
                patch = None
                segment = self._room(around + len(state))
            if patch is not None:
                codec, back = Codec.DELTA, seq - patch.base.seq
                place = pack_place(patch.base.at, segment.number)
                state, flags = patch.section, flags & ~Flag.BASE
                self._builds_on(segment, patch.base.at)
            length = aligned(around + len(state))
            lsn, offset = self.tail_lsn + 1, segment.used
            at = position(segment.number, offset)
            takes = self.supersede if slot >= 0 and not self.index.seq(slot) else None
            overtaken = False
            while True:
                mono_ns = time.monotonic_ns()
                if takes is not None:
                    self._take(takes, key, segment)
                header = pack_record(
                    kind=Kind.WRITE, flags=flags, state_kind=state_kind, journal_id=self.id,
                    segment=segment.number, lsn=lsn, claim=claim, epoch=epoch, seq=seq,
                    mono_ns=mono_ns, wall_ns=time.time_ns(), key=key, node=node, ext=ext,
                    state=state, budget_us=budget_us, length=length, codec=codec, base_back=back,
                    base_place=place,
                )  # fmt: skip
                _write(segment, [header, node, ext, state])
                if slot >= 0:
                    self.index.put_node(node_key, at)
                    self.index.put(slot, at, seq, bool(flags & Flag.STATE))
                failpoint("journal.before_publish")
                if takes is None or overtaken or not self.index.taken(slot):
                    break
                overtaken = True
                self.index.resume(slot, claim, 0)  # it has no record after all
            noted = array("I", (offset + OUTCOME_OFFSET >> 3,))
            # No call from here on: one is where the exception of a signal's handler can come, and
            # of these either all are done or none. (Two records of one number would be one.)
            segment.outcomes += noted
            segment.used = offset + length
            segment.last_lsn = lsn
            segment.touched_ns = mono_ns
            self.tail_lsn = lsn
            self.appended_bytes += length
            self._dirty.add(segment)
            self._control.publish(position(segment.number, segment.used), lsn)
            failpoint("journal.after_publish")
            if takes is not None and self.index.taken(slot):
                self._contested(key)
            return Appended(lsn, at, mono_ns, patch is not None, self.reliance)

    def _room(self, nbytes: int) -> Segment:
        """The segment that a record of so many bytes goes to: this one or a new one. Raises as
        :meth:`append`."""
        length, segment = aligned(nbytes), self._segment
        if segment.used + length > segment.size or self._rotate_next or self._closed:
            return self._rotate(length)
        return segment

    def _may_build_on(self, base: Base, segment: Segment, seq: int) -> bool:
        """Whether record ``seq`` of the base's claim, in this segment, can be a patch on it."""
        if base.reliance != self.reliance or not reaches(base, segment.number, seq):
            return False
        number = segment_of(base.at)
        far = (segment.number - number) * self.limits.segment_bytes
        if far * _REACH_SHARE > self.limits.journal_bytes:
            return False
        return number == segment.number or self._space.find(number) is not None

    def _builds_on(self, segment: Segment, base: int) -> None:
        """Keep the segment of the base at this position for as long as a patch in ``segment`` has
        no outcome; it is in use."""
        number = segment_of(base)
        found = self._space.find(number) if number != segment.number else None
        if found is not None:
            segment.bases.add(number)
            found.touched_ns = time.monotonic_ns()

    @staticmethod
    def _take(takes: Callable[[int], None], key: int, segment: Segment) -> None:
        """Mark the execution as taken over in all other journals. Raises what that raises; then
        nothing was appended."""
        try:
            takes(key)
        except BaseException:
            _wipe(segment.fd, segment.used)
            raise

    def _contested(self, key: int) -> None:
        """Another process took the execution over while we did. Which of us the service meets first
        is not known, so neither counts: the other one has marked us, we mark the other."""
        if self.supersede is not None:
            with contextlib.suppress(OSError):  # the record is accepted all the same
                self.supersede(key)

    def locate(self, key: int) -> int:
        """The execution's slot in the index, made if missing. Raises JournalClosedError."""
        with self.lock:
            if self._closed:
                raise JournalClosedError
            return self.index.locate(key, self._space.stored_position)

    def _rotate(self, length: int) -> Segment:
        if self._closed:
            raise JournalClosedError
        old = self._segment
        fresh = self._space.next(old, length, self.tail_lsn + 1)
        try:
            failpoint("rotate.after_create")
            self._seal(old)
        except OSError as error:
            self._space.drop(fresh)
            raise journal_error(error, "cannot seal a journal segment") from error
        failpoint("rotate.after_seal")
        self._space.sealed.append(old)
        self._segment = fresh
        self._rotate_next = False
        return fresh

    def _seal(self, segment: Segment) -> None:
        """Say behind the last record that it is the last one of its segment, if there is room for
        that. Raises OSError."""
        if segment.used + RECORD_HEADER_BYTES <= segment.size:
            seal = seal_record(
                journal_id=self.id, segment=segment.number, lsn=self.tail_lsn,
                mono_ns=time.monotonic_ns(), wall_ns=time.time_ns(),
            )  # fmt: skip
            if os.pwrite(segment.fd, seal, segment.used) != len(seal):
                _finish(segment.fd, [seal], segment.used)

    def watch_reuse(self, before_reuse: Callable[[int], None]) -> None:
        """Have ``before_reuse(number)`` called, with the journal locked, before a segment whose
        records are all terminal is reused or deleted."""
        self._space.before_reuse = before_reuse

    def look_ahead(self) -> None:
        """Look for the outcomes in drained segments, some at a time: else the append that uses one
        again would look at all of it."""
        more = True
        while more:
            with self.lock:
                more = not self._closed and any(
                    look(segment, self.id) for segment in self._space.drained(self._segment)
                )

    def expire(self) -> None:
        """Give drained segments back that were not used for ``cache_ttl_s``, one by one, so that an
        append never waits for more than one deletion. Raises JournalError."""
        horizon = time.monotonic_ns() - int(self.limits.cache_ttl_s * 1e9)
        while True:
            with self.lock:
                if self._closed or not self._space.drop_unused(horizon, self._segment):
                    return

    def add_waited(self, seconds: float) -> None:
        """Note, for all processes, that a save has waited so long for room."""
        with self.lock:
            if not self._closed:
                self._control.add_waited(int(seconds * 1e6))

    # -- durability --

    @property
    def tail(self) -> int:
        """Position behind the newest record."""
        return position(self._segment.number, self._segment.used)

    @property
    def synced_lsn(self) -> int:
        """All records up to this one survive power loss."""
        return self._commit.synced_lsn

    @property
    def unsynced_bytes(self) -> int:
        """Bytes appended that a power loss could still take."""
        return self.appended_bytes - self._commit.synced_bytes

    def sync(self) -> int:
        """Group commit: all that is appended survives power loss; the lsn up to which that is so.

        Raises:
            JournalError: the disk failed; nothing more is durable than before.
        """
        with self._commit.lock:
            return self._commit.synced_lsn if self._closed else self._commit.run()

    def sync_failed(self, segments: set[Segment]) -> None:
        """An fdatasync has failed on these: append nothing more to the segment that is written now,
        and no patch to a state before; call with ``lock`` held."""
        self._space.fail(segments, self._segment)
        self._rotate_next = True
        self.reliance += 1

    def copy_failed(self, after: int) -> None:
        """Append copies of the records above ``after`` whose fdatasync failed and that the service
        has not stored yet: the same writes (claim and seq), so the store takes them once. Call with
        ``lock`` held.

        Raises:
            JournalFullError, DiskFullError, JournalError: not all was copied.
        """
        stored, last = self._stored().lsn, self.tail_lsn
        failed = sorted(self._space.failed, key=lambda segment: segment.number)
        copies = Copies(self.directory, self._space.unreliable)
        with contextlib.closing(copies):
            for segment in failed:
                for at, old in records_of(segment, after, last, stored):
                    copies.made[at] = self._copy(*copies.plan(old, self._segment.number))
                self._space.failed.discard(segment)
                self._dirty.discard(segment)

    def _copy(self, record: Record, base: int) -> int:
        """Append a copy of a record whose base is at that position (0: its state is whole); the
        copy's position. Raises JournalFullError, DiskFullError, JournalError."""
        segment = self._room(RECORD_HEADER_BYTES + body_bytes(record))
        if base:
            self._builds_on(segment, base)
        lsn, at = self.tail_lsn + 1, position(segment.number, segment.used)
        parts = copy_record(record, segment.number, lsn, base)
        try:
            _finish(segment.fd, parts, segment.used)
        except OSError as error:
            raise journal_error(error, "cannot append to the journal") from error
        length = aligned(sum(map(len, parts)))
        noted = array("I", (segment.used + OUTCOME_OFFSET >> 3,))
        segment.outcomes += noted  # see append
        segment.used += length
        segment.last_lsn = self.tail_lsn = lsn
        self.appended_bytes += length
        self._dirty.add(segment)
        self._control.publish(position(segment.number, segment.used), lsn)
        return at

    # -- end --

    def close(self, *, remove: bool = False) -> None:
        """Sync, seal the last segment, mark the journal as closed in order and give up ownership.
        Idempotent.

        With ``remove`` a journal whose records are all stored is deleted: no service is there to
        keep it as a cache and to delete it in the end.

        Raises:
            JournalError: the sync failed; the journal is closed all the same.
        """
        try:
            self.sync()
        finally:
            with self._commit.lock, self.lock:
                if not self._closed:
                    self._closed = True
                    with contextlib.suppress(OSError):  # else only a service removes the journal
                        self._seal(self._segment)
                    self._control.publish_closed()
                    try:
                        if remove and self._stored().lsn == self.tail_lsn and self._settled():
                            remove_journal(self.directory)
                    finally:
                        self._release()
                        self.index.close()
                        self._control.close()

    def _settled(self) -> bool:
        segments = (*self._space.sealed, self._segment)
        return all(is_settled(segment, self.id) for segment in segments)

    def discard(self) -> None:
        """Remove the journal, to which nothing has been appended."""
        with self.lock:
            self._closed = True
            discard_journal(self.directory)
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


def _write(segment: Segment, parts: list[Bytes]) -> None:
    """Write a record behind the last one. Raises DiskFullError, JournalError: it is not there."""
    try:
        failpoint("journal.before_append")
        if os.pwritev(segment.fd, parts, segment.used) != sum(map(len, parts)):
            _finish(segment.fd, parts, segment.used)
        failpoint("journal.after_append")
    except OSError as error:
        _wipe(segment.fd, segment.used)
        raise journal_error(error, "cannot append to the journal") from error


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
