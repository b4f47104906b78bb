"""Intake: held records are released in order, and none waits for the last record of a flood."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import pytest

from livingai.queue.control import Control
from livingai.queue.journal import JournalLimits
from livingai.workers.dispatcher import intake
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.lanes import Lanes
from tests.support.journals import Writer, state_directory


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[list[Writer]]:
    """Two processes of one state directory."""
    directory = state_directory(tmp_path)
    with (
        closing(Writer(directory, JournalLimits())) as one,
        closing(Writer(directory, JournalLimits())) as other,
    ):
        yield [one, other]


@pytest.fixture
def merged(owners: list[Writer], tmp_path: Path) -> Iterator[Intake]:
    """Their journals; there are no pauses between attempts to open them."""
    with (
        mock.patch("livingai.workers.dispatcher.unreadable._RETRY_S", 0.0),
        closing(Intake(state_directory(tmp_path))) as found,
    ):
        yield found


@contextmanager
def unreadable(owner: Writer) -> Iterator[None]:
    """The service can open everything but the journal of this owner."""

    def open_feed(path: str) -> Feed:
        if path == owner.journal.directory:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Feed(path)

    with mock.patch.object(intake, "Feed", side_effect=open_feed):
        yield


def values(merged: Intake, room: int = 1000) -> list[int]:
    """What a turn takes."""
    return [item.header.budget_us for item in merged.take(room)]


def claim_anew(owner: Writer, budget_us: int) -> None:
    """The owner takes the execution over and saves."""
    owner.places.pop("run-1", None)
    owner.save("run-1", b"state", budget_us=budget_us)


def test_held_records_keep_their_order(owners: list[Writer], merged: Intake) -> None:
    """An execution moves to and fro while one of the journals cannot be opened: the last claim is
    the last one that the store sees."""
    with unreadable(owners[1]):
        for value in range(8):
            claim_anew(owners[1 - value % 2], value)
        assert values(merged) == []
    assert values(merged) == list(range(8))


def test_held_records_wait_for_no_quiet_moment(owners: list[Writer], merged: Intake) -> None:
    """The other agents are faster than the store: at the end of no turn is the journal empty."""
    with unreadable(owners[1]):
        claim_anew(owners[1], 1)
        claim_anew(owners[0], 2)
        assert values(merged) == []
    seen: list[int] = []
    for _ in range(10):
        for _ in range(4):
            owners[0].save("flood", b"x", budget_us=99)
        turn = merged.take(2)
        seen.extend(item.header.budget_us for item in turn)
    assert [value for value in seen if value != 99] == [1, 2]


def test_nothing_is_taken_beyond_what_may_be_held(owners: list[Writer], merged: Intake) -> None:
    with mock.patch.object(intake, "_MAX_HELD", 3):
        with unreadable(owners[1]):
            owners[1].save("run-1", b"state", budget_us=0)
            for value in range(1, 8):
                owners[0].save("run-1", b"state", budget_us=value)
            for _ in range(5):
                assert values(merged) == []
            feed = merged.by_id(f"{owners[0].journal.id:016x}")
            assert feed is not None
            assert len(feed.inflight) == 3
        assert values(merged) == list(range(8))


@pytest.mark.parametrize(("tick_ns", "part_ns"), [(1, 0), (10_000_000, 123_456), (2 * 10**9, 0)])
def test_a_new_journal_is_seen_at_once(tmp_path: Path, tick_ns: int, part_ns: int) -> None:
    """Though the time stamp is that of a moment ago, when all in the folder was known: kernels take
    it from their clock's tick, old file systems keep whole or even seconds."""

    class Coarse(Intake):
        def _folder_stamp(self) -> int:
            return super()._folder_stamp() // tick_ns * tick_ns + part_ns

    directory = state_directory(tmp_path)
    with closing(Writer(directory)) as owner, closing(Coarse(directory)) as merged:
        own = Path(owner.journal.directory)
        copies = [own.with_name(f".{number:016x}") for number in range(1, 200)]
        for hidden in copies:
            shutil.copytree(own, hidden)
        for hidden in copies:
            journal = hidden.with_name(hidden.name[1:])
            hidden.rename(journal)
            values(merged)
            assert str(journal) in merged.feeds


def test_a_journal_that_comes_while_another_is_opened(tmp_path: Path) -> None:
    """Opening takes long, and the folder's time stamp is still the same."""

    class Slow(Intake):
        def _folder_stamp(self) -> int:
            return 123_456

        def _open(self, path: str) -> None:
            super()._open(path)
            if hidden.exists():
                hidden.rename(journal)
                time.sleep(0.2)

    directory = state_directory(tmp_path)
    with closing(Writer(directory)) as owner, closing(Slow(directory)) as merged:
        own = Path(owner.journal.directory)
        hidden, journal = own.with_name(f".{1:016x}"), own.with_name(f"{1:016x}")
        shutil.copytree(own, hidden)
        values(merged)
        values(merged)
        assert str(journal) in merged.feeds


def test_a_flood_keeps_no_reader_waiting(owners: list[Writer], merged: Intake) -> None:
    """A barrier passes once what came before it was taken, whatever comes after it."""
    for owner in owners:
        for value in range(6):
            owner.save("flood", b"x", budget_us=value)
    since = time.monotonic_ns()
    for _ in range(4):
        for owner in owners:
            for value in range(6):
                owner.save("flood", b"x", budget_us=value)
        assert len(values(merged, 6)) == 6
    assert merged.waiting(), "this is no flood"
    assert merged.horizon_ns >= since
    assert merged.horizon_ns < time.monotonic_ns()


def test_the_horizon_is_not_ahead_of_what_was_taken(owners: list[Writer], merged: Intake) -> None:
    """What it says was taken, was taken; it may be a turn behind."""
    times = [owners[value % 2].save("run-1", b"x").mono_ns for value in range(40)]
    taken = 0
    while batch := values(merged, 3):
        taken += len(batch)
        passed = sum(accepted < merged.horizon_ns for accepted in times)
        assert taken - 3 <= passed <= taken
    assert taken == 40


def test_a_lane_knows_whether_it_has_older_records(owners: list[Writer], merged: Intake) -> None:
    """A reader of a busy execution waits for what was accepted before it asked, not for more."""
    lanes = Lanes()

    def save() -> int:
        accepted = owners[0].save("run-1", b"x").mono_ns
        for item in merged.take(10):
            item.ready = True
            lanes.add(item)
        return accepted

    key = 0
    first, since = save(), time.monotonic_ns()
    batch = lanes.batch(1, 1 << 20)
    key = batch[0].header.execution_hash
    assert first <= since
    save()
    assert lanes.has_older(key, since)
    lanes.put_back(batch)
    assert lanes.has_older(key, since)
    lanes.release(lanes.batch(1, 1 << 20))
    assert key in lanes
    assert not lanes.has_older(key, since)
    lanes.batch(1, 1 << 20)
    assert key in lanes
    assert not lanes.has_older(key, since)


@pytest.mark.parametrize("before", [3, 510, 511, 512])
def test_an_overtaken_first_record(owners: list[Writer], before: int) -> None:
    """Its owner dies before it is published, another process takes over: it is seen to be overtaken
    wherever the service's reading ahead ends."""
    one, other = owners
    for _ in range(before):
        one.save("run-2", b"x")
    with mock.patch.object(Control, "publish"):
        one.save("run-1", b"x")
    other.save("run-1", b"x")
    one.die()
    with closing(Feed(one.journal.directory)) as feed:
        feed.check_owner()
        items = []
        feed.read_ahead()
        while feed.ahead:
            items.append(feed.next())
            if not feed.ahead:
                feed.read_ahead()
        assert len(items) == before + 1
        assert [item.overtaken for item in items] == [False] * before + [True]
