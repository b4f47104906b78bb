"""Cursors: how far the service has brought a journal's records to a terminal outcome.

Two checksummed slots written in turn: a torn or flipped slot is ignored and the other one, which
is older, counts. An older cursor costs work (records are committed again, which changes nothing)
and never data; that is why a cursor needs no fsync.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

import xxhash

from livingai.errors import OddFileError
from livingai.queue.layout import CURSOR_BYTES, CURSOR_SLOT, CURSOR_SLOT_OFFSETS
from livingai.queue.opening import open_file

NAME = "cursor"
_LAST_GENERATION = 1 << 62


class Cursor(NamedTuple):
    """All records up to ``lsn`` are terminal; ``position`` is where the next one starts."""

    lsn: int
    position: int


def _sum(journal_id: int, generation: int, lsn: int, position: int) -> int:
    return xxhash.xxh3_64_intdigest(
        CURSOR_SLOT.pack(generation, lsn, position, 0), journal_id & 0xFFFF_FFFF_FFFF_FFFF
    )


def create_cursor(directory: str) -> None:
    """Make an empty cursor file."""
    fd = open_file(os.path.join(directory, NAME), os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(fd, 0, CURSOR_BYTES)
    finally:
        os.close(fd)


class CursorFile:
    """A journal's cursor file, open; written by the service, read by anyone."""

    def __init__(self, directory: str, journal_id: int, *, write: bool = False) -> None:
        """With ``write``, one that is not there is made. Raises FileNotFoundError, OSError."""
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        self.directory = directory
        self._fd = open_file(os.path.join(directory, NAME), flags)
        self._journal_id = journal_id
        try:
            if write and not os.fstat(self._fd).st_size:  # takes no room on the disk
                os.ftruncate(self._fd, CURSOR_BYTES)
            self._generation = self._newest()[0]
        except BaseException:
            self.close()
            raise

    def _newest(self) -> tuple[int, int, int]:
        raw = os.pread(self._fd, CURSOR_BYTES, 0)
        best = (0, 0, 0)
        for offset in CURSOR_SLOT_OFFSETS:
            if len(raw) < offset + CURSOR_SLOT.size:
                continue
            generation, lsn, position, stored = CURSOR_SLOT.unpack_from(raw, offset)
            if generation > best[0] and self._intact(generation, lsn, position, stored):
                best = (generation, lsn, position)
        return best

    def read(self) -> Cursor:
        """The newest intact cursor; (0, 0) if there is none."""
        _, lsn, position = self._newest()
        return Cursor(lsn, position)

    def reread(self) -> Cursor:
        """As :meth:`read`, out of the file that has the name now: the service makes another one
        where it was lost."""
        with contextlib.suppress(OSError):  # there is none now, or no descriptor
            path = os.path.join(self.directory, NAME)
            if not os.path.samestat(os.stat(path), os.fstat(self._fd)):
                fd, self._fd = self._fd, open_file(path, os.O_RDONLY)
                os.close(fd)
        return self.read()

    def damaged(self) -> bool:
        """Whether a slot that was written fails its checksum: then a newer cursor may have been
        published than the one that can be read."""
        raw = os.pread(self._fd, CURSOR_BYTES, 0)
        slots = [raw[at : at + CURSOR_SLOT.size] for at in CURSOR_SLOT_OFFSETS]
        return len(raw) < CURSOR_BYTES or any(
            any(slot) and not self._intact(*CURSOR_SLOT.unpack(slot)) for slot in slots
        )

    def _intact(self, generation: int, lsn: int, position: int, stored: int) -> bool:
        return stored == _sum(self._journal_id, generation, lsn, position)

    def write(self, lsn: int, position: int) -> None:
        """Publish a cursor. Raises OSError; the previous one then still counts."""
        if self._generation >= _LAST_GENERATION:  # no number that was counted up: begin anew
            os.pwrite(self._fd, bytes(CURSOR_SLOT_OFFSETS[-1] + CURSOR_SLOT.size), 0)
            self._generation = 0
        self._generation += 1
        generation = self._generation
        slot = CURSOR_SLOT.pack(
            generation, lsn, position, _sum(self._journal_id, generation, lsn, position)
        )
        os.pwrite(self._fd, slot, CURSOR_SLOT_OFFSETS[generation % 2])

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def drained_lsn(directory: str, journal_id: int) -> int | None:
    """All records up to this one are terminal; None if the cursor is missing or damaged."""
    try:
        cursor = CursorFile(directory, journal_id)
    except (FileNotFoundError, OddFileError):
        return None
    try:
        return None if cursor.damaged() else cursor.read().lsn
    finally:
        cursor.close()
