"""Tailing: reading a journal's records in order, while its owner writes or after it died.

Rules:

1. A record counts if its checksums, journal id and segment number fit and its lsn is the next one,
   or a later one that can be there (:mod:`livingai.queue.walk`). Nothing else counts: not the
   published tail (it only says where a *live* owner has got to), not a segment's header, not a
   length, not the cursor (:mod:`livingai.queue.resume`). Where those say that more was written than
   is found, that is noted, and no record counts for it.
2. Bytes that should be a record and are none are noted as :class:`Damage` once something shows
   that a record was there: a later record, a seal, or, for a dead owner, what it published. What a
   live owner has written last is not judged; it may still go on.
3. A *dead* owner may have died between writing and publishing, and a power loss may have taken what
   was not synced: its records are found by scanning alone. The longest valid prefix counts, a
   damaged record in the middle is not taken for the end.
4. Segments that the cursor has passed may have been recycled: a gap there is no damage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from livingai.queue.control import Control
from livingai.queue.cursor import Cursor
from livingai.queue.damage import Damage, DamageLog
from livingai.queue.layout import (
    LARGEST_SEGMENT,
    SEGMENT_HEADER_BYTES,
    SEGMENT_NUMBERS,
    Kind,
    offset_of,
    position,
    segment_of,
)
from livingai.queue.lock import boot_id
from livingai.queue.record import RecordHeader, body_intact, parse_header
from livingai.queue.resume import start_of, start_of_none
from livingai.queue.segment import SegmentMap, is_empty, segment_numbers
from livingai.queue.segments import Segments
from livingai.queue.walk import (
    contradicted,
    has_room,
    intact_records,
    missing_before,
)

__all__ = ["Damage", "Found", "JournalTail", "Segments"]


class Found(NamedTuple):
    """A record: its header and position."""

    header: RecordHeader
    position: int


class _Left(NamedTuple):
    """What an earlier segment left behind its last record: where, how many bytes, and whether its
    file was cut short there."""

    position: int = 0
    length: int = 0
    cut: bool = False


class JournalTail:
    """A position in a journal that moves forward over its records."""

    def __init__(
        self, directory: str, *, position: int = 0, after_lsn: int = 0, by_cursor: bool = False
    ) -> None:
        """Start at ``position``, behind record ``after_lsn``, as a cursor says (0: at the oldest
        record). If that is not true, :attr:`doubt` says why, and it starts at the oldest record.
        ``by_cursor``: 0, too, is what a cursor says: that nothing has its outcome yet.

        Raises:
            FileNotFoundError, CorruptRecordError, FormatVersionError: see :class:`Control`.
        """
        self.directory = directory
        self.control = Control(directory)
        self.journal_id = self.control.journal_id
        self.segments = Segments(directory)
        if by_cursor and not after_lsn:
            start = start_of_none(self.segments, self.journal_id)
        else:
            start = start_of(self.segments, self.control, position, after_lsn)
        self.doubt = start.doubt
        #: If there is doubt: the first and the last of the records behind the cursor that are not
        #: there, as far as the oldest one that is.
        self.skipped = (after_lsn + 1, start.lsn)
        #: The last record that was found.
        self.lsn = start.lsn
        self._number = segment_of(start.position)
        self._offset = max(offset_of(start.position), SEGMENT_HEADER_BYTES)
        #: Where the last record ended, if that is not in this segment: how many bytes before it
        #: begins (what is missing was there), and what was left of its own segment.
        self._before = 0
        self._left = _Left()
        #: Segments that are not there since then: the first and the last one.
        self._gap = (0, 0)
        #: Something of this segment was found, or it was looked at in the end.
        self._held = bool(start.lsn)
        self._log = DamageLog(directory, self.journal_id, self.lsn, believe=not self.doubt)
        #: After a reboot the tail may promise records that were never synced.
        self._same_boot = self.control.boot == boot_id()
        #: CLOCK_MONOTONIC at the last look, and when the last record was accepted.
        self._now_ns = self._mono_ns = 0
        first, last = self.skipped
        if self.doubt and first <= last:
            what = f"records {first} to {last} are damaged or missing"
            self._log.say(self.position, f"{what}, unless they were stored before")

    @classmethod
    def behind(cls, directory: str, cursor: Cursor) -> JournalTail:
        """Start where the journal's cursor says. Raises as the constructor."""
        return cls(directory, position=cursor.position, after_lsn=cursor.lsn, by_cursor=True)

    @property
    def damage(self) -> list[Damage]:
        """Damaged places that were found; the caller removes one once it has dealt with it."""
        return self._log.found

    @property
    def position(self) -> int:
        """Where the next record is expected."""
        return position(self._number, self._offset)

    def _following(self) -> SegmentMap | None:
        """The next segment that is not empty (left so by a crash while it was made)."""
        later = (n for n in segment_numbers(self.directory) if n > self._number)
        return next((found for n in later if (found := self.segments.get(n)) is not None), None)

    def read(self, *, alive: bool) -> Iterator[Found]:
        """Records from here on: up to the published tail of a live owner, else all valid ones.

        Stop consuming at any time and call again later; damaged places are noted in ``damage``.
        """
        while True:
            published = self.control.tail
            stop = published if alive and not self.control.damaged else None
            if stop is not None and self.position >= stop:
                return
            found = self._step(stop, alive)
            if found is None:
                return
            yield found

    def _step(self, stop: int | None, alive: bool) -> Found | None:
        """The next record; None at the end."""
        while True:
            segment = self.segments.get(self._number) if self._number else None
            header = None
            if segment is not None:
                header = self._valid(segment, self._offset, checked=stop is not None)
                if header is None:
                    header = self._behind_damage(stop)
            if header is not None:
                at = position(self._number, self._offset)
                self._found(header)
                if header.kind != Kind.SEAL:
                    self._offset += header.length
                    return Found(self._in_time(header), at)
            elif stop is not None and self._number >= segment_of(stop):
                return None
            sure = header is not None or stop is not None or not alive
            if not self._advance(sure=sure, last=segment_of(stop) if stop is not None else None):
                if not alive:
                    self._judge_end()
                return None

    def _found(self, header: RecordHeader) -> None:
        """This record, or seal, comes next: what lies between is missing."""
        missing = missing_before(header, self.lsn)
        if missing:
            self._note_before(missing)
        self._log.lsn = self.lsn = header.lsn
        self._held = True
        self._before, self._left, self._gap = 0, _Left(), (0, 0)

    def _note_before(self, missing: int) -> None:
        """The next ``missing`` records were before this segment."""
        left = self._left
        if left.length or left.cut:
            self._log.note(left.position, missing, left.length, cut=left.cut)
        else:
            self._log.note(self.position, missing)

    def _in_time(self, header: RecordHeader) -> RecordHeader:
        """A record that says it was accepted in the future counts as accepted with the one before
        it: the caller need not wait for that."""
        if header.mono_ns > self._now_ns and self._same_boot:
            self._now_ns = time.monotonic_ns()
            if header.mono_ns > self._now_ns:
                return header._replace(mono_ns=self._mono_ns)
        self._mono_ns = header.mono_ns
        return header

    def _advance(self, *, sure: bool, last: int | None) -> bool:
        """Go to the next segment; False if there is none yet, or none up to number ``last``. Unless
        it is ``sure`` that the owner has left this one, the next must have a record: it is made
        before this one is sealed."""
        segment = self._following()
        if segment is None or (last is not None and segment.number > last):
            return False
        number, here = segment.number, self._number
        if not sure and next(intact_records(segment, self.journal_id, number), None) is None:
            self.segments.drop(number)  # if it cannot seal this one, it makes that one anew
            return False
        self._judge_segment()
        if here and number > here + 1:
            self._gap = (self._gap[0] or here + 1, number - 1)
        left = self.segments.get(here) if here and number == here + 1 else None
        if left is not None and (not self._before or left.cut_short()) and not self._left.cut:
            rest = len(left.view) - self._offset
            self._left = _Left(self.position, max(rest, 0), left.cut_short())
        elif not self._left.cut and (emptied := self._emptied(number)):
            self._left = _Left(position(emptied, SEGMENT_HEADER_BYTES), cut=True)
        # This one may have been cut short, so it counts as a whole one.
        self._before += LARGEST_SEGMENT * (number - here - (not here))
        self._number, self._offset, self._held = number, SEGMENT_HEADER_BYTES, False
        return True

    def _emptied(self, number: int) -> int:
        """The first segment from this one up to ``number`` (not included) of whose file nothing is
        left; 0: there is none. (One that its owner died making is behind all others, and nothing
        was published of it.)"""
        numbers = segment_numbers(self.directory)  # no loop runs over a number from a file
        between = (n for n in numbers if self._number <= n < number)
        return next((n for n in between if is_empty(self.directory, n)), 0)

    def _valid(self, segment: SegmentMap, offset: int, *, checked: bool) -> RecordHeader | None:
        """The record at ``offset`` if it is this journal's, this segment's, and comes next; its
        body is verified unless the owner published it (``checked``)."""
        header = parse_header(segment.view, offset)
        if header is None or header.journal_id != self.journal_id:
            return None
        missing, size = missing_before(header, self.lsn), self._before + offset - self._offset
        if header.segment != self._number or not has_room(missing, size):
            return None
        if missing or not checked or header.kind == Kind.SEAL:
            if not body_intact(segment.view, offset, header):
                return None
            if missing and contradicted(segment, offset, header, self.lsn, size):
                return None
        return header

    def _behind_damage(self, stop: int | None) -> RecordHeader | None:
        """Find the next valid record behind damaged bytes of this segment, and note the damage;
        None if nothing valid follows."""
        segment = self._current()
        if segment is None:
            return None
        start, end = self._offset, len(segment.view)
        if stop is not None and segment_of(stop) == self._number:
            end = min(end, offset_of(stop))
        # The name may have led to another file a moment ago, so the first place counts, too.
        places = intact_records(segment, self.journal_id, self._number, start=start, end=end)
        for _, at in places:
            header = self._valid(segment, at, checked=False)
            if header is not None:
                missing = missing_before(header, self.lsn)
                if not self._left.length:
                    self._log.note(self.position, missing, at - start, self._lost(segment))
                self._offset = at
                return header
        return None

    def _current(self) -> SegmentMap | None:
        """The segment as its name leads to it now: the file that was mapped may be recycled."""
        segment = self.segments.get(self._number)
        if segment is not None and segment.header() is None:
            self.segments.drop(self._number)
            segment = self.segments.get(self._number)
        return segment

    def _lost(self, segment: SegmentMap) -> RecordHeader | None:
        """The header of a damaged record, where that is intact."""
        header = parse_header(segment.view, self._offset)
        if header is None or (header.segment, header.journal_id) != (self._number, self.journal_id):
            return None
        return header

    # -- what was there and is not found --

    def _judge_segment(self) -> None:
        """Nothing more comes in this segment: does it hold records that would be missed?"""
        segment = self._current() if self._number and not self._held else None
        self._held = True
        if segment is not None:
            self._log.judge(segment)

    def _tail_is_behind(self) -> bool:
        """Whether the published tail says, too, that there is more: it lies behind this place, or
        in a segment that is gone. One word of the page alone may be wrong. (After a power loss the
        tail says nothing.)"""
        tail = self.control.tail
        if not self._same_boot:
            return True
        return tail > self.position or (tail > 0 and self.segments.get(segment_of(tail)) is None)

    def _judge_end(self) -> None:
        """Nothing valid follows, and the owner is dead: did it say that there is more?"""
        self._judge_segment()
        control, log = self.control, self._log
        segment = self._current() if self._number else None
        # What was published is there; after a power loss, what was synced.
        published = control.tail_lsn if self._same_boot else control.synced_lsn
        missing = published - self.lsn if self._tail_is_behind() else 0
        length = 0
        if self._same_boot and segment is not None and segment_of(control.tail) == self._number:
            length = offset_of(control.tail) - self._offset
            if not 0 < length <= len(segment.view) - self._offset:
                length = 0
        if has_room(missing, self._before + (length or LARGEST_SEGMENT)):
            lost = self._lost(segment) if length and segment is not None else None
            cut = self._left.cut or (segment is not None and segment.cut_short())
            cut = cut or bool(self._emptied(SEGMENT_NUMBERS))
            log.note(self.position, missing, length, lost, cut=cut)
        elif missing > 0:
            log.say(self.position, f"record {published} was published, and is not there")
        header = segment.header() if segment is not None and self._before else None
        if header is not None and header.journal_id == self.journal_id:
            missing = header.first_lsn - 1 - self.lsn  # it is empty, so nothing else shows it
            if has_room(missing, self._before):
                self._note_before(missing)
            elif missing > 0:
                what = f"segment {self._number} says that record {header.first_lsn} begins it"
                log.say(self.position, f"{what}, and those before are not there")
        if self._gap[0]:
            first, last = self._gap
            what = f"segment {last} is" if first == last else f"segments {first} to {last} are"
            log.say(self.position, f"{what} missing")

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        self.segments.close()
        self.control.close()
