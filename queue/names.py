"""Files of a journal that were renamed: given their names back, where those are certain."""

from __future__ import annotations

import contextlib
import os

from livingai.queue.layout import SEGMENT_HEADER_BYTES, SEGMENT_NUMBERS, segment_of
from livingai.queue.record import parse_header
from livingai.queue.segment import segment_name, segment_numbers
from livingai.queue.segments import Segments


def put_back_names(segments: Segments, journal_id: int, cursor: int) -> list[tuple[int, int]]:
    """Give segments that were renamed their own numbers again, if those are free; (name,
    number) of each. ``cursor``: all records before this position are terminal.

    Call it with the lock of a dead owner held: a living one renames files itself, before it gives
    them another number. One that died in between has left a file whose records are terminal, which
    is not needed any more. Raises OSError.
    """
    done: list[tuple[int, int]] = []
    numbers = set(segment_numbers(segments.directory))
    found = _misnamed(segments, journal_id, segment_of(cursor))
    # One after the other: a number may be free only once the file that bears it has its own.
    while ready := [pair for pair in found if pair[1] not in numbers]:
        name, number = ready[0]
        found.remove((name, number))
        segments.drop(name)
        os.rename(
            os.path.join(segments.directory, segment_name(name)),
            os.path.join(segments.directory, segment_name(number)),
        )
        done.append((name, number))
        numbers.remove(name)
        numbers.add(number)
    return done


def _misnamed(segments: Segments, journal_id: int, oldest: int) -> list[tuple[int, int]]:
    """Segments of this journal whose first record is of another number than the file's name, from
    number ``oldest`` on: name and number."""
    found: list[tuple[int, int]] = []
    for name in segment_numbers(segments.directory):
        segment = segments.get(name)
        if segment is None:
            continue
        first = parse_header(segment.view, SEGMENT_HEADER_BYTES)
        if first is None or first.journal_id != journal_id or segment.header() is not None:
            continue
        if oldest <= first.segment < SEGMENT_NUMBERS and first.segment:
            found.append((name, first.segment))
    return found


def put_aside(path: str, folder: str) -> str:
    """Move whatever is under ``path`` into a folder, out of the way; where it is then. Raises
    OSError."""
    where = os.path.join(folder, f"{os.path.basename(os.path.dirname(path))}-")
    where += f"{os.path.basename(path)}.odd"
    number = 0
    while os.path.lexists(f"{where}{number or ''}"):
        number += 1
    where = f"{where}{number or ''}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, where)
    return where
