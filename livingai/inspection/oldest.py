"""Where the oldest records of a journal begin: what its segments say of a cursor that is lost."""

from __future__ import annotations

from livingai.queue.cursor import Cursor
from livingai.queue.layout import SEGMENT_HEADER_BYTES, position
from livingai.queue.segment import segment_numbers
from livingai.queue.segments import Segments
from livingai.queue.walk import intact_records


def oldest_cursor(segments: Segments, journal_id: int) -> Cursor:
    """The cursor before all that the segments hold. Records before that were terminal if their
    segments have been used again, and not if somebody has deleted these: see :func:`unknown`.
    (0, 0) if the oldest segment does not say how many there were.
    """
    for number in segment_numbers(segments.directory):
        segment = segments.get(number)
        if segment is None:
            continue
        header = segment.header()
        if header is not None and header.journal_id == journal_id:
            before = position(number - 1, SEGMENT_HEADER_BYTES)  # in the one that was used again
            return Cursor(header.first_lsn - 1, before) if header.first_lsn > 1 else Cursor(0, 0)
        if header is None or next(intact_records(segment, journal_id, number), None) is not None:
            break
    return Cursor(0, 0)


def unknown(first: int, last: int) -> str:
    """What is to be said of records before the oldest ones, if the cursor does not pass them."""
    what = f"record {last} is" if first == last else f"records {first} to {last} are"
    return (
        f"{what} not there: stored before the segment was used again, or deleted with it; "
        "without the cursor nothing tells"
    )
