"""Rescue after a failed fdatasync: what it should have made durable is written again elsewhere.

The kernel reports such a failure once and marks the pages as clean, so a second fdatasync of the
same file succeeds and proves nothing. But the pages are still in the cache: they are read from
there and appended to another segment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

from livingai.errors import CorruptRecordError, JournalError
from livingai.queue.layout import (
    ALIGNMENT,
    MOST_SEGMENTS_BACK,
    SEGMENT_HEADER_BYTES,
    Kind,
    position,
    segment_of,
)
from livingai.queue.patch import base_position, is_patch, with_state
from livingai.queue.record import Record, parse_header, read_outcome, read_record
from livingai.queue.segment import Segment
from livingai.queue.segments import Segments

_FIRST_PAUSE_S: Final = 1.0
_LAST_PAUSE_S: Final = 60.0


def records_of(
    segment: Segment, after: int, last: int, stored: int
) -> Iterator[tuple[int, Record]]:
    """The records of a segment with an lsn above ``after`` and up to ``last``, each behind its
    position, as the page cache has them, without those up to ``stored``, as the cursor says, that
    have their outcome. One that it no longer has is left out; a reader will find it damaged."""
    raw = b""
    while len(raw) < segment.used:
        part = os.pread(segment.fd, segment.used - len(raw), len(raw))
        if not part:
            break
        raw += part
    offset = SEGMENT_HEADER_BYTES
    while offset < segment.used:
        header = parse_header(raw, offset)
        if header is None or header.segment != segment.number:
            offset += ALIGNMENT
            continue
        waits = header.lsn > stored or read_outcome(raw, offset, header.lsn) is None
        if header.kind == Kind.WRITE and after < header.lsn <= last and waits:
            try:
                yield position(segment.number, offset), read_record(raw, offset, header)
            except CorruptRecordError:
                offset += ALIGNMENT
                continue
        offset += header.length


class Copies:
    """Where the records of segments that failed are copied to, and what patches among them build
    on: the copy of their base, if that is copied, too. A base that is stored is not copied, and its
    place may be gone at any time: then the state is written whole."""

    def __init__(self, directory: str, failed: set[int]) -> None:
        """``failed``: numbers of all segments whose fdatasync has failed at some time."""
        self._failed = failed
        self._segments = Segments(directory)
        #: Position of each copy, by the position of what it is a copy of.
        self.made: dict[int, int] = {}

    def plan(self, old: Record, segment: int) -> tuple[Record, int]:
        """What to write for a record into this segment or the next, and the position of its base;
        0: its state is whole."""
        if not is_patch(old.header):
            return old, 0
        base = base_position(old.header)
        base = self.made.get(base, base)
        if segment_of(base) in self._failed or segment + 1 - segment_of(base) > MOST_SEGMENTS_BACK:
            with contextlib.suppress(CorruptRecordError, OSError):  # the store may have its base
                return with_state(self._segments, old), 0
        return old, base

    def close(self) -> None:
        """Unmap what was read."""
        self._segments.close()


class Pause:
    """A growing pause between attempts while the disk fails: each one writes everything again."""

    def __init__(self) -> None:
        self._error: JournalError | None = None
        self._until = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def check(self) -> None:
        """Raise the last error again while the pause lasts."""
        if self._error is not None and time.monotonic() < self._until:
            raise self._error

    def begin(self, error: JournalError) -> None:
        """An attempt has failed: pause, twice as long as the last time."""
        if error is not self._error:
            self._error = error
            self._until = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LAST_PAUSE_S)

    def end(self) -> None:
        """The disk works, or did until now."""
        self._error = None
        self._pause_s = _FIRST_PAUSE_S
