"""May a segment be used again? Its owner looks at the outcomes, whatever the cursor says.

A cursor that is not true would have the owner give away records that no store has: a file can be
an older copy, or be made up, and who finds that out (:mod:`livingai.queue.resume`) may not be able
to correct it at once, or may not be there. So the cursor only says where to look. The service
writes an outcome into each record that it has done with (it does not move the cursor before), and
that is in the very segment that is to be given away. Only damaged records have none.

The file is read, not mapped: a page that the disk does not give back would end the process. What is
in a file that has lost its name cannot be stored by anybody, so that does not keep its segment.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left

from livingai.queue.layout import OUTCOME_OFFSET, RECORD_HEADER_BYTES
from livingai.queue.record import body_intact, parse_header
from livingai.queue.segment import Segment

#: So much of a segment is looked at in one go, with the journal locked: well under 1 ms, unless it
#: has to come from the disk.
_AT_ONCE_BYTES = 256 << 10


def is_settled(segment: Segment, journal_id: int) -> bool:
    """Whether each intact record of a segment of this process has an outcome; each is looked at
    until it has. False, too, if that cannot be seen now."""
    while look(segment, journal_id):
        pass
    return segment.settled == len(segment.outcomes)


def look(segment: Segment, journal_id: int) -> bool:
    """Look at some records of a segment that were not looked at, or had no outcome then; whether
    there were any, and each has its outcome now (or is damaged)."""
    first = segment.settled
    if first == len(segment.outcomes):
        return False
    end = bisect_left(segment.outcomes, segment.outcomes[first] + (_AT_ONCE_BYTES >> 3), first)
    try:
        if os.fstat(segment.fd).st_nlink:
            waiting = _without_outcome(segment, first, end)
            if any(_is_intact(segment, journal_id, place) for place in waiting):
                return False
    except OSError:
        return False
    segment.settled = end
    return True


def _without_outcome(segment: Segment, first: int, end: int) -> list[int]:
    """Where there is no outcome among those of the records ``first`` to ``end`` (not included). A
    word that is damaged was one. Raises OSError."""
    places = segment.outcomes[first:end]
    start = places[0]
    try:
        raw = os.pread(segment.fd, (places[-1] + 1 - start) << 3, start << 3)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return list(places)  # the disk does not give all of them back: each is looked at
    words = memoryview(raw[: len(raw) & -8]).cast("Q")
    known = places[: bisect_left(places, start + len(words))]  # it may have been cut short
    return [place for place in known if not words[place - start]]


def _is_intact(segment: Segment, journal_id: int, place: int) -> bool:
    """Whether a record is intact, and has no outcome. What the disk does not give back is not.
    Raises OSError."""
    at = (place << 3) - OUTCOME_OFFSET
    try:
        raw = os.pread(segment.fd, RECORD_HEADER_BYTES, at)
        header = parse_header(raw, 0) if len(raw) == RECORD_HEADER_BYTES else None
        if header is None or raw[OUTCOME_OFFSET : OUTCOME_OFFSET + 8] != bytes(8):
            return False
        ours = (header.journal_id, header.segment) == (journal_id, segment.number)
        return ours and body_intact(os.pread(segment.fd, header.length, at), 0, header)
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        raise
