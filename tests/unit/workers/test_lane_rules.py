"""Lanes, rule by rule: what a batch may hold, and what waits behind it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.journal import JournalLimits
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.lanes import Lanes, overtaken
from tests.support.journals import Writer, failing, state_directory

#: A save: execution, whether it has a state, whether it is to be kept as history.
Save = tuple[str, bool, bool]


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Callable[[list[Save]], list[Item]]]:
    """Records of real saves, in order, not ready yet."""
    owner = Writer(state_directory(tmp_path), JournalLimits())
    feeds: list[Feed] = []

    def save(saves: list[Save]) -> list[Item]:
        for name, has_state, history in saves:
            owner.save(name, b"x" if has_state else None, history=history)
        feeds.append(Feed(owner.journal.directory))
        feeds[0].read_ahead()
        return [feeds[0].next() for _ in saves]

    with closing(owner):
        yield save
        for feed in feeds:
            feed.close()


def lanes_of(items: list[Item], *, ready: bool = True) -> Lanes:
    lanes = Lanes()
    for item in items:
        item.ready = ready
        lanes.add(item)
    return lanes


def batch(lanes: Lanes) -> list[int]:
    """Numbers of the records that a writer gets."""
    return [item.header.lsn for item in lanes.batch(100, 1 << 20)]


Taken = Callable[[list[Save]], list[Item]]
RUN, OTHER = ("run", True, True), ("other", True, True)


def test_a_lane_waits_while_a_part_of_it_is_under_way(taken: Taken) -> None:
    items = taken([RUN, OTHER, RUN, OTHER])
    lanes = lanes_of(items[:1])
    first = lanes.batch(100, 1 << 20)
    for item in items[1:]:
        item.ready = True
        lanes.add(item)
    assert batch(lanes) == [2, 4], "only the other execution's"
    assert batch(lanes) == []
    lanes.release(first)
    assert batch(lanes) == [3]


def test_what_is_not_ready_holds_up_what_is_behind_it_and_no_other_lane(taken: Taken) -> None:
    items = taken([RUN, RUN, OTHER, RUN])
    lanes = lanes_of(items, ready=False)
    lanes.mark_ready(items[1])
    lanes.mark_ready(items[2])
    assert batch(lanes) == [3]
    lanes.mark_ready(items[0])
    assert batch(lanes) == [1, 2]


def test_what_was_put_back_is_given_again_before_what_came_behind(taken: Taken) -> None:
    items = taken([RUN, RUN, OTHER, RUN, OTHER])
    lanes = lanes_of(items[:3])
    for _ in range(2):
        given = lanes.batch(100, 1 << 20)
        assert given == items[:3]
        lanes.put_back(given)
    for item in items[3:]:
        item.ready = True
        lanes.add(item)
    assert batch(lanes) == [1, 2, 4, 3, 5]


def test_what_is_set_aside_blocks_nothing(taken: Taken) -> None:
    items = taken([RUN, RUN, RUN])
    lanes = lanes_of(items, ready=False)
    lanes.mark_ready(items[1])
    assert batch(lanes) == []
    lanes.discard(items[0])
    assert batch(lanes) == [2]
    lanes.release(items[:2])
    lanes.discard(items[2])
    assert items[2].header.execution_hash not in lanes


def shadows(items: list[Item]) -> dict[int, list[int]]:
    return {
        later.header.lsn: [item.header.lsn for item in older]
        for later, older in overtaken(items).items()
    }


def test_a_newer_state_hides_none_that_is_history(taken: Taken) -> None:
    latest = ("run", True, False)
    assert shadows(taken([latest, RUN, latest, latest, RUN])) == {5: [1, 3, 4]}


def test_a_newer_state_hides_none_that_is_firm(taken: Taken) -> None:
    items = taken([("run", True, False)] * 3)
    items[1].firm = True
    assert shadows(items) == {3: [1]}


def test_a_node_without_a_state_hides_nothing(taken: Taken) -> None:
    latest = ("run", True, False)
    assert shadows(taken([latest, ("run", False, True)])) == {}


def test_the_newest_one_hides_others_wherever_it_stands(taken: Taken) -> None:
    """A copy after a failed fdatasync comes behind what is newer."""
    items = taken([("run", True, False)] * 3)
    assert shadows([items[2], items[0], items[1]]) == {3: [1, 2]}


def test_a_copy_of_the_newest_one_is_not_hidden_by_it(tmp_path: Path) -> None:
    """After a failed fdatasync: it is the same state, and no newer one was stored instead of it."""
    with closing(Writer(state_directory(tmp_path), JournalLimits())) as owner:
        for _ in range(2):
            owner.save("run", b"x", history=False)
        with failing("fdatasync", errno.EIO, times=1):
            owner.journal.sync()
        with closing(Feed(owner.journal.directory)) as feed:
            feed.read_ahead()
            items = [feed.next() for _ in range(4)]
            assert [item.header.seq for item in items] == [1, 2, 1, 2]
            assert shadows(items) == {2: [1, 3]}


@pytest.mark.parametrize("where", ["waits", "under way"])
def test_times_of_another_boot_say_nothing(taken: Taken, where: str) -> None:
    (item,) = taken([RUN])
    lanes = lanes_of([item])
    if where == "under way":
        lanes.batch(1, 1 << 20)
    key, before = item.header.execution_hash, item.header.mono_ns - 1
    assert not lanes.has_older(key, before)
    item.feed.same_boot = False
    assert lanes.has_older(key, before)


def test_a_reader_waits_for_the_first_of_what_is_under_way(taken: Taken) -> None:
    """It asked after the first of them was accepted and before the last one was."""
    first, last = taken([RUN, RUN])
    lanes = lanes_of([first, last])
    assert batch(lanes) == [1, 2]
    key = first.header.execution_hash
    assert first.header.mono_ns < last.header.mono_ns
    assert lanes.has_older(key, first.header.mono_ns)
    assert not lanes.has_older(key, first.header.mono_ns - 1)
