"""Walking over a segment's bytes, and what numbers found there can be true.

A checksum proves that a number is as it was written, not that it is true: a file may belong to
another journal, be an older copy, or be made up. So a record's place is compared with its number: a
record takes at least ``RECORD_HEADER_BYTES``, which bounds how many can have been between two
places. Nothing here loops over a number, only over bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from livingai.queue.layout import (
    ALIGNMENT,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Kind,
)
from livingai.queue.record import RecordHeader, body_intact, parse_header
from livingai.queue.segment import SegmentMap


def intact_records(
    segment: SegmentMap,
    journal_id: int,
    number: int | None,
    *,
    start: int = 0,
    end: int | None = None,
) -> Iterator[tuple[RecordHeader, int]]:
    """Every intact record and seal of a journal between two offsets of a segment, and its offset,
    whatever lies between them; ``number`` is the segment that they say they are of (None: any)."""
    view = segment.view
    end = len(view) if end is None else min(end, len(view))
    at = max(start, SEGMENT_HEADER_BYTES)
    while 0 <= at < end:
        header = parse_header(view, at) if at % ALIGNMENT == 0 else None
        if (
            header is not None
            and header.journal_id == journal_id
            and number in (header.segment, None)
            and body_intact(view, at, header)
        ):
            yield header, at
            at += header.length
        else:
            at = segment.find(RECORD_MAGIC, at + 1, end)


def missing_before(header: RecordHeader, lsn: int) -> int:
    """How many records there are between record ``lsn`` and this one (or this seal's end); negative
    if it is not a later one."""
    return header.lsn - lsn - (header.kind != Kind.SEAL)


def has_room(missing: int, size: int) -> bool:
    """Whether ``missing`` records, none or more, can have been in ``size`` bytes."""
    return 0 <= missing <= size // RECORD_HEADER_BYTES


def contradicted(segment: SegmentMap, at: int, header: RecordHeader, lsn: int, size: int) -> bool:
    """Whether the record at ``at``, which says that some between ``lsn`` and itself are missing, is
    contradicted by what follows: a record that fits to ``lsn`` (``size`` bytes lie between it and
    this place) and not to this one."""
    end = at + header.length
    following = intact_records(segment, header.journal_id, header.segment, start=end)
    found = next(following, None)
    if found is None:
        return False
    later, there = found
    fits_here = has_room(missing_before(later, header.lsn), there - end)
    return not fits_here and has_room(missing_before(later, lsn), size + there - at)
