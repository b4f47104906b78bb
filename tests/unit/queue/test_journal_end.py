"""What one wrong word of the control page says of a dead owner's journal."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.layout import ControlWord, segment_of
from livingai.workers.dispatcher.feed import Feed
from tests.support.journals import Consumer, Writer, flip, read_all, state_directory


@pytest.mark.parametrize("records", [0, 3])
def test_a_flipped_bit_of_the_tails_number_is_no_damage(tmp_path: Path, records: int) -> None:
    """All records are there, and the tail itself says that there are no more."""
    writer = Writer(state_directory(tmp_path))
    for number in range(records):
        writer.save("run-1", b"%d" % number)
    writer.die()
    for bit in range(64 * ControlWord.TAIL_LSN, 64 * (ControlWord.TAIL_LSN + 1)):
        flip(os.path.join(writer.journal.directory, "control"), bit)
        found, tail = read_all(writer.journal.directory)
        assert (len(found), tail.damage) == (records, [])
        flip(os.path.join(writer.journal.directory, "control"), bit)


def test_records_of_a_missing_last_segment_are_reported(tmp_path: Path) -> None:
    """The last segment is missing, and the records in it are reported."""
    writer = Writer(state_directory(tmp_path))
    while writer.journal._segment.number < 2:
        writer.save("run-1", b"state" * 100)
    before = writer.journal._segment.first_lsn or writer.journal.tail_lsn
    writer.die()
    os.unlink(os.path.join(writer.journal.directory, "0000000002.seg"))
    found, tail = read_all(writer.journal.directory)
    assert len(found) == before - 1
    (damage,) = tail.damage
    assert (damage.first_lsn, damage.last_lsn) == (before, writer.journal.tail_lsn)


@pytest.mark.parametrize("size", [1, 100, 128, 200])
def test_records_behind_a_cursor_whose_segment_was_cut_short_are_reported(
    tmp_path: Path, size: int
) -> None:
    """The first segment ends before its first record does: of its records two are stored, the
    others are lost, and the cursor says which."""
    writer = Writer(state_directory(tmp_path))
    while writer.journal._segment.number < 2:
        writer.save("run-1", b"state" * 100)
    consumer = Consumer(writer.journal.directory)
    consumer.take(2)
    consumer.close()
    writer.die()
    path = Path(writer.journal.directory, "0000000001.seg")
    os.truncate(path, size)
    feed = Feed(writer.journal.directory)
    try:
        feed.check_owner()
        feed.read_ahead()
        assert [segment_of(found.position) for found in feed.ahead] == [2]
        assert [(each.first_lsn, each.last_lsn) for each in feed.damage] == [
            (3, feed.ahead[0].header.lsn - 1)
        ]
    finally:
        feed.close()


@pytest.mark.parametrize("stored", [1, 2, 3])
def test_a_death_between_the_last_seal_and_the_end(tmp_path: Path, stored: int) -> None:
    """The journal is sealed and not said to be closed: a dead owner's, with all of its records."""
    writer = Writer(state_directory(tmp_path))
    for number in range(3):
        writer.save("run-1", b"%d" % number)
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take(stored)
    with writer.journal.lock:
        writer.journal._seal(writer.journal._segment)
    writer.die()
    with closing(Feed(writer.journal.directory)) as feed:
        feed.check_owner()
        feed.read_ahead()
        assert [found.header.lsn for found in feed.ahead] == [1, 2, 3][stored:]
        feed.ahead.clear()
        feed.read_ahead()
        assert feed.exhausted
        assert not feed.damage
