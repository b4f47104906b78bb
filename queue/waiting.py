"""What waits in a state directory: accepted records that have no outcome yet, seen from outside."""

from __future__ import annotations

import contextlib

from livingai.errors import LivingAIError
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.owners import agent_alive
from livingai.queue.record import read_outcome
from livingai.queue.segment import segment_numbers
from livingai.queue.tail import JournalTail


def waiting_records(directory: StateDirectory, *, of_dead_owners: bool = False) -> int:
    """How many accepted records of a directory have no outcome yet; with ``of_dead_owners`` only
    those of processes that have ended. Changes nothing. A journal that cannot be read counts as
    one.

    Raises:
        OSError: the directory cannot be looked through.
    """
    count = 0
    for path in directory.journal_paths():
        alive = agent_alive(directory, path)
        if alive and of_dead_owners:
            continue
        try:
            count += _waiting_in(path, alive=alive)
        except (LivingAIError, OSError, ValueError):  # or removed, because everything is stored
            count += bool(_segments(path))
    return count


def _waiting_in(path: str, *, alive: bool) -> int:
    with contextlib.closing(Control(path)) as control:
        journal_id = control.journal_id
    with contextlib.closing(CursorFile(path, journal_id)) as file:
        cursor = file.read()
    count = 0
    start = JournalTail(path, position=cursor.position, after_lsn=cursor.lsn)
    with contextlib.closing(start) as tail:
        for found in tail.read(alive=alive):
            segment = tail.segments.get(segment_of(found.position))
            at = offset_of(found.position)
            if segment is None or read_outcome(segment.view, at, found.header.lsn) is None:
                count += 1
    return count


def _segments(path: str) -> list[int]:
    try:
        return segment_numbers(path)
    except OSError:
        return []
