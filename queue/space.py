"""The space of a journal: its segments besides the one that is written now.

Rules:

* A segment is reused or deleted only when the service's cursor has passed its last record and each
  of its records has its outcome (:mod:`livingai.queue.reuse`), and no patch that the service has
  not done with builds on one in it. Among those the least recently used goes first,
  and only when the cache is over its bytes, the journal over its own, the segment over its age, or
  the disk full.
* A descriptor is never closed while an fdatasync may be using it.

Not thread-safe: the journal calls it with its lock held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from livingai.errors import DiskFullError, JournalFullError
from livingai.failpoint import failpoint
from livingai.queue.cursor import Cursor
from livingai.queue.layout import SEGMENT_HEADER_BYTES
from livingai.queue.segment import Segment, journal_error


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Sizes in bytes, times in seconds."""

    segment_bytes: int = 16 << 20
    journal_bytes: int = 1 << 30
    cache_bytes: int = 256 << 20
    cache_ttl_s: float = 3600.0
    index_sets: int = 4096
    node_slots: int = 16384


class Space:
    """The segments of a journal that are full: gives new ones, and reuses or deletes old ones.

    ``create(number, size, lsn)`` makes a segment, ``recycle(segment, number, lsn)`` makes one out
    of an old one, ``cursor()`` is the service's cursor, ``settled(segment)`` says whether each of
    its records has its outcome, and ``touched(number)`` is the time of the last read of a segment
    (CLOCK_MONOTONIC ns).
    """

    def __init__(
        self,
        limits: JournalLimits,
        *,
        create: Callable[[int, int, int], Segment],
        recycle: Callable[[Segment, int, int], None],
        cursor: Callable[[], Cursor],
        settled: Callable[[Segment], bool],
        touched: Callable[[int], int],
    ) -> None:
        self._limits = limits
        self._create = create
        self._recycle_file = recycle
        self._cursor = cursor
        self._settled = settled
        self._touched = touched
        #: Called with the number of a segment that is about to be reused or deleted.
        self.before_reuse: Callable[[int], None] = lambda _: None
        self.sealed: list[Segment] = []
        #: Segments with records that no fdatasync has covered, and those whose fdatasync failed.
        self.dirty: set[Segment] = set()
        self.failed: set[Segment] = set()
        #: Numbers of segments whose fdatasync has failed at some time.
        self.unreliable: set[int] = set()
        #: Names were added or changed since the folder was last synced.
        self.names_dirty = True
        #: An fdatasync is under way: deleted segments are closed after it.
        self.syncing = False
        #: Records before this position were terminal at the last look.
        self.stored_position = 0
        self._doomed: list[Segment] = []

    def drained(self, current: Segment) -> list[Segment]:
        """Sealed segments that hold only terminal records, and nothing that another record builds
        on, as the cursor says; least recently used first. ``current``: the one that is written now.
        """
        cursor = self._cursor()
        self.stored_position = cursor.position
        held: set[int] = set()
        done: list[Segment] = []
        for segment in (*self.sealed, current):
            if segment.last_lsn > cursor.lsn:
                held |= segment.bases
            elif segment is not current:
                done.append(segment)
        return sorted((s for s in done if s.number not in held), key=self.used_ns)

    def _may_go(self, segment: Segment, current: Segment) -> bool:
        """Whether the outcomes say so, too: its own, and those of patches that build on it."""
        others = (*self.sealed, current)
        return self._settled(segment) and all(
            self._settled(other) for other in others if segment.number in other.bases
        )

    def find(self, number: int) -> Segment | None:
        """The sealed segment with this number; None if it is gone."""
        return next((segment for segment in self.sealed if segment.number == number), None)

    def used_ns(self, segment: Segment) -> int:
        """When a segment was last used (CLOCK_MONOTONIC ns)."""
        return max(segment.touched_ns, self._touched(segment.number))

    def next(self, current: Segment, length: int, lsn: int) -> Segment:
        """A segment with room for ``length`` to follow ``current``, beginning with record ``lsn``:
        a new one while the cache may grow, else the least recently used of those that the service
        has finished with.

        Raises:
            JournalFullError: ``journal_bytes`` of records wait for the store.
            DiskFullError, JournalError: nothing has changed.
        """
        need = SEGMENT_HEADER_BYTES + length
        size = max(self._limits.segment_bytes, need)
        number = current.number + 1
        done = self.drained(current)
        cached = sum(segment.size for segment in done)
        fitting = next(
            (s for s in done if need <= s.size <= 2 * size and self._may_go(s, current)), None
        )
        if fitting is not None and cached + size > self._limits.cache_bytes:
            return self._recycle(fitting, number, lsn)
        room = self._limits.journal_bytes - current.size - size
        while done and self._sealed_bytes() > room:
            if fitting is not None:
                return self._recycle(fitting, number, lsn)
            self._drop_if_done(done.pop(0), current)
        if self.sealed and self._sealed_bytes() > room:
            held = self._sealed_bytes() + current.size
            raise JournalFullError(
                f"the journal holds {held} bytes that the store has not taken yet "
                f"(journal_bytes={self._limits.journal_bytes}); the store is too slow or down: see "
                "`livingai status`. Everything saved before is kept and will be stored."
            )
        while True:
            try:
                fresh = self._create(number, size, lsn)
            except DiskFullError:
                if fitting is not None:
                    return self._recycle(fitting, number, lsn)
                if not done:
                    raise
                self._drop_if_done(done.pop(0), current)
            else:
                self.names_dirty = True
                return fresh

    def _sealed_bytes(self) -> int:
        return sum(segment.size for segment in self.sealed)

    def _recycle(self, segment: Segment, number: int, lsn: int) -> Segment:
        self.before_reuse(segment.number)
        try:
            failpoint("journal.before_recycle")
            self._recycle_file(segment, number, lsn)
            failpoint("journal.after_recycle")
        except BaseException as error:
            self.drop(segment)  # half old, half new: of no use
            if isinstance(error, OSError):
                raise journal_error(error, "cannot recycle a journal segment") from error
            raise
        self._forget(segment)
        self.names_dirty = True
        return segment

    def _forget(self, segment: Segment) -> None:
        if segment in self.sealed:
            self.sealed.remove(segment)
        self.dirty.discard(segment)
        self.failed.discard(segment)
        self.unreliable.discard(segment.number)

    def _drop_if_done(self, segment: Segment, current: Segment) -> bool:
        """Delete a drained segment if its outcomes are there; whether they are. Raises
        JournalError."""
        done = self._may_go(segment, current)
        if done:
            self.drop(segment)
        return done

    def drop(self, segment: Segment) -> None:
        """Delete a segment. Raises JournalError; it is then still there."""
        self.before_reuse(segment.number)
        try:
            segment.unlink()
        except OSError as error:
            raise journal_error(error, "cannot delete a journal segment") from error
        self._forget(segment)
        if self.syncing:
            self._doomed.append(segment)
        else:
            segment.close()

    def drop_unused(self, before_ns: int, current: Segment) -> bool:
        """Delete one drained segment that was not used since; whether there was one. ``current``:
        the one that is written now."""
        if self.sealed:
            for segment in self.drained(current):
                if self.used_ns(segment) < before_ns and self._drop_if_done(segment, current):
                    return True
        return False

    def fail(self, segments: set[Segment], current: Segment) -> None:
        """An fdatasync has failed on these: their records have to be copied, and so have those of
        segments with patches that build on them, for these would be synced without their bases."""
        self.failed |= segments
        self.unreliable |= {segment.number for segment in segments}
        others = {*self.sealed, current} - self.failed
        while found := {other for other in others if other.bases & self.unreliable}:
            self.failed |= found
            self.unreliable |= {segment.number for segment in found}
            others -= found

    def synced(self) -> None:
        """The fdatasync is over: close what was deleted meanwhile."""
        self.syncing = False
        for segment in self._doomed:
            segment.close()
        self._doomed.clear()

    def close(self) -> None:
        """Close all descriptors; the files stay."""
        for segment in (*self.sealed, *self._doomed):
            segment.close()
