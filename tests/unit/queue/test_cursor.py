"""Cursors: two slots in turn, of which the newest intact one counts."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.queue.cursor import NAME, Cursor, CursorFile, create_cursor, drained_lsn
from livingai.queue.layout import CURSOR_SLOT, CURSOR_SLOT_OFFSETS
from tests.support.journals import failing, flip

JOURNAL = 0x1234


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[CursorFile]:
    create_cursor(str(tmp_path))
    file = CursorFile(str(tmp_path), JOURNAL, write=True)
    yield file
    file.close()


def read(folder: Path, journal: int = JOURNAL) -> Cursor:
    """What another process reads."""
    file = CursorFile(str(folder), journal)
    try:
        return file.read()
    finally:
        file.close()


def leading_to(path: Path) -> list[str]:
    """The descriptors of this process that lead to a file. (How many there are at all changes under
    a test: others that earlier tests left are closed when their owners are collected.)"""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            if os.readlink(f"/proc/self/fd/{name}") == os.path.realpath(path):
                found.append(name)
    return found


def test_descriptors_are_found(tmp_path: Path, cursor: CursorFile) -> None:
    assert leading_to(tmp_path / NAME) == [str(cursor._fd)]


def test_the_newest_counts(tmp_path: Path, cursor: CursorFile) -> None:
    assert read(tmp_path) == Cursor(0, 0)
    for lsn in range(1, 6):
        cursor.write(lsn, 100 * lsn)
        assert read(tmp_path) == Cursor(lsn, 100 * lsn)
    assert drained_lsn(str(tmp_path), JOURNAL) == 5


def test_who_opens_it_goes_on_where_it_was(tmp_path: Path, cursor: CursorFile) -> None:
    for lsn in range(1, 4):
        cursor.write(lsn, lsn)
    cursor.close()
    again = CursorFile(str(tmp_path), JOURNAL, write=True)
    again.write(9, 900)
    again.close()
    assert read(tmp_path) == Cursor(9, 900)


@pytest.mark.parametrize("writes", [2, 3])
def test_a_damaged_slot_leaves_the_one_before(
    tmp_path: Path, cursor: CursorFile, writes: int
) -> None:
    for lsn in range(1, writes + 1):
        cursor.write(lsn, 100 * lsn)
    for bit in range(8 * CURSOR_SLOT.size):
        place = 8 * CURSOR_SLOT_OFFSETS[writes % 2] + bit
        flip(tmp_path / NAME, place)
        assert read(tmp_path) == Cursor(writes - 1, 100 * (writes - 1)), f"bit {bit}"
        assert drained_lsn(str(tmp_path), JOURNAL) is None, "a newer one may have been there"
        flip(tmp_path / NAME, place)


def test_a_cursor_of_another_journal_does_not_count(tmp_path: Path, cursor: CursorFile) -> None:
    cursor.write(1, 100)
    assert read(tmp_path, JOURNAL + 1) == Cursor(0, 0)
    assert drained_lsn(str(tmp_path), JOURNAL + 1) is None


@pytest.mark.parametrize("function", ["ftruncate", "pread"])
def test_one_that_cannot_be_used_is_closed(tmp_path: Path, function: str) -> None:
    with failing(function, errno.EIO), pytest.raises(OSError, match="Input/output"):
        CursorFile(os.fspath(tmp_path), 1, write=True)
    assert not leading_to(tmp_path / NAME)


def test_no_cursor(tmp_path: Path) -> None:
    assert drained_lsn(str(tmp_path), JOURNAL) is None
