"""Journals that are not needed any more: the last of owner and service to end removes them.

Owner and service each give up their own lock first, and then look at the other's. So even if both
end at the same moment, one of them sees that the other is gone.
"""

from __future__ import annotations

import contextlib
import os

from livingai.errors import LivingAIError
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import remove_journal
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import OwnerLock
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
    # Both are only words in files: the records have to say the same.
    position, lsn = cursor.position, cursor.lsn
    with contextlib.closing(JournalTail(path, position=position, after_lsn=lsn)) as tail:
        if tail.doubt or lsn != tail_lsn:
            return False
        return next(tail.read(alive=False), None) is None and not tail.damage
