"""Where to go on reading: is the cursor true?

A cursor's sum also fits if it is an older one, or made up. But what it says can be checked: the
record that it names ends at its position, and all before it have their outcomes. If not, it is not
used, and the journal is read from its oldest record on: what has an outcome is left out then,
so that costs time and loses nothing. Where the file was cut short before that place, what is left
of it has to agree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from livingai.queue.layout import (
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Kind,
    offset_of,
    position,
    segment_of,
)
from livingai.queue.record import RecordHeader, read_outcome
from livingai.queue.segment import SegmentMap, segment_numbers
from livingai.queue.segments import Segments
from livingai.queue.walk import has_room, intact_records, missing_before

#: So many records before the cursor are looked at, and all of their segments: what a service has on
#: its way is less, so the cursor cannot have passed others without passing one of these.
_ENOUGH: Final = 10_000


class Start(NamedTuple):
    """Where to read, the record before that, and why the cursor was not used ("": it was)."""

    position: int
    lsn: int
    doubt: str = ""


def start_of(
    segments: Segments, journal_id: int, at: int, lsn: int, *, published: int | None = None
) -> Start:
    """Where to begin for a cursor at position ``at`` behind record ``lsn``; ``published``: the last
    record that there is, if the owner says so."""
    if not lsn:
        return Start(0, 0)
    exists = published is None or lsn <= published
    doubt = _doubt(segments, journal_id, at, lsn, exists=exists)
    if not doubt:
        return Start(at, lsn)
    return _oldest(segments, journal_id, doubt)


def start_of_none(segments: Segments, journal_id: int) -> Start:
    """Where to begin for a cursor that says of no record that it has its outcome: so does one that
    was lost. Segments are used again only behind the cursor, so then the first one is there."""
    oldest = next(iter(segment_numbers(segments.directory)), 1)
    segment = segments.get(oldest)
    header = segment.header() if segment is not None else None
    if oldest == 1 or (header is not None and header.first_lsn == 1):  # those before were empty
        return Start(0, 0)
    return _oldest(segments, journal_id, f"the segments before number {oldest} are not there")


def _doubt(segments: Segments, journal_id: int, at: int, lsn: int, *, exists: bool) -> str:
    number, offset = segment_of(at), offset_of(at)
    numbers = segment_numbers(segments.directory)
    seen = 0
    gone = segments.get(number) is None  # reused since, or none of its records is left
    cut = gone and exists and number in numbers  # or its file was cut short before that place
    for earlier in (n for n in reversed(numbers) if n <= number):
        segment = segments.get(earlier)
        if segment is None:
            continue
        end = offset if earlier == number else None
        last: tuple[RecordHeader, int] | None = None
        for header, there in intact_records(segment, journal_id, earlier, end=end):
            if header.kind != Kind.WRITE:
                continue
            last = header, there
            seen += 1
            if read_outcome(segment.view, there, header.lsn) is None:
                return f"record {header.lsn} before it has no outcome"
        if earlier == number:
            cut = exists and segment.cut_short() and _agrees(segment, last, offset, lsn)
        if earlier == number and (cut or _is_emptied(segment, journal_id)):
            gone = True
        elif earlier == number and (
            last is None or last[0].lsn != lsn or last[1] + last[0].length != offset
        ):
            return f"record {lsn} does not end at its position"
        if seen >= _ENOUGH:
            break
    if gone:  # then what follows is later
        first = _first_behind(segments, journal_id, number)
        if first is not None:
            return "" if missing_before(first, lsn) >= 0 else f"record {first.lsn} comes behind it"
        if number in numbers and not cut:
            return f"record {lsn} does not end at its position"
    return ""


def _first_behind(segments: Segments, journal_id: int, number: int) -> RecordHeader | None:
    """The first record in a segment behind this one."""
    for later in (n for n in segment_numbers(segments.directory) if n > number):
        segment = segments.get(later)
        found = next(intact_records(segment, journal_id, later), None) if segment else None
        if found is not None:
            return found[0]
    return None


def _agrees(
    segment: SegmentMap, last: tuple[RecordHeader, int] | None, offset: int, lsn: int
) -> bool:
    """Whether what is left of a segment that was cut short behind the record ``last`` agrees with a
    cursor at ``offset`` behind record ``lsn``: those between need room, and none of them is there.
    (The file may have grown again since.)"""
    header = segment.header()
    if last is not None:
        before, end = last[0].lsn, last[1] + last[0].length
    elif header is not None:
        before, end = header.first_lsn - 1, SEGMENT_HEADER_BYTES
    else:
        return True
    none_is_there = segment.find(RECORD_MAGIC, end, offset) < 0
    return has_room(lsn - before, offset - end) and none_is_there


def _is_emptied(segment: SegmentMap, journal_id: int) -> bool:
    """Whether a segment of this journal has lost all of its records: it was cut short."""
    if len(segment.view) < SEGMENT_HEADER_BYTES:
        return True
    header = segment.header()
    if header is None or header.journal_id != journal_id:
        return False
    return next(intact_records(segment, journal_id, segment.number), None) is None


def _oldest(segments: Segments, journal_id: int, doubt: str) -> Start:
    """The oldest record that is there."""
    for number in segment_numbers(segments.directory):
        segment = segments.get(number)
        if segment is None:
            continue
        found = intact_records(segment, journal_id, number)
        first = next(found, None)
        while first is not None:
            header, there = first
            end = there + header.length
            second = next(found, None)
            if second is None or has_room(
                missing_before(second[0], header.lsn), second[1] - end
            ):  # else one of the two lies: the first
                return Start(position(number, there), max(header.lsn - 1, 0), doubt)
            first = second
    return Start(0, 0, doubt)
