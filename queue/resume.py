"""Where to go on reading: is the cursor true?

A cursor's sum also fits if it is an older one, or made up. But what it says can be checked: the
record that it names ends at its position, and all before it have their outcomes. If not, it is not
used, and the journal is read from its oldest record on: what has an outcome is left out then,
so that costs time and loses nothing.

Where that record is gone (its segment was used again, or another program has cut the file short),
two things have to agree instead: what is left of its segment, and either a later record, or what
the owner has published. A cursor that is ahead of its owner would have the reader pass over what
the owner writes next.
"""

from __future__ import annotations

import os
from enum import Enum, auto
from typing import Final, NamedTuple

from livingai.errors import OddFileError
from livingai.queue.control import Control
from livingai.queue.layout import (
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Kind,
    offset_of,
    position,
    segment_of,
)
from livingai.queue.lock import boot_id, owner_alive
from livingai.queue.new_journal import OWNER_LOCK
from livingai.queue.record import RecordHeader, parse_header, read_outcome
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


class _Place(Enum):
    """What is where the record that the cursor names should end."""

    #: That record.
    ENDS = auto()
    #: Nothing: the file is not there, or was cut short; what is left of it agrees.
    GONE = auto()
    #: Nothing, though the file is as long as it was made.
    EMPTY = auto()
    #: What gives the cursor the lie.
    OTHER = auto()


def start_of(segments: Segments, control: Control, at: int, lsn: int) -> Start:
    """Where to begin for a cursor at position ``at`` behind record ``lsn``. Raises OSError."""
    if not lsn:
        return Start(0, 0)
    doubt = _doubt(segments, control, at, lsn)
    if not doubt:
        return Start(at, lsn)
    return _oldest(segments, control.journal_id, doubt)


def start_of_none(segments: Segments, journal_id: int) -> Start:
    """Where to begin for a cursor that says of no record that it has its outcome: so does one that
    was lost. Segments are used again only behind the cursor, so then the first one is there."""
    oldest = next(iter(segment_numbers(segments.directory)), 1)
    segment = segments.get(oldest)
    header = segment.header() if segment is not None else None
    if oldest == 1 or (header is not None and header.first_lsn == 1):  # those before were empty
        return Start(0, 0)
    return _oldest(segments, journal_id, f"the segments before number {oldest} are not there")


def _doubt(segments: Segments, control: Control, at: int, lsn: int) -> str:
    number, offset, journal_id = segment_of(at), offset_of(at), control.journal_id
    seen = 0
    place = _Place.GONE
    for earlier in (n for n in reversed(segment_numbers(segments.directory)) if n <= number):
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
            place = _place(segment, journal_id, last, offset, lsn)
            if place is _Place.OTHER:
                return f"record {lsn} does not end at its position"
        if seen >= _ENOUGH:
            break
    if place is _Place.ENDS:
        return ""
    first = _first_behind(segments, journal_id, at)
    if first is not None:  # then there were all before it
        fits = has_room(missing_before(first[0], lsn), first[1] - at)
        return "" if fits else f"record {first[0].lsn} comes behind it"
    if place is _Place.EMPTY:
        return f"record {lsn} does not end at its position"
    if not _was_written(segments.directory, control, at, lsn):
        return f"record {lsn} is not there, and its owner does not say that it was"
    return ""


def _place(
    segment: SegmentMap,
    journal_id: int,
    last: tuple[RecordHeader, int] | None,
    offset: int,
    lsn: int,
) -> _Place:
    """What became of the cursor's segment; ``last`` is the last intact record before ``offset``."""
    header = segment.header()
    cut = segment.cut_short()
    if last is not None:
        before, end = last[0].lsn, last[1] + last[0].length
        if (before, end) == (lsn, offset):
            return _Place.ENDS
        if not cut:
            return _Place.OTHER
    elif header is None:  # only a piece of it is left, or it is damaged
        return _Place.GONE if cut else _Place.OTHER
    elif header.journal_id != journal_id:
        return _Place.OTHER
    else:
        before, end = header.first_lsn - 1, SEGMENT_HEADER_BYTES
    if not has_room(lsn - before, offset - end) or not _is_cut_off(
        segment, journal_id, end, offset, before, lsn
    ):
        return _Place.OTHER
    if cut:
        return _Place.GONE
    nothing = next(intact_records(segment, journal_id, segment.number), None) is None
    return _Place.EMPTY if nothing else _Place.OTHER


def _is_cut_off(
    segment: SegmentMap, journal_id: int, start: int, end: int, before: int, lsn: int
) -> bool:
    """Whether nothing of records behind ``before`` and up to ``lsn`` is left between two offsets,
    but a piece of one of them at the end of the file, and that does not say that it waits. (The
    file may have grown again since: then zeros are there.)"""
    at = segment.find(RECORD_MAGIC, start, end)
    if at < 0:
        return True
    size = len(segment.view)
    if at + RECORD_HEADER_BYTES > size:
        return True
    header = parse_header(segment.view, at)
    return (
        header is not None
        and (header.journal_id, header.segment) == (journal_id, segment.number)
        and at + header.length > size
        and has_room(missing_before(header, before), at - start)
        and has_room(lsn - header.lsn, end - at - header.length)
        and (header.kind == Kind.SEAL or read_outcome(segment.view, at, header.lsn) is not None)
    )


def _first_behind(segments: Segments, journal_id: int, at: int) -> tuple[RecordHeader, int] | None:
    """The first intact record or seal behind this position, and its own."""
    for number in (n for n in segment_numbers(segments.directory) if n >= segment_of(at)):
        segment = segments.get(number)
        if segment is None:
            continue
        start = offset_of(at) if number == segment_of(at) else 0
        found = next(intact_records(segment, journal_id, number, start=start), None)
        if found is not None:
            return found[0], position(number, found[1])
    return None


def _was_written(directory: str, control: Control, at: int, lsn: int) -> bool:
    """Whether a record ``lsn`` that ended at position ``at`` can have been there, as its owner has
    published. A damaged page says nothing of it, and one that a power loss may have taken back
    contradicts nothing: its owner is dead, and writes nothing behind it."""
    last, tail = control.tail_lsn, control.tail
    if control.damaged:
        return False
    if control.boot != boot_id() or has_room(last - lsn, tail - at):
        return True
    if lsn - last not in (0, 1) or at <= tail:
        return False
    # A reader takes this one from a dead owner alone: it died before it had published it.
    try:
        return not owner_alive(os.path.join(directory, OWNER_LOCK))
    except OddFileError:
        return False


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
