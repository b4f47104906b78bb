"""Journals that are not needed any more: the last of owner and service to end removes them.

Owner and service each give up their own lock first, and then look at the other's. So even if both
end at the same moment, one of them sees that the other is gone.

What is not read cannot be told from what was never written, so there is an end that has to be
found: the owner seals the last segment when it closes the journal in order.
"""

from __future__ import annotations

import contextlib
import os

from livingai.errors import LivingAIError
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import remove_journal
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import RECORD_HEADER_BYTES, Kind, offset_of, segment_of
from livingai.queue.lock import OwnerLock
from livingai.queue.record import parse_header
from livingai.queue.tail import JournalTail


def remove_if_stored(path: str) -> bool:
    """Delete a journal that its owner has closed in order and whose records are all terminal; False
    if it is not such a one, or a process owns it."""
    try:
        lock = OwnerLock.acquire(os.path.join(path, OWNER_LOCK))
    except OSError:  # it is gone
        return False
    if lock is None:
        return False
    try:
        stored = _is_stored(path)
        if stored:
            remove_journal(path)
        return stored
    except (OSError, LivingAIError):  # damaged: a reader of it will report that
        return False
    finally:
        lock.release()


def _is_stored(path: str) -> bool:
    with contextlib.closing(Control(path)) as control:
        if control.damaged or not control.closed:
            return False
        with contextlib.closing(CursorFile(path, control.journal_id)) as file:
            cursor = file.read()
        tail_lsn = control.tail_lsn
    # Both are only words in files: the records have to say the same, and their end.
    with contextlib.closing(JournalTail.behind(path, cursor)) as tail:
        if tail.doubt or cursor.lsn != tail_lsn:
            return False
        waits = next(tail.read(alive=False), None) is not None
        return not waits and not tail.damage and _is_end(tail)


def _is_end(tail: JournalTail) -> bool:
    """Whether the place behind the last record is sealed, or has no room for a seal."""
    segment, at = tail.segments.get(segment_of(tail.position)), offset_of(tail.position)
    header = segment.header() if segment is not None else None
    if segment is None or header is None:
        return False
    if at + RECORD_HEADER_BYTES > header.size:
        return True
    seal = parse_header(segment.view, at)
    return (
        seal is not None
        and (seal.kind, seal.lsn) == (Kind.SEAL, tail.lsn)
        and (seal.journal_id, seal.segment) == (tail.journal_id, segment.number)
    )
