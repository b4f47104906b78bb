"""Tailing: reading a journal's records in order, while its owner writes or after it died.

Rules:

1. A record counts if its checksums, journal id and segment number fit and its lsn is the next one
   or a later one. Nothing else is believed: not the published tail (it only says where a *live*
   owner has got to), not a segment's header, not a length.
2. Bytes that should be a record and are none are noted as :class:`Damage` once something shows
   that a record was there: a later record, a seal, the next segment, or, for a dead owner, the
   published tail. What a live owner has written last is not judged; it may still go on.
3. A *dead* owner may have died between writing and publishing, and a power loss may have taken what
   was not synced: its records are found by scanning alone. The longest valid prefix counts, a
   damaged record in the middle is not taken for the end.
4. Segments that the cursor has passed may have been recycled: a gap there is no damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from livingai.queue.control import Control
from livingai.queue.cursor import drained_lsn
from livingai.queue.layout import (
    ALIGNMENT,
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Kind,
    position,
)
from livingai.queue.lock import boot_id
from livingai.queue.record import RecordHeader, body_intact, parse_header
from livingai.queue.segment import SegmentMap, segment_numbers
from livingai.queue.segments import Segments

__all__ = ["Damage", "Found", "JournalTail", "Segments"]


class Found(NamedTuple):
    """A record: its header and position."""

    header: RecordHeader
    position: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Records ``first_lsn`` to ``last_lsn`` are damaged or missing. ``position`` and ``length`` (in
    bytes, 0 where the place itself is gone) say where they should be; ``header`` is the first
    one's, where it survived."""

    position: int
    length: int
    header: RecordHeader | None
    reason: str
    first_lsn: int
    last_lsn: int


class JournalTail:
    """A position in a journal that moves forward over its records."""

    def __init__(self, directory: str, *, position: int = 0, after_lsn: int = 0) -> None:
        """Start at ``position`` (0: the oldest segment).

        Raises:
            FileNotFoundError, CorruptRecordError, FormatVersionError: see :class:`Control`.
        """
        self.directory = directory
        self.control = Control(directory)
        self.journal_id = self.control.journal_id
        self.segments = Segments(directory)
        self.lsn = after_lsn
        self.damage: list[Damage] = []
        #: After a reboot the tail may promise records that were never synced.
        self.published_counts = self.control.boot == boot_id() and not self.control.damaged
        number, offset = position >> 32, position & 0xFFFF_FFFF
        if self.segments.get(number) is None:  # recycled: go on where the next record must be
            number, offset = self._segment_after(after_lsn), 0
        self._number = number
        self._offset = max(offset, SEGMENT_HEADER_BYTES)
        segment = self.segments.get(number)
        header = segment.header() if segment is not None else None
        if header is not None:
            self._expect(header.first_lsn - 1)

    @property
    def position(self) -> int:
        """Where the next record is expected."""
        return position(self._number, self._offset)

    def _following(self) -> SegmentMap | None:
        """The next segment that is not empty (left so by a crash while it was made)."""
        later = (n for n in segment_numbers(self.directory) if n > self._number)
        return next((found for n in later if (found := self.segments.get(n)) is not None), None)

    def _segment_after(self, lsn: int) -> int:
        """The newest segment that cannot lie behind record ``lsn`` + 1, else the oldest one."""
        numbers = segment_numbers(self.directory)
        for number in reversed(numbers) if lsn else ():
            segment = self.segments.get(number)
            header = segment.header() if segment is not None else None
            if header is not None and header.first_lsn <= lsn + 1:
                return number
        return numbers[0] if numbers else 0

    def read(self, *, alive: bool) -> Iterator[Found]:
        """Records from here on: up to the published tail of a live owner, else all valid ones.

        Stop consuming at any time and call again later; damaged places are noted in ``damage``.
        """
        while True:
            stop = self.control.tail if alive and not self.control.damaged else None
            if stop is not None and self.position >= stop:
                return
            if self._number == 0:
                self._number = self._segment_after(0)
                if self._number == 0:
                    if not alive:
                        self._judge_end()
                    return
            found = self._step(stop, alive)
            if found is None:
                return
            yield found

    def _step(self, stop: int | None, alive: bool) -> Found | None:
        """The next record; None at the end."""
        while True:
            segment = self.segments.get(self._number)
            header = None
            if segment is not None:
                header = self._valid(segment.view, self._offset, checked=stop is not None)
            if header is None and segment is not None:
                header = self._behind_damage(stop)
            if header is not None:
                at = position(self._number, self._offset)
                self._expect(header.lsn if header.kind == Kind.SEAL else header.lsn - 1)
                self.lsn = header.lsn
                if header.kind != Kind.SEAL:
                    self._offset += header.length
                    if header.kind == Kind.WRITE:
                        return Found(header, at)
                    continue  # a kind that a later version has added
            elif stop is not None and self._number >= stop >> 32:
                return None
            if not alive:
                self._judge_end()
            if not self._advance(sure=header is not None or stop is not None or not alive):
                return None

    def _advance(self, *, sure: bool) -> bool:
        """Go to the next segment; False if there is none yet. Unless it is ``sure`` that the owner
        has left this one, the next must have a record: it is made before this one is sealed."""
        segment = self._following()
        if segment is None:
            return False
        number = segment.number
        if not sure:
            first = parse_header(segment.view, SEGMENT_HEADER_BYTES)
            if first is None or first.segment != number:
                return False
        header = segment.header()
        if header is not None:
            here = self.segments.get(self._number)
            follows = number == self._number + 1 and here is not None
            length = len(here.view) - self._offset if here is not None and follows else 0
            self._expect(header.first_lsn - 1, length)
        self._number, self._offset = number, SEGMENT_HEADER_BYTES
        return True

    def _valid(self, view: memoryview, offset: int, *, checked: bool) -> RecordHeader | None:
        """The record at ``offset`` if it is this journal's, this segment's, and newer; its body
        is verified unless the owner published it (``checked``)."""
        header = parse_header(view, offset)
        if header is None or header.journal_id != self.journal_id:
            return None
        if header.segment != self._number or header.lsn < self.lsn:
            return None
        if header.kind == Kind.SEAL:
            return header
        if header.lsn == self.lsn:
            return None
        if not checked and not body_intact(view, offset, header):
            return None
        return header

    def _behind_damage(self, stop: int | None) -> RecordHeader | None:
        """Find the next valid record behind damaged bytes of this segment, and note the damage;
        None if nothing valid follows."""
        segment = self._current()
        if segment is None:
            return None
        view, start = segment.view, self._offset
        limit = len(view)
        if stop is not None and stop >> 32 == self._number:
            limit = min(limit, stop & 0xFFFF_FFFF)
        at = start - 1  # the name may have led to another file a moment ago
        while True:
            at = segment.find(RECORD_MAGIC, at + 1, limit)
            if at < 0:
                return None
            header = self._valid(view, at, checked=False) if at % ALIGNMENT == 0 else None
            if header is not None:
                break
        last = header.lsn if header.kind == Kind.SEAL else header.lsn - 1
        self._expect(last, at - start, self._lost(view, start))
        self._offset = at
        return header

    def _current(self) -> SegmentMap | None:
        """The segment as its name leads to it now: the file that was mapped may be recycled."""
        segment = self.segments.get(self._number)
        if segment is not None and segment.header() is None:
            self.segments.drop(self._number)
            segment = self.segments.get(self._number)
        return segment

    def _lost(self, view: memoryview, offset: int) -> RecordHeader | None:
        """The header of a damaged record, where that is intact."""
        header = parse_header(view, offset)
        if header is None or header.segment != self._number or header.lsn <= self.lsn:
            return None
        return header

    def _judge_end(self) -> None:
        """Nothing valid follows in this segment of a dead owner: were there published records?"""
        control = self.control
        tail = control.tail
        if not self.published_counts or tail <= self.position or control.tail_lsn <= self.lsn:
            return
        segment = self._current()
        here = tail >> 32 == self._number
        if here and segment is not None and tail & 0xFFFF_FFFF <= len(segment.view):
            length = (tail & 0xFFFF_FFFF) - self._offset
            self._expect(control.tail_lsn, length, self._lost(segment.view, self._offset))
            self._offset += length
        elif self._following() is None:
            self._expect(control.tail_lsn)

    def _expect(self, lsn: int, length: int = 0, header: RecordHeader | None = None) -> None:
        """All records up to ``lsn`` lie behind us: note those that were not found."""
        first = self.lsn + 1
        if lsn < first:
            return
        self.lsn = lsn
        drained = drained_lsn(self.directory, self.journal_id)
        if drained is None:  # only what has left its bytes is damaged for sure
            drained = 0 if length else lsn
        first = max(first, drained + 1)
        if lsn < first:
            return
        if header is not None and header.lsn < first:
            header = None
        records = f"record {lsn} is" if lsn == first else f"records {first} to {lsn} are"
        what = "damaged" if length else "damaged or missing"
        self.damage.append(Damage(self.position, length, header, f"{records} {what}", first, lsn))

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        self.segments.close()
        self.control.close()
