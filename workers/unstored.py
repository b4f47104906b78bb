"""Records that were accepted and have no outcome yet, counted where they lie; needs no service."""

from __future__ import annotations

import contextlib
import os

from livingai.errors import LivingAIError
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import owner_alive
from livingai.queue.record import read_outcome
from livingai.queue.tail import JournalTail


def count_unstored(directory: StateDirectory) -> int:
    """How many records in the directory's journals wait for the store. A journal that cannot be
    read counts as one record: something is there."""
    total = 0
    for path in directory.journal_paths():
        try:
            total += _count(path)
        except FileNotFoundError:  # its owner has just removed it: all is stored
            continue
        except (OSError, LivingAIError):
            total += 1
    return total


def _count(path: str) -> int:
    with (
        contextlib.closing(Control(path)) as control,
        contextlib.closing(CursorFile(path, control.journal_id)) as file,
    ):
        cursor = file.read()
    count = 0
    alive = owner_alive(os.path.join(path, OWNER_LOCK))
    tail = JournalTail(path, position=cursor.position, after_lsn=cursor.lsn)
    with contextlib.closing(tail):
        for found in tail.read(alive=alive):
            segment = tail.segments.get(found.position >> 32)
            at = found.position & 0xFFFF_FFFF
            if segment is None or read_outcome(segment.view, at, found.header.lsn) is None:
                count += 1
    return count
