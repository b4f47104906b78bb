"""A journal as the service sees it: its cursor, its owner's death, what it has read to the end."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.control import NAME as CONTROL
from livingai.queue.control import Control
from livingai.queue.cursor import NAME as CURSOR
from livingai.queue.cursor import CursorFile
from livingai.queue.index import Index
from livingai.queue.journal import OWNER_LOCK, JournalLimits
from livingai.queue.layout import CURSOR_BYTES, CURSOR_SLOT_OFFSETS, ControlWord, segment_of
from livingai.queue.record import execution_hash, unpack_outcome
from livingai.queue.segment import segment_name
from livingai.queue.tail import JournalTail
from livingai.workers.dispatcher import feed as feed_module
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.journals import Journals
from tests.support.journals import (
    LIMITS,
    Consumer,
    Writer,
    failing,
    flip_in_record,
    overwrite,
    records,
    state_directory,
    untrue_cursor,
)

MET = STATUS_CODES[OutcomeStatus.MET]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Writer]:
    with closing(Writer(state_directory(tmp_path), JournalLimits())) as writer:
        yield writer


@pytest.fixture
def open_feed(owner: Writer) -> Iterator[Callable[[], Feed]]:
    """Feeds of the owner's journal, one after the other: each is a life of the service."""
    feeds: list[Feed] = []

    def opened() -> Feed:
        if feeds:
            feeds[-1].close()
        feeds.append(Feed(owner.journal.directory))
        return feeds[-1]

    yield opened
    if feeds:
        feeds[-1].close()


def taken(feed: Feed) -> list[Item]:
    """All that is at hand, in flight."""
    feed.read_ahead()
    return [feed.next() for _ in range(len(feed.ahead))]


def lives(feed: Feed) -> bool:
    """Whether its owner lives, as the service knows."""
    return feed.alive


def finished(feed: Feed) -> bool:
    """Whether its journal may be removed."""
    return feed.finished


def place(feed: Feed) -> tuple[int, int]:
    """What the cursor's file says."""
    with closing(CursorFile(feed.path, feed.journal_id, write=False)) as file:
        found = file.read()
        return found.lsn, found.position


def test_the_cursor_stops_before_the_first_record_without_an_outcome(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    for _ in range(5):
        owner.save("run-1", b"x")
    feed = open_feed()
    items = taken(feed)
    feed.advance()
    assert place(feed) == (0, 0)
    for number, done in ((0, 0), (1, 1), (3, 1), (2, 3), (4, 4)):
        feed.settle(items[number], MET, 1)
        feed.advance()
        assert place(feed) == (items[done].header.lsn, items[done].end)
    assert feed.drained


def test_a_new_life_begins_behind_the_cursor_and_sees_the_outcomes(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    for _ in range(5):
        owner.save("run-1", b"x")
    feed = open_feed()
    items = taken(feed)
    for number in (0, 1, 3):
        word = feed.settle(items[number], MET, 7)
        assert feed.outcome_of(items[number]) == unpack_outcome(items[number].header.lsn, word)
    feed.advance()
    feed = open_feed()
    again = taken(feed)
    assert [item.header.lsn for item in again] == [item.header.lsn for item in items[2:]]
    assert [feed.outcome_of(item) for item in again] == [None, (MET, 7), None]
    feed.settle(again[0], MET, 1)
    again[1].done = True
    feed.skip()
    feed.advance()
    assert place(feed) == (items[3].header.lsn, items[3].end)


def test_what_was_found_settled_moves_the_cursor_alone(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    """Its outcome word was the last thing that the service wrote in its former life."""
    owner.save("run-1", b"x")
    feed = open_feed()
    feed.settle(taken(feed)[0], MET, 1)  # killed here
    feed = open_feed()
    (item,) = taken(feed)
    item.done = True
    feed.skip()
    feed.advance()
    assert place(feed) == (item.header.lsn, item.end)


def test_a_cursor_beyond_what_is_there_is_not_believed(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    owner.save("run-1", b"x")
    last = owner.save("run-1", b"y")
    with closing(CursorFile(owner.journal.directory, owner.journal.id, write=True)) as file:
        file.write(last.lsn + 7, last.position + 64)
    feed = open_feed()
    assert [item.header.lsn for item in taken(feed)] == [1, 2]
    assert place(feed)[0] < last.lsn + 7, "the owner must not take it for true either"


def test_an_untrue_cursor_is_corrected_as_soon_as_it_can_be_written(
    owner: Writer, tmp_path: Path
) -> None:
    for _ in range(3):
        owner.save("run-1", b"x")
    untrue_cursor(owner.journal.directory, 3)
    directory = state_directory(tmp_path)
    intake = Intake(directory)
    journals = Journals(directory, intake, 1 << 30)
    with closing(intake):
        with failing("pwrite", errno.EIO):
            journals.look()
            (feed,) = intake.feeds.values()
            assert [item.header.lsn for item in taken(feed)] == [1, 2, 3], "it is read all the same"
            journals.look()
            assert place(feed)[0] == 3
        journals.look()
        assert place(feed)[0] == 0


def test_the_cursor_waits_for_an_outcome_that_cannot_be_written(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    """It would not be true, and nobody would store the record again."""
    for _ in range(3):
        owner.save("run-1", b"x")
    feed = open_feed()
    items = taken(feed)
    feed.settle(items[0], MET, 1)
    with failing("pwrite", errno.EIO):
        feed.settle(items[1], MET, 5)
        assert not feed.advance()
        assert place(feed) == (0, 0)
    feed.settle(items[2], MET, 1)
    assert feed.outcome_of(items[1]) is None
    assert feed.advance()
    assert feed.outcome_of(items[1]) == (MET, 5)
    assert place(feed) == (3, items[2].end)


def test_one_place_that_takes_nothing_does_not_hold_the_others_for_ever(
    owner: Writer, open_feed: Callable[[], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector: what is behind it is written at once, and after a while the cursor goes on."""
    for _ in range(3):
        owner.save("run-1", b"x")
    feed = open_feed()
    items = taken(feed)
    with failing("pwrite", errno.EIO):
        for item in items:
            feed.settle(item, MET, 5)
    write = feed.write_outcome

    def all_but_the_second(at: int, *rest: int) -> bool:
        if at != items[1].at:
            return write(at, *rest)
        with failing("pwrite", errno.EIO):
            return write(at, *rest)

    monkeypatch.setattr(feed, "write_outcome", all_but_the_second)
    assert not feed.advance()
    assert [feed.outcome_of(item) is None for item in items] == [False, True, False]
    assert place(feed) == (0, 0)
    monkeypatch.setattr(feed_module, "_PATIENCE_S", 0.0)
    assert feed.advance()
    assert place(feed) == (3, items[2].end)


def test_for_descriptors_the_cursor_waits_however_long(
    owner: Writer, open_feed: Callable[[], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.save("run-1", b"x")
    feed = open_feed()
    (item,) = taken(feed)
    monkeypatch.setattr(feed_module, "_PATIENCE_S", 0.0)
    with failing("pwrite", errno.EMFILE):
        feed.settle(item, MET, 5)
        assert not feed.advance()
    assert feed.advance()
    assert feed.outcome_of(item) == (MET, 5)


@pytest.mark.parametrize("odd", [False, True])
def test_the_cursor_does_not_wait_for_an_outcome_that_has_no_place(
    owner: Writer, open_feed: Callable[[], Feed], odd: bool
) -> None:
    owner.save("run-1", b"x")
    feed = open_feed()
    (item,) = taken(feed)
    segment = Path(owner.journal.directory, segment_name(1))
    segment.unlink()
    if odd:
        os.mkfifo(segment)
    feed.settle(item, MET, 1)
    assert feed.advance()
    assert place(feed) == (1, item.end)


@pytest.mark.parametrize("how", ["zeros", "missing", "empty", "damaged", "odd"])
def test_a_cursor_that_was_lost_says_of_no_record_that_it_is_lost(tmp_path: Path, how: str) -> None:
    """Segments are used again only behind it: what they held was stored before. Or somebody has
    deleted one; nothing tells."""
    with closing(Writer(state_directory(tmp_path), LIMITS)) as owner:
        journal = owner.journal.directory
        with closing(Consumer(journal)) as consumer:
            for _ in range(60):
                consumer.take()
                owner.save("run-1", b"x" * 300)
        first = records(journal)[0].header.lsn
        assert first > 1
        cursor = Path(journal, CURSOR)
        lose_cursor(cursor, how)
        with closing(Feed(journal)) as feed:
            waiting = [item for item in taken(feed) if feed.outcome_of(item) is None]
            assert [item.header.lsn for item in waiting] == [60]
            (told,) = feed.damage
            what = (
                f"records 1 to {first - 1} are damaged or missing, unless they were stored before"
            )
            assert (told.count, told.reason) == (0, what)
            assert [lost[:2] for lost in feed.lost] == [(1, first - 1)]
            assert place(feed)[0] == first - 1
        assert cursor.stat().st_size == CURSOR_BYTES
        with closing(Feed(journal)) as feed:
            assert feed.damage == []


@pytest.mark.parametrize("place", ["behind", "read"])
def test_a_journal_that_cannot_be_opened_keeps_no_descriptor(owner: Writer, place: str) -> None:
    """It is tried again, and there may be none left."""
    owner.save("run-1", b"x")
    before = len(os.listdir("/proc/self/fd"))
    with (
        mock.patch.object(
            JournalTail if place == "behind" else CursorFile, place, side_effect=OSError(24, "none")
        ),
        pytest.raises(OSError, match="none"),
    ):
        Feed(owner.journal.directory)
    assert len(os.listdir("/proc/self/fd")) == before


def lose_cursor(cursor: Path, how: str) -> None:
    if how == "damaged":
        for at in CURSOR_SLOT_OFFSETS:
            overwrite(cursor, at + 8, b"damaged!")
    elif how in ("missing", "odd"):
        cursor.unlink()
        if how == "odd":
            cursor.mkdir()
    else:
        cursor.write_bytes(bytes(CURSOR_BYTES if how == "zeros" else 0))


def test_a_new_journal_has_a_cursor_of_zeros(owner: Writer, open_feed: Callable[[], Feed]) -> None:
    owner.save("run-1", b"x")
    feed = open_feed()
    assert (feed.tail.doubt, feed.damage, list(feed.lost)) == ("", [], [])


def test_an_owner_that_lives_keeps_its_journal(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    owner.save("run-1", b"x")
    feed = open_feed()
    feed.check_owner()
    assert lives(feed)
    assert feed.lock is None
    taken(feed)
    assert not feed.exhausted
    owner.die()
    feed.check_owner()
    assert not lives(feed)
    assert feed.lock is not None


def test_an_odd_lock_says_nothing_of_an_owner_of_this_boot(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    feed = open_feed()
    lock = Path(owner.journal.directory, OWNER_LOCK)
    lock.unlink()
    os.mkfifo(lock)
    feed.check_owner()
    assert lives(feed)
    feed.same_boot = False
    feed.check_owner()
    assert not lives(feed)


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1100])
def test_a_dead_owners_journal_is_finished_when_all_of_it_is_terminal(
    owner: Writer, open_feed: Callable[[], Feed], count: int
) -> None:
    for _ in range(count):
        owner.save("run-1", None)
    owner.die()
    feed = open_feed()
    feed.check_owner()
    assert not finished(feed), "nothing was read"
    settled = 0
    while not finished(feed):
        feed.read_ahead()
        assert not finished(feed) or settled == count
        if feed.ahead:
            assert not feed.drained
        for item in taken(feed):
            assert not finished(feed)
            feed.settle(item, MET, 1)
            settled += 1
        feed.advance()
    assert settled == count


def test_a_journal_with_damage_that_was_not_set_aside_is_not_finished(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    for _ in range(3):
        owner.save("run-1", b"x" * 100)
    owner.die()
    flip_in_record(owner.journal.directory, records(owner.journal.directory)[1], 8)
    feed = open_feed()
    feed.check_owner()
    for item in taken(feed):
        feed.settle(item, MET, 1)
    feed.advance()
    feed.read_ahead()
    assert feed.exhausted
    assert feed.drained
    assert feed.damage
    assert not finished(feed)
    feed.damage.clear()
    assert finished(feed)


def test_what_was_not_published_is_in_the_index_before_it_is_taken(
    owner: Writer, open_feed: Callable[[], Feed]
) -> None:
    """Else the cache would answer with what came before."""
    node = execution_hash("node-1")
    owner.save("run-1", b"published", node_id="node-1")
    with mock.patch.object(Control, "publish"), mock.patch.object(Index, "put"):
        last = owner.save("run-1", b"not published")
    with closing(Index(owner.journal.directory, write=False)) as index:
        before = index.get(execution_hash("run-1"))
        assert index.get_node(node)
    owner.die()
    feed = open_feed()
    feed.check_owner()
    feed.read_ahead()
    with closing(Index(owner.journal.directory, write=False)) as index:
        after = index.get(execution_hash("run-1"))
        assert not index.get_node(node), "it may be older than what was not published"
    assert before is not None
    assert before.seq == 1
    assert after is not None
    assert (after.state, after.newest, after.seq) == (last.position, last.position, 2)
    assert [item.header.lsn for item in taken(feed)] == [1, 2]


OVERTAKEN = [
    "nobody took over", "it was published", "a second record", "an earlier boot", "a damaged page",
]  # fmt: skip


@pytest.mark.parametrize("case", OVERTAKEN)
def test_what_does_not_count_as_overtaken(
    owner: Writer, open_feed: Callable[[], Feed], case: str, tmp_path: Path
) -> None:
    if case != "nobody took over":
        other = Writer(state_directory(tmp_path), JournalLimits())
    if case == "a second record":
        owner.save("run-1", b"first")
    if case == "it was published":
        owner.save("run-1", b"x")  # and the page is damaged: its tail lies before the record
        overwrite(Path(owner.journal.directory, CONTROL), 8 * ControlWord.TAIL, bytes(8))
    elif case == "a damaged page":  # it says of no record whether it was published
        owner.save("run-1", b"x")
        overwrite(Path(owner.journal.directory, CONTROL), 0, bytes(8))
    else:
        with mock.patch.object(Control, "publish"):
            owner.save("run-1", b"x")
    if case != "nobody took over":
        other.save("run-1", b"y")
        other.close()
    owner.die()
    feed = open_feed()
    feed.same_boot = case != "an earlier boot"  # nothing of the page was synced: it says nothing
    feed.check_owner()
    items = taken(feed)
    assert items
    assert not any(item.overtaken for item in items)


def test_all_files_of_a_dead_owner_are_synced(tmp_path: Path) -> None:
    owner = Writer(state_directory(tmp_path), LIMITS)
    for _ in range(4):
        owner.save("run-1", b"x" * 3000)
    owner.die()
    found = records(owner.journal.directory)
    segments = {segment_name(segment_of(record.position)) for record in found}
    synced: set[str] = set()
    real = os.fdatasync

    def sync(fd: int) -> None:
        synced.add(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real(fd)

    with closing(Feed(owner.journal.directory)) as feed, mock.patch("os.fdatasync", sync):
        feed.sync()
    assert len(segments) > 1
    assert segments <= synced
