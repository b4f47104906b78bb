"""Tailing: reading a journal's records in order, while its owner writes or after it died.

A *live* owner publishes its tail, and everything before it is complete. A *dead* owner may have died
between writing and publishing, and a power loss may have taken what was not synced; so the records
of a dead owner are found by scanning and believed by their checksums alone: the longest valid
prefix counts, and a damaged record in the middle is set aside, not taken for the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from livingai.queue.control import Control
from livingai.queue.layout import (
    ALIGNMENT,
    OUTCOME_OFFSET,
    OUTCOME_WORD,
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Kind,
    position,
)
from livingai.queue.lock import boot_id
from livingai.queue.record import RecordHeader, body_intact, pack_outcome, parse_header
from livingai.queue.segment import SegmentMap, segment_name, segment_numbers


class Found(NamedTuple):
    """A record: its header and position."""

    header: RecordHeader
    position: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that should be a record and are none. ``position`` and ``length`` in bytes; ``header``
    where it survived."""

    position: int
    length: int
    header: RecordHeader | None
    reason: str


class Segments:
    """The mapped segments of one journal, opened on demand, at most ``limit`` at a time."""

    def __init__(self, directory: str, limit: int = 64) -> None:
        self.directory = directory
        self._limit = limit
        self._maps: dict[int, SegmentMap] = {}
        self._fds: dict[int, int] = {}

    def get(self, number: int) -> SegmentMap | None:
        """The mapping of a segment; None if the file is gone or empty."""
        found = self._maps.get(number)
        if found is None:
            try:
                found = SegmentMap(self.directory, number)
            except (FileNotFoundError, ValueError):
                return None
            while len(self._maps) >= self._limit:
                self.drop(next(iter(self._maps)))
            self._maps[number] = found
        return found

    def numbers(self) -> list[int]:
        """Segments that are mapped now."""
        return list(self._maps)

    def drop(self, number: int) -> None:
        """Forget a mapping, because the file was recycled or is done with."""
        if number in self._maps:
            self._maps.pop(number).close()
        if number in self._fds:
            os.close(self._fds.pop(number))

    def write_outcome(self, at: int, lsn: int, status: int, latency_us: int) -> int:
        """Write the outcome word of record ``lsn`` at position ``at``; the word written.

        Only the service calls it, and only for a record that has no outcome yet: its owner cannot
        recycle the segment before the cursor has passed.
        """
        number, offset = at >> 32, at & 0xFFFF_FFFF
        fd = self._fds.get(number)
        if fd is None:
            path = os.path.join(self.directory, segment_name(number))
            fd = self._fds[number] = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        word = pack_outcome(lsn, status, latency_us)
        os.pwrite(fd, OUTCOME_WORD.pack(word), offset + OUTCOME_OFFSET)
        return word

    def close(self) -> None:
        """Forget all mappings."""
        for number in [*self._maps, *self._fds]:
            self.drop(number)


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
        self.published_counts = self.control.boot == boot_id()
        number, offset = position >> 32, position & 0xFFFF_FFFF
        if self.segments.get(number) is None:
            number, offset = self._next_number(0), 0
        self._number = number
        self._offset = max(offset, SEGMENT_HEADER_BYTES)

    @property
    def position(self) -> int:
        """Where the next record is expected."""
        return position(self._number, self._offset)

    def _next_number(self, after: int) -> int:
        return next((n for n in segment_numbers(self.directory) if n > after), 0)

    def read(self, *, alive: bool) -> Iterator[Found]:
        """Records from here on: up to the published tail of a live owner, else all valid ones.

        Stop consuming at any time and call again later; damaged places are noted in ``damage``.
        """
        while True:
            stop = self.control.tail if alive else None
            if stop is not None and self.position >= stop:
                return
            if self._number == 0:
                self._number = self._next_number(0)
                self._offset = SEGMENT_HEADER_BYTES
                if self._number == 0:
                    return
            found = self._step(stop)
            if found is None:
                return
            if found.header.kind == Kind.WRITE:
                yield found

    def _step(self, stop: int | None) -> Found | None:
        """The next record or seal; None at the end."""
        while True:
            segment = self.segments.get(self._number)
            view = segment.view if segment is not None else memoryview(b"")
            if segment is not None and segment.header() is None:
                self.segments.drop(self._number)  # recycled: we had read all of it
                segment, view = None, memoryview(b"")
            header = self._valid(view, self._offset, checked=stop is not None)
            if header is None:
                header = self._after_damage(segment, view, stop)
            if header is not None:
                at = position(self._number, self._offset)
                if header.kind == Kind.SEAL:
                    if not self._advance():
                        return None
                    continue
                self._offset += header.length
                self.lsn = header.lsn
                return Found(header, at)
            if stop is not None and self._number >= stop >> 32:
                return None
            if not self._advance():
                return None

    def _advance(self) -> bool:
        """Go to the next segment; False if there is none yet."""
        number = self._next_number(self._number)
        if number == 0:
            return False
        segment = self.segments.get(number)
        header = segment.header() if segment is not None else None
        if header is not None and number == self._number + 1 and header.first_lsn > self.lsn + 1:
            reason = f"records {self.lsn + 1} to {header.first_lsn - 1} are damaged or missing"
            self._note(self._offset, 0, None, reason)
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

    def _after_damage(
        self, segment: SegmentMap | None, view: memoryview, stop: int | None
    ) -> RecordHeader | None:
        """Find the next valid record behind damaged bytes of this segment, and note the damage;
        None if nothing valid follows (a torn tail, or the end)."""
        if segment is None:
            return None
        start = self._offset
        limit = len(view)
        if stop is not None and stop >> 32 == self._number:
            limit = stop & 0xFFFF_FFFF
        lost = parse_header(view, start)
        if lost is not None and (lost.segment != self._number or lost.lsn <= self.lsn):
            lost = None
        at = start
        while True:
            at = segment.find(RECORD_MAGIC, at + 1, limit)
            if at < 0:
                break
            if at % ALIGNMENT == 0:
                header = self._valid(view, at, checked=False)
                if header is not None:
                    self._note(start, at - start, lost, "a record in the middle is damaged")
                    self._offset = at
                    return header
        published = self.control.tail
        if self.published_counts and published >> 32 == self._number and published > position(
            self._number, start
        ):
            length = (published & 0xFFFF_FFFF) - start
            self._note(start, length, lost, "the last published record is damaged")
            self._offset = start + length
        return None

    def _note(self, offset: int, length: int, header: RecordHeader | None, reason: str) -> None:
        self.damage.append(Damage(position(self._number, offset), length, header, reason))

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        self.segments.close()
        self.control.close()
