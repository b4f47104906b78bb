"""Rescue after a failed fdatasync: what it should have made durable is written again elsewhere.

The kernel reports such a failure once and marks the pages as clean, so a second fdatasync of the
same file succeeds and proves nothing. But the pages are still in the cache: they are read from
there and appended to another segment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Final

from livingai.errors import CorruptRecordError, JournalError
from livingai.queue.layout import ALIGNMENT, SEGMENT_HEADER_BYTES, Kind
from livingai.queue.record import Bytes, Record, pack_record, parse_header, read_record
from livingai.queue.segment import Segment

_FIRST_PAUSE_S: Final = 1.0
_LAST_PAUSE_S: Final = 60.0


def records_of(segment: Segment, after: int, last: int) -> Iterator[Record]:
    """The records of a segment with an lsn above ``after`` and up to ``last``, as the page cache
    has them. One that it no longer has is left out; a reader will find it damaged."""
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
        if header.kind == Kind.WRITE and after < header.lsn <= last:
            try:
                yield read_record(raw, offset, header)
            except CorruptRecordError:
                offset += ALIGNMENT
                continue
        offset += header.length


def copy_record(old: Record, segment: int, lsn: int) -> list[Bytes]:
    """The parts of a record that is the same write as ``old``, elsewhere in the journal."""
    header = old.header
    packed = pack_record(
        kind=header.kind, flags=header.flags, state_kind=header.state_kind,
        journal_id=header.journal_id, segment=segment, lsn=lsn, claim=header.claim,
        epoch=header.epoch, seq=header.seq, mono_ns=header.mono_ns, wall_ns=header.wall_ns,
        key=header.execution_hash, node=old.node, ext=old.ext, state=old.state,
        budget_us=header.budget_us, length=header.length,
    )  # fmt: skip
    return [packed, old.node, old.ext, old.state]


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
