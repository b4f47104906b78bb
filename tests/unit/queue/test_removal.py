"""Removing a closed journal without a service: only if all of it is stored, whatever words say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.control import NAME as CONTROL
from livingai.queue.cursor import CursorFile
from livingai.queue.layout import RECORD_HEADER_BYTES, ControlWord, offset_of
from livingai.queue.removal import remove_if_stored
from livingai.queue.segment import segment_name
from tests.support.journals import (
    Consumer,
    Writer,
    overwrite,
    records,
    segment_files,
    state_directory,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(state_directory(tmp_path))
    for number in range(3):
        made.save("run-1", b"%d" % number * 100)
    yield made
    made.cache.close()


def store(writer: Writer, count: int = 3) -> None:
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take(count)


def removed(writer: Writer) -> bool:
    """Whether it was removed; it is there, or it is not."""
    said = remove_if_stored(writer.journal.directory)
    assert os.path.isdir(writer.journal.directory) is not said
    return said


def test_a_closed_journal_whose_records_are_stored(writer: Writer) -> None:
    store(writer)
    assert not removed(writer), "its owner lives"
    writer.journal.close()
    assert removed(writer)
    assert not remove_if_stored(writer.journal.directory), "it is gone"


def test_one_whose_owner_was_killed_stays(writer: Writer) -> None:
    """A service has to look for what it did not live to publish."""
    store(writer)
    writer.die()
    assert not removed(writer)


@pytest.mark.parametrize("count", [0, 2])
def test_one_with_records_that_wait_stays(writer: Writer, count: int) -> None:
    if count:
        store(writer, count)
    writer.journal.close()
    assert not removed(writer)


def test_one_whose_cursor_is_not_true_stays(writer: Writer) -> None:
    """It is behind the last record, of which nobody knows the outcome."""
    store(writer, 2)
    writer.journal.close()
    journal = writer.journal.directory
    last = records(journal)[-1]
    with closing(CursorFile(journal, writer.journal.id, write=True)) as file:
        file.write(last.header.lsn, last.position + last.header.length)
    assert not removed(writer)


def test_one_with_more_records_than_its_page_says_stays(writer: Writer) -> None:
    store(writer, 2)
    writer.journal.close()
    page = Path(writer.journal.directory, CONTROL)
    overwrite(page, 8 * ControlWord.TAIL_LSN, (2).to_bytes(8, "little"))
    assert not removed(writer)


@pytest.mark.parametrize("size", [64, 300, 1 << 20], ids=["header", "most of it", "its end, too"])
def test_one_whose_last_record_is_damaged_and_not_published_stays(
    writer: Writer, size: int
) -> None:
    """Neither the record nor the page says that it was there."""
    store(writer, 2)
    journal = writer.journal.directory
    last = records(journal)[-1]
    writer.journal.close()
    segment, page = segment_files(journal)[0], Path(journal, CONTROL)
    overwrite(segment, offset_of(last.position), bytes(min(size, last.header.length + 128)))
    overwrite(page, 8 * ControlWord.TAIL_LSN, (2).to_bytes(8, "little"))
    overwrite(page, 8 * ControlWord.TAIL, last.position.to_bytes(8, "little"))
    assert not removed(writer)


def test_one_that_has_no_room_for_a_seal_is_removed(tmp_path: Path) -> None:
    writer = Writer(state_directory(tmp_path))
    room = writer.journal._segment.size - writer.journal._segment.used
    writer.save("run-1", b"")
    length = records(writer.journal.directory)[0].header.length
    left = room - 2 * length
    writer.save("run-1", b"x" * (left // 64 * 64))
    assert room - writer.journal._segment.used < RECORD_HEADER_BYTES
    store(writer, 2)
    writer.journal.close()
    assert removed(writer)
    writer.cache.close()


def test_one_that_an_earlier_livingai_has_closed_stays(writer: Writer) -> None:
    """It has no seal, and might have records that nothing shows; the next service looks."""
    store(writer)
    end = writer.journal._segment.used
    writer.journal.close()
    overwrite(segment_files(writer.journal.directory)[0], end, bytes(RECORD_HEADER_BYTES))
    assert not removed(writer)


def test_one_whose_page_says_more_than_is_stored_stays(writer: Writer) -> None:
    """All that is found is stored; but it has promised one more, and nobody knows where that is."""
    store(writer)
    writer.journal.close()
    page = Path(writer.journal.directory, CONTROL)
    overwrite(page, 8 * ControlWord.TAIL_LSN, (4).to_bytes(8, "little"))
    assert not removed(writer)


def test_one_with_a_segment_of_another_journal_stays(writer: Writer, tmp_path: Path) -> None:
    """Somebody has to look at it."""
    store(writer)
    writer.journal.close()
    with closing(Writer(state_directory(tmp_path / "other"))) as other:
        other.save("run-1", b"x")
        (strange,) = segment_files(other.journal.directory)
        shutil.copy(strange, Path(writer.journal.directory, segment_name(2)))
    assert not removed(writer)
