"""Segments of another journal than the one in whose folder they lie."""

from __future__ import annotations

from livingai.queue.layout import Kind
from livingai.queue.record import read_outcome
from livingai.queue.segment import SegmentHeader, SegmentMap, parse_segment_header
from livingai.queue.walk import intact_records


def foreign(segment: SegmentMap, journal_id: int) -> SegmentHeader | None:
    """The header of a segment that another journal than this one has written; None if it is not
    such a segment. Under a name that is not its own it has to hold records to be one."""
    header = parse_segment_header(segment.view)
    if header is None or header.journal_id == journal_id:
        return None
    if header.number != segment.number and not records_of(segment, header):
        return None
    return header


def records_of(segment: SegmentMap, header: SegmentHeader, *, waiting: bool = False) -> set[int]:
    """The numbers of the records that a segment holds, or of those without an outcome."""
    return {
        record.lsn
        for record, at in intact_records(segment, header.journal_id, header.number)
        if record.kind == Kind.WRITE
        and not (waiting and read_outcome(segment.view, at, record.lsn) is not None)
    }
