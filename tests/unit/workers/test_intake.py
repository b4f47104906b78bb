"""Intake: records of all journals in the order of acceptance, and what a turn sees of it."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from livingai.queue.control import Control
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.lanes import Lanes
from tests.support.clocks import Clocks
from tests.support.intakes import values
from tests.support.journals import Writer, state_directory


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


def test_records_come_in_order_of_acceptance_whichever_journal_is_seen_first(
    owners: list[Writer], merged: Intake
) -> None:
    for first in range(2):
        for value in range(2):
            owners[(first + value) % 2].save("run-1", b"x", budget_us=value)
        assert values(merged) == [0, 1]


def test_what_is_accepted_during_a_turn_waits_for_the_next_one(
    owners: list[Writer], merged: Intake
) -> None:
    """This turn has looked at the first journal already, and would not see what came before."""
    for value in range(2):
        owners[1].save("run-2", b"x", budget_us=value)
    turn = merged.take(100)
    seen = [next(turn).header.budget_us]
    owners[0].save("run-1", b"x", budget_us=2)
    owners[1].save("run-1", b"x", budget_us=3)
    seen += [item.header.budget_us for item in turn]
    assert seen == [0, 1]
    assert values(merged) == [2, 3]


def test_boots_come_in_their_order_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    """It was set back before each of them."""
    clocks, directory = Clocks(Random(1)), state_directory(tmp_path)
    for boot in range(3):
        clocks.power_loss()
        clocks.wall_ns = (5 - boot) * 10**18
        with clocks.shown():
            owner = Writer(directory)
            owner.save("run-1", b"x", budget_us=boot)
            owner.die()
    clocks.power_loss()
    with clocks.shown(), closing(Intake(directory)) as merged:
        assert values(merged) == [0, 1, 2]


def test_this_boot_comes_last_whatever_a_journal_of_an_earlier_one_says(tmp_path: Path) -> None:
    """It was put into the folder by hand, so this boot's journal was not numbered behind it."""
    clocks = Clocks(Random(1))
    old, directory = state_directory(tmp_path / "old"), state_directory(tmp_path / "new")
    for boot in range(3):
        clocks.power_loss()
        with clocks.shown():
            owner = Writer(old)
            owner.save("run-1", b"x", budget_us=boot)
            owner.die()
    clocks.power_loss()
    with (
        clocks.shown(),
        closing(Writer(directory)) as last,
        closing(Intake(directory)) as merged,
    ):
        last.save("run-1", b"x", budget_us=3)
        shutil.move(owner.journal.directory, directory.journals)
        assert values(merged) == [2, 3]
