"""Segments that another program has cut short: what was cut off is said to be lost, and nothing
else is."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from livingai.queue.cursor import Cursor, CursorFile
from livingai.queue.damage import Damage
from livingai.queue.layout import SEGMENT_HEADER_BYTES, offset_of, position, segment_of
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from livingai.queue.tail import JournalTail
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


def cut(writer: Writer, lsn: int, more: int = 0) -> None:
    """Cut a segment exactly before this record, or so many bytes behind its beginning."""
    (at,) = (f.position for f in records(writer.journal.directory) if f.header.lsn == lsn)
    path = Path(writer.journal.directory, segment_name(segment_of(at)))
    os.truncate(path, offset_of(at) + more)


def damage_cursor(writer: Writer) -> None:
    """Then nothing says that anything was stored."""
    Path(writer.journal.directory, "cursor").write_bytes(b"\xff" * 256)


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


@pytest.mark.parametrize("more", [0, 2, 8, 120, 127, 128, 192])
@pytest.mark.parametrize("stored", [1, 2, 3, 5])
@pytest.mark.parametrize("first", [2, 3, 5])
def test_the_only_segment(writer: Writer, stored: int, first: int, more: int) -> None:
    """Only the owner has said that there was more, and only the cursor that some of it is stored:
    its file ends below its place, or above it, between two records or within one."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, stored)
    writer.die()
    cut(writer, first, more)
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
    damage_cursor(writer)
    found, damage = read(writer)
    assert found == [first]
    assert lost(damage) == [(1, first - 1)]


def say_stored(writer: Writer, lsn: int, place: int, by: int = 0) -> None:
    """Have the cursor say that all up to record ``lsn`` are stored, at the end of record ``place``,
    or so many bytes behind it."""
    (last,) = (f for f in records(writer.journal.directory) if f.header.lsn == place)
    with closing(CursorFile(writer.journal.directory, writer.journal.id, write=True)) as file:
        file.write(lsn, last.position + last.header.length + by)


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


def test_what_is_left_of_a_record_says_that_it_waits(writer: Writer) -> None:
    """Its body is cut off, and its header has no outcome."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 2)
    writer.die()
    say_stored(writer, 4, 4)
    cut(writer, 3, SEGMENT_HEADER_BYTES)
    found, damage = read(writer)
    assert found == [1, 2]
    assert lost(damage) == [(3, 6)]


def test_what_is_damaged_before_a_cut_is_no_cut(writer: Writer) -> None:
    """Of a record that is all there the cursor has to name the end, or it is not known."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 3)
    (last,) = (f for f in records(writer.journal.directory) if f.header.lsn == 3)
    writer.die()
    cut(writer, 5)
    flip_in_record(writer.journal.directory, last, 200)
    with closing(JournalTail.behind(writer.journal.directory, cursor(writer))) as tail:
        assert tail.doubt == "record 3 does not end at its position"


def cursor(writer: Writer) -> Cursor:
    with closing(CursorFile(writer.journal.directory, writer.journal.id)) as file:
        return file.read()


def read_alive(writer: Writer, more: int) -> tuple[list[int], list[Damage]]:
    """What a service finds that comes before the owner saves so many records more."""
    with closing(Feed(writer.journal.directory)) as feed:
        for number in range(more):
            writer.save("run-1", garbage(number, 100))
        found: list[int] = []
        for _ in range(10):  # all of it is there
            feed.read_ahead()
            found += [each.header.lsn for each in feed.ahead]
            feed.ahead.clear()
        return found, list(feed.damage)


@pytest.mark.parametrize(
    ("lsn", "place", "by"),
    [
        (9, 6, 0),  # three that it has not written
        (7, 6, 0),  # one
        (6, 6, 640),  # behind the place where its next one comes
        (4, 6, 0),  # before the next one are fewer than that
    ],
)
def test_a_cursor_that_a_living_owner_gives_the_lie(
    writer: Writer, lsn: int, place: int, by: int
) -> None:
    """What it writes next would be passed over."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 2)
    say_stored(writer, lsn, place, by)
    cut(writer, 3)
    found, damage = read_alive(writer, 5)
    assert found == [1, 2, *range(7, 12)]
    assert lost(damage) == [(3, 6)]
    writer.close()


def test_a_cursor_in_a_segment_that_a_living_owner_has_not_made(writer: Writer) -> None:
    """It is not there, as one that was used again is not."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 6)
    with closing(CursorFile(writer.journal.directory, writer.journal.id, write=True)) as file:
        file.write(90, position(9, SEGMENT_HEADER_BYTES))
    found, damage = read_alive(writer, 2)
    assert found == list(range(1, 9))
    assert lost(damage) == []
    writer.close()


def test_a_cursor_that_what_comes_behind_the_cut_gives_the_lie(writer: Writer) -> None:
    """The file has grown again, and the next record has no room for those between."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 2)
    say_stored(writer, 4, 6)
    cut(writer, 3)
    writer.save("run-1", b"more")
    writer.save("run-1", b"more")
    writer.die()
    found, damage = read(writer)
    assert found == [1, 2, 7, 8]
    assert lost(damage) == [(3, 6)]


@pytest.mark.parametrize("alive", [False, True])
def test_the_owner_died_before_it_published_what_is_stored(writer: Writer, alive: bool) -> None:
    """That one can be there only if its owner is dead: a living one would write it next."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    before = writer.journal._control.tail, writer.journal._control.tail_lsn
    writer.save("run-1", b"last")
    writer.journal._control.publish(*before)
    if not alive:
        writer.die()
    with closing(Consumer(writer.journal.directory)) as consumer:
        assert len(consumer.take(alive=False)) == 7
    cut(writer, 3)
    with closing(JournalTail.behind(writer.journal.directory, cursor(writer))) as tail:
        assert bool(tail.doubt) == alive
    if alive:
        writer.die()


def test_a_damaged_control_page_shows_nothing(writer: Writer) -> None:
    """Of what was cut off it cannot be said then that it was there."""
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 4)
    writer.die()
    cut(writer, 3)
    os.truncate(Path(writer.journal.directory, "control"), 100)
    with closing(JournalTail.behind(writer.journal.directory, cursor(writer))) as tail:
        assert tail.doubt == "record 4 is not there, and its owner does not say that it was"


def test_a_segment_of_another_journal_is_no_cut_one(writer: Writer, tmp_path: Path) -> None:
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 4)
    writer.die()
    other = Writer(state_directory(tmp_path / "other"))
    other.die()
    path = Path(writer.journal.directory, segment_name(1))
    path.write_bytes(Path(other.journal.directory, segment_name(1)).read_bytes()[:1024])
    with closing(JournalTail.behind(writer.journal.directory, cursor(writer))) as tail:
        assert tail.doubt == "record 4 does not end at its position"


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


@pytest.mark.parametrize("size", [0, 1, SEGMENT_HEADER_BYTES - 1, SEGMENT_HEADER_BYTES])
def test_the_only_segment_has_nothing_left(writer: Writer, size: int) -> None:
    for number in range(6):
        writer.save("run-1", garbage(number, 100))
    take(writer, 4)
    writer.die()
    os.truncate(Path(writer.journal.directory, segment_name(1)), size)
    assert read(writer)[0] == []
    assert lost(read(writer)[1]) == [(5, 6)]


@pytest.mark.parametrize("size", [0, 1, SEGMENT_HEADER_BYTES])
@pytest.mark.parametrize("segments", [2, 3])
def test_another_one_than_the_first_has_nothing_left(
    writer: Writer, segments: int, size: int
) -> None:
    """The one before is whole, the cursor is damaged, and only the next record, or what the owner
    has published, shows that something was there."""
    fill(writer, segments)
    last = writer.journal.tail_lsn
    found = records(writer.journal.directory)
    first = min(f.header.lsn for f in found if segment_of(f.position) == 2)
    writer.die()
    os.truncate(Path(writer.journal.directory, segment_name(2)), size)
    damage_cursor(writer)
    seen, damage = read(writer)
    assert seen == [*range(1, first), *([last] if segments == 3 else [])]
    assert lost(damage) == [(first, last - (segments == 3))]
    assert all("unless they were stored before" in each.reason for each in damage)
    if segments == 3:
        assert [segment_of(each.position) for each in damage] == [2]


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
    damage_cursor(writer)
    if rebooted:
        clocks.power_loss()
    with clocks.shown():
        found, damage = read(writer)
    assert found == [1, 2]
    assert lost(damage)[0] == (3, last if rebooted else last + 1)
