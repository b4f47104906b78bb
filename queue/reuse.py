"""May a segment be used again? Its owner looks at the outcomes, whatever the cursor says.

A cursor that is not true would have the owner give away records that no store has: a file can be
an older copy, or be made up, and who finds that out (:mod:`livingai.queue.resume`) may not be able
to correct it at once, or may not be there. So the cursor only says where to look. The service
writes an outcome into each record that it has done with (it does not move the cursor before), and
that is in the very segment that is to be given away. Only damaged records have none.
"""

from __future__ import annotations

import os
from bisect import bisect_left

from livingai.queue.layout import OUTCOME_OFFSET
from livingai.queue.mapping import map_file
from livingai.queue.record import body_intact, parse_header
from livingai.queue.segment import Segment


def is_settled(segment: Segment, journal_id: int) -> bool:
    """Whether each intact record of a segment of this process has an outcome; each is looked at
    until it has. False, too, if that cannot be seen now."""
    look(segment, journal_id, len(segment.outcomes))
    return segment.settled == len(segment.outcomes)


def look(segment: Segment, journal_id: int, most: int) -> bool:
    """Look at up to ``most`` records of a segment that were not looked at, or had no outcome then;
    whether there were any, and each has its outcome now (or is damaged)."""
    end = min(segment.settled + most, len(segment.outcomes))
    if segment.settled == end:
        return False
    try:
        size = min(os.fstat(segment.fd).st_size, segment.size) & -8
        if size and _waits(segment, journal_id, size, end):
            return False
    except (OSError, ValueError):  # no memory for a mapping, or cut short this moment
        return False
    segment.settled = end
    return True


def _waits(segment: Segment, journal_id: int, size: int, end: int) -> bool:
    """Whether one of its records is intact and has no outcome. A word that is damaged was one."""
    with map_file(segment.fd, size) as mapped, memoryview(mapped) as view, view.cast("Q") as words:
        end = min(end, bisect_left(segment.outcomes, len(words)))  # it may have been cut short
        places = segment.outcomes[segment.settled : end]
        if all(map(words.__getitem__, places)):
            return False
        for place in places:
            at = (place << 3) - OUTCOME_OFFSET
            header = None if words[place] else parse_header(view, at)
            if (
                header is not None
                and (header.journal_id, header.segment) == (journal_id, segment.number)
                and body_intact(view, at, header)
            ):
                return True
    return False
