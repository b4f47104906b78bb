"""What the hot cache believes of several journals, one rule at a time (the state machine in
``tests/property/test_cache_machine.py`` mixes them)."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from livingai.engine import cache as cache_module
from livingai.engine.cache import Ask, HotCache
from livingai.protocol.sections import Cached
from livingai.queue import views as views_module
from livingai.queue.directory import StateDirectory
from livingai.queue.record import execution_hash
from livingai.queue.views import JournalView
from tests.support.journals import LIMITS, Writer, state_directory

RUN = "run-1"
KEY = execution_hash(RUN)


class Scene:
    """A state directory with writers and a reader."""

    def __init__(self, folder: Path) -> None:
        self.directory: StateDirectory = state_directory(folder / "state")
        self.reader = HotCache(self.directory, ttl_s=3600.0)
        self.writers: list[Writer] = []

    def writer(self) -> Writer:
        self.writers.append(Writer(self.directory, dataclasses.replace(LIMITS, node_slots=4096)))
        return self.writers[-1]

    def latest(self, execution: str = RUN) -> object:
        """The state, or None for ASK."""
        hit = self.reader.latest(execution)
        return None if isinstance(hit, Ask) else hit.state

    def node(self, node_id: str) -> object:
        """The node's output, or None for ASK."""
        hit = self.reader.node(node_id)
        return hit.node.output if isinstance(hit, Cached) else None

    def close(self) -> None:
        self.reader.close()
        for writer in self.writers:
            writer.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    yield found
    found.close()


@contextmanager
def before_copying(act: Callable[[], object]) -> Iterator[None]:
    """Something happens once between a reader's look at a slot and its copy of the record."""
    read = JournalView.read
    done: list[bool] = []

    def reading(view: JournalView, at: int) -> Any:
        if not done:
            done.append(True)
            act()
        return read(view, at)

    with mock.patch.object(JournalView, "read", reading):
        yield
    assert done


def test_the_owner_is_believed(scene: Scene) -> None:
    writer = scene.writer()
    writer.save(RUN, b"one")
    writer.save(RUN, b"two")
    assert scene.latest() == b"two"
    writer.save(RUN, None)
    assert scene.latest() == b"two", "a record without a state"
    assert scene.latest("run-2") is None


def test_who_takes_over_is_believed_from_the_first_record_on(scene: Scene) -> None:
    first, second, third = scene.writer(), scene.writer(), scene.writer()
    first.save(RUN, b"one")
    second.save(RUN, b"two")
    assert scene.latest() == b"two"
    first.save(RUN, b"three")  # a zombie, which the store fences
    assert scene.latest() == b"two"
    third.save(RUN, b"four")
    assert scene.latest() == b"four"
    second.save(RUN, b"five")
    assert scene.latest() == b"four"


def test_an_owner_that_comes_back_is_believed_again(scene: Scene) -> None:
    first, second = scene.writer(), scene.writer()
    first.save(RUN, b"one")
    second.save(RUN, b"two")
    first.enter(RUN)
    assert scene.latest() is None, "it has written nothing yet"
    first.save(RUN, b"three")
    assert scene.latest() == b"three"


def test_a_claim_that_has_begun_shows_nothing_of_the_one_before(scene: Scene) -> None:
    writer = scene.writer()
    writer.save(RUN, b"one")
    writer.enter(RUN)
    assert scene.latest() is None
    writer.save(RUN, None)
    assert scene.latest() is None, "the claim has no state"


@pytest.mark.parametrize("journals", [2, 3])
def test_two_that_both_count_are_not_told_apart(scene: Scene, journals: int) -> None:
    """As they are if a take-over died before it had marked the others."""
    for number in range(journals):
        writer = scene.writer()
        writer.journal.supersede = None
        with mock.patch.object(views_module.Views, "mark"):
            writer.save(RUN, str(number).encode())
    assert scene.latest() is None


def test_marks_reach_all_others_and_not_the_own_one(scene: Scene) -> None:
    writers = [scene.writer() for _ in range(4)]
    for writer in writers:
        slot = writer.journal.locate(KEY)
        writer.journal.index.begin(slot, 1)
    writers[1].cache.supersede(KEY, own=writers[1].journal.id)
    taken = [bool(w.journal.index.taken(w.journal.locate(KEY))) for w in writers]
    assert taken == [True, False, True, True]


def test_a_claim_is_above_those_of_all_journals_and_above_the_last_one(scene: Scene) -> None:
    first, second = scene.writer(), scene.writer()
    slot = first.journal.locate(KEY)
    first.journal.index.begin(slot, 1000)
    claim = second.cache.take_over(RUN, 5, second.journal.id)
    assert claim == 1001
    assert second.cache.take_over("another", 5, second.journal.id) == 1002
    assert second.cache.take_over("another", 5000, second.journal.id) == 5000


def test_a_deleted_execution_is_nowhere(scene: Scene) -> None:
    writer = scene.writer()
    writer.save(RUN, b"one")
    writer.save("run-2", b"other")
    scene.reader.forget(RUN)
    assert scene.latest() is None
    assert scene.latest("run-2") == b"other"


def test_an_owner_that_changes_its_mind_while_it_is_read(scene: Scene) -> None:
    writer = scene.writer()
    writer.save(RUN, b"one")
    with before_copying(lambda: writer.enter(RUN)):
        assert scene.latest() is None
    writer.save(RUN, b"two")
    with before_copying(lambda: scene.writer().save(RUN, b"three")):
        assert scene.latest() == b"three", "it looks again"


def test_a_record_at_the_place_is_another_ones(scene: Scene) -> None:
    """A torn or stale word of the index costs a question, and gives no wrong state."""
    writer = scene.writer()
    writer.save(RUN, b"one")
    at = writer.save("run-2", b"other").position
    slot = writer.places[RUN].slot
    writer.journal.index.put(slot, at, 1, True)
    assert scene.latest() is None
    assert scene.latest("run-2") == b"other"


@pytest.mark.parametrize("name", ["segment", "journal_id"])
def test_a_record_of_another_segment_or_journal(scene: Scene, name: str) -> None:
    """As it is there for a moment while a file gets another number."""
    writer = scene.writer()
    at = writer.save(RUN, b"one").position
    view = JournalView(writer.journal.directory)
    try:
        record = view.read(at)
        assert record is not None
        changed: dict[str, Any] = {name: 77}
        other = record._replace(header=record.header._replace(**changed))
        with mock.patch.object(views_module, "read_record", return_value=other):
            assert view.read(at) is None
        assert view.read(at) == record
    finally:
        view.close()


@pytest.mark.parametrize("hours", [-2.0, -0.9, 0.9, 2.0])
def test_what_is_too_old_or_from_the_future_is_not_given(scene: Scene, hours: float) -> None:
    """The clock may jump; what is kept for an hour is given for an hour."""
    scene.writer().save(RUN, b"one")
    clock = mock.Mock(wraps=time, time_ns=lambda: time.time_ns() + int(hours * 3600e9))
    with mock.patch.object(cache_module, "time", clock):
        assert scene.latest() == (b"one" if abs(hours) < 1 else None)


@pytest.mark.parametrize("hours", [0.9, 1.1])
def test_a_clock_that_was_put_back_makes_nothing_younger(scene: Scene, hours: float) -> None:
    scene.writer().save(RUN, b"one")
    clock = mock.Mock(wraps=time, monotonic_ns=lambda: time.monotonic_ns() + int(hours * 3600e9))
    with mock.patch.object(cache_module, "time", clock):
        assert scene.latest() == (b"one" if hours < 1 else None)


def test_two_executions_with_one_hash(scene: Scene) -> None:
    scene.writer().save(RUN, b"one")
    with mock.patch.object(cache_module, "execution_hash", return_value=KEY):
        assert scene.latest() == b"one"
        assert scene.latest("another") is None


def test_nodes(scene: Scene) -> None:
    first, second = scene.writer(), scene.writer()
    first.save(RUN, b"one", node_id="a", output=1)
    first.save(RUN, b"two", node_id="b", output=2)
    first.save(RUN, None, node_id="a", output=3)
    assert [scene.node("a"), scene.node("b"), scene.node("c")] == [3, 2, None]
    second.save(RUN, b"three", node_id="c", output=4)
    assert [scene.node("a"), scene.node("b"), scene.node("c")] == [None, None, 4]
    first.save(RUN, b"late", node_id="c", output=5)  # fenced
    assert scene.node("c") == 4
    second.enter(RUN)
    second.save(RUN, b"four", node_id="d", output=6)
    assert scene.node("c") is None, "of a former claim"
    assert scene.node("d") == 6


def test_two_nodes_with_one_hash(scene: Scene) -> None:
    scene.writer().save(RUN, b"one", node_id="a", output=1)
    key = execution_hash("a")
    with mock.patch.object(
        cache_module, "execution_hash", lambda name: KEY if name == RUN else key
    ):
        assert scene.node("a") == 1
        assert scene.node("b") is None


def test_journals_of_an_earlier_boot_do_not_count(scene: Scene) -> None:
    scene.writer().save(RUN, b"one")
    with mock.patch.object(views_module, "boot_id", return_value=os.urandom(16)):
        assert scene.latest() is None


def test_a_state_whose_segment_is_gone(scene: Scene) -> None:
    writer = scene.writer()
    at = writer.save(RUN, b"one")
    for path in Path(writer.journal.directory).glob("*.seg"):
        path.unlink()
    assert scene.latest() is None, at


@pytest.mark.parametrize("before", [0, 1, 3], ids=["first of all", "behind another", "behind 3"])
def test_another_process_is_entering(scene: Scene, before: int) -> None:
    """``before``: so many records of another execution are in its journal already."""
    first, second = scene.writer(), scene.writer()
    own = second.journal.id
    for _ in range(before):
        first.save("run-2", b"zero")
    assert not second.cache.entering(RUN, own)
    first.enter(RUN)
    assert second.cache.entering(RUN, own)
    assert not first.cache.entering(RUN, first.journal.id), "it is itself"
    with mock.patch.object(type(first.journal._control), "publish"):
        first.save(RUN, b"one")
        assert second.cache.entering(RUN, own), "it is not published"
    first.save(RUN, b"two")
    assert not second.cache.entering(RUN, own)


def displace(writer: Writer, execution: str = RUN) -> None:
    """Other executions take the slot of one."""
    place = writer.places[execution]
    other = 0
    while writer.journal.index.owns(place.slot, place.key):
        writer.enter(f"other-{other}")
        other += 1


@pytest.mark.parametrize(
    ("epoch", "saved", "counts", "then"),
    [(0, False, True, b"newer"), (3, False, False, None), (0, True, False, b"new")],
)
def test_a_claim_whose_slot_was_displaced(
    scene: Scene, epoch: int, saved: bool, counts: bool, then: bytes | None
) -> None:
    """Another process may have taken the execution over meanwhile, with no slot to mark. If the
    store knows the claim, by its number or by a record, it does not count again; else its first
    record is yet to take the execution over. ``then``: what the cache says after its next record;
    None: the store decides."""
    one, other = scene.writer(), scene.writer()
    place = one.enter(RUN)
    place.epoch = epoch
    if saved:
        one.save(RUN, b"old")
    displace(one)
    other.save(RUN, b"new")
    assert scene.latest() == b"new"
    assert one.place(RUN) is place
    slot = one.journal.index.get(KEY)
    assert slot is not None
    assert (slot.claim, slot.superseded) == (place.claim, not counts)
    assert scene.latest() == b"new", "it has written nothing"
    one.save(RUN, b"newer")
    assert scene.latest() == then
