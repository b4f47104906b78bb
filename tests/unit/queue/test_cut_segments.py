"""Segments that another program has cut short: what was cut off is said to be lost, and nothing
else is."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from livingai.queue.cursor import CursorFile
from livingai.queue.damage import Damage
from livingai.queue.layout import SEGMENT_HEADER_BYTES, offset_of, segment_of
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from livingai.workers.dispatcher.feed import Feed
from tests.support.clocks import Clocks
from tests.support.journals import (
    Consumer,
    Writer,
    flip_in_record,
    garbage,
    records,
    state_directory,
)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """An owner that has not died yet."""
    return Writer(state_directory(tmp_path / "state"))


def fill(writer: Writer, segments: int, *, more: int = 0) -> None:
    """Write up to the first record of that segment, and ``more`` behind it."""
    while writer.journal._segment.number < segments:
        writer.save("run-1", garbage(1, 500))
    for number in range(more):
        writer.save("run-1", garbage(number, 500))


def take(writer: Writer, count: int) -> None:
    """Store so many records."""
    with closing(Consumer(writer.journal.directory)) as consumer:
        assert len(consumer.take(count)) == count


def cut(writer: Writer, lsn: int) -> None:
    """Cut a segment exactly before this record."""
    (at,) = (f.position for f in records(writer.journal.directory) if f.header.lsn == lsn)
    path = Path(writer.journal.directory, segment_name(segment_of(at)))
    os.truncate(path, offset_of(at))


def read(writer: Writer) -> tuple[list[int], list[Damage]]:
    """What a service that comes finds, and what it misses."""
    found = []
    with closing(Feed(writer.journal.directory)) as feed:
        feed.check_owner()
        while not feed.exhausted or feed.ahead:
            feed.read_ahead()
            found += [each.header.lsn for each in feed.ahead]
            feed.ahead.clear()
        return found, list(feed.damage)


def lost(damage: list[Damage]) -> list[tuple[int, int]]:
    return [(each.first_lsn, each.last_lsn) for each in damage if each.count]


@pytest.mark.parametrize("stored", [1, 2, 3, 5])
@pytest.mark.parametrize("first", [2, 3, 5])
def test_the_only_segment(writer: Writer, stored: int, first: int) -> None:
    """Only the owner has said that there was more, and only the cursor that some of it is stored:
    its file ends below its place, or above it."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, stored)
    writer.die()
    cut(writer, first)
    found, damage = read(writer)
    assert found == list(range(stored + 1, first))
    assert lost(damage) == [(max(first, stored + 1), 6)]


def test_all_of_it_was_stored(writer: Writer) -> None:
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 6)
    writer.die()
    cut(writer, 2)
    assert read(writer) == ([], [])


@pytest.mark.parametrize("size", [0, 1, SEGMENT_HEADER_BYTES - 1, SEGMENT_HEADER_BYTES])
def test_nothing_is_left_but_a_piece_of_the_header(writer: Writer, size: int) -> None:
    """And the cursor is damaged, so that nothing says that anything was stored."""
    fill(writer, 2)
    writer.die()
    first = writer.journal.tail_lsn
    os.truncate(Path(writer.journal.directory, segment_name(1)), size)
    Path(writer.journal.directory, "cursor").write_bytes(b"\xff" * 256)
    found, damage = read(writer)
    assert found == [first]
    assert lost(damage) == [(1, first - 1)]


def say_stored(writer: Writer, lsn: int, place: int) -> None:
    """Have the cursor say that all up to record ``lsn`` are stored, and that record ``place`` ends
    there."""
    (last,) = (f for f in records(writer.journal.directory) if f.header.lsn == place)
    with closing(CursorFile(writer.journal.directory, writer.journal.id, write=True)) as file:
        file.write(lsn, last.position + last.header.length)


@pytest.mark.parametrize(
    ("stored", "lsn", "place", "first", "left"),
    [
        (1, 4, 4, 3, [1, 2]),  # a record that is there says that it is not stored
        (3, 2, 5, 4, [1, 2, 3]),  # one that is there comes later than that
        (2, 7, 6, 3, [1, 2]),  # that record was never written
        (2, 5, 3, 3, [1, 2]),  # so many have no room
    ],
)
def test_a_cursor_that_what_is_left_gives_the_lie(
    writer: Writer, stored: int, lsn: int, place: int, first: int, left: list[int]
) -> None:
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, stored)
    writer.die()
    say_stored(writer, lsn, place)
    cut(writer, first)
    found, damage = read(writer)
    assert found == left
    assert lost(damage) == [(first, 6)]


def test_a_cursor_ahead_of_a_living_owner_is_not_true(writer: Writer) -> None:
    """What it writes next would be passed over."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 2)
    say_stored(writer, 9, 6)
    cut(writer, 3)
    with closing(Feed(writer.journal.directory)) as feed:
        for number in range(5):
            writer.save("run-1", garbage(number, 100))
        found: list[int] = []
        while not found or feed.ahead:
            feed.read_ahead()
            found += [each.header.lsn for each in feed.ahead]
            feed.ahead.clear()
        assert found == [1, 2, *range(7, 12)]
        assert lost(list(feed.damage)) == [(3, 6)]
    writer.close()


@pytest.mark.parametrize("how", ["its owner", "an outcome"])
def test_the_file_has_grown_again(writer: Writer, how: str) -> None:
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 4)
    (last,) = (f for f in records(writer.journal.directory) if f.header.lsn == 6)
    cut(writer, 3)
    if how == "its owner":
        writer.save("run-1", b"more")
    else:
        with closing(Segments(writer.journal.directory)) as segments:
            segments.write_outcome(last.position, 6, 1, 1)
    writer.die()
    found, damage = read(writer)
    assert found == ([7] if how == "its owner" else [])
    assert lost(damage) == [(5, 6)]


@pytest.mark.parametrize("ahead", [False, True])
def test_nothing_is_left_below_the_cursor(writer: Writer, ahead: bool) -> None:
    """It is true, unless what comes next gives it the lie."""
    fill(writer, 2, more=2)
    first = writer.journal.tail_lsn - 2
    take(writer, first - 2)
    if ahead:
        say_stored(writer, first, first - 1)
    writer.die()
    os.truncate(Path(writer.journal.directory, segment_name(1)), 0)
    found, damage = read(writer)
    assert found == [first, first + 1, first + 2]
    assert lost(damage) == ([] if ahead else [(first - 1, first - 1)])


def test_the_only_segment_has_nothing_left(writer: Writer) -> None:
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 4)
    writer.die()
    os.truncate(Path(writer.journal.directory, segment_name(1)), 0)
    assert read(writer)[0] == []
    assert lost(read(writer)[1]) == [(5, 6)]


def test_what_the_next_segment_has_left_is_kept(writer: Writer) -> None:
    """Its first record is damaged, and the one before ends in order: the bytes are evidence."""
    fill(writer, 2, more=2)
    first = writer.journal.tail_lsn - 2
    (at,) = (f for f in records(writer.journal.directory) if f.header.lsn == first)
    writer.die()
    cut(writer, first - 2)
    flip_in_record(writer.journal.directory, at, 200)
    found, damage = read(writer)
    assert found == [*range(1, first - 2), first + 1, first + 2]
    (only,) = damage
    assert (only.first_lsn, only.last_lsn) == (first - 2, first)
    assert (only.position, only.length) == (at.position, at.header.length)


@pytest.mark.parametrize("rebooted", [False, True])
def test_an_empty_segment_behind_it(tmp_path: Path, rebooted: bool) -> None:
    """Its owner died as it had made the next one, and the cursor is damaged."""
    clocks = Clocks(Random(1))
    clocks.power_loss()
    with clocks.shown():
        writer = Writer(state_directory(tmp_path / "state"))
        fill(writer, 2)
        writer.die()
    last = writer.journal.tail_lsn - 1
    second = Path(writer.journal.directory, segment_name(2))
    second.write_bytes(second.read_bytes()[:SEGMENT_HEADER_BYTES].ljust(4096, b"\0"))
    cut(writer, 3)
    Path(writer.journal.directory, "cursor").write_bytes(b"\xff" * 256)
    if rebooted:
        clocks.power_loss()
    with clocks.shown():
        found, damage = read(writer)
    assert found == [1, 2]
    assert lost(damage)[0] == (3, last if rebooted else last + 1)
