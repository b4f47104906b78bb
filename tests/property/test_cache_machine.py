"""The hot cache against a dict: with several owners, take-overs, zombies, evictions, recycled
segments and removed journals it answers the newest state exactly, or ASK; never anything older.

The truth is what the service makes of it: it takes records in the order of their acceptance, the
first record of a claim makes that claim the owner, and what an earlier one writes after that is
fenced. Where the service could meet two first records in either order the truth is not known,
and the cache has to ASK.

Everything runs in one thread. What another process would do in between is called in between: at
the marks of a first record, inside an enter, between the two looks of a reader.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
)

from livingai.engine.cache import Ask, HotCache
from livingai.node import ExecutionNode
from livingai.queue.views import JournalView
from tests.support.cache_model import (
    BUSY,
    NODES,
    CacheModel,
    some_executions,
    some_owners,
    some_sizes,
)
from tests.support.explored import Explored, Floor
from tests.support.owners import Owner, Truth, Write


class CacheMachine(CacheModel):
    """The model, and what every cache answers: between writes, and while a write goes on."""

    @invariant()
    def look_at_the_busy_ones(self) -> None:
        for execution in BUSY:
            self.look(execution)

    @rule(execution=some_executions)
    def look(self, execution: str) -> None:
        truth = self.truth[execution]
        for cache in self.caches():
            self.right(execution, cache.latest(execution), [truth])
            for node in NODES:
                self.right_node(execution, node, cache, [truth])

    def right(self, execution: str, hit: Any, truths: list[Truth]) -> None:
        if isinstance(hit, Ask):
            return
        note(f"{execution}: {hit.state!r}, truth {truths}")
        self.seen["states from the cache"] += 1
        unpublished = [each.state for each in self.unpublished(execution)]
        assert hit.state in [truth.state for truth in truths if truth.known] + unpublished
        age_s = abs(time.time_ns() + self.late_s * 1e9 - hit.record.header.wall_ns) / 1e9
        assert age_s <= 3601.0

    def right_node(self, execution: str, node: int, cache: HotCache, truths: list[Truth]) -> None:
        node_id = f"{execution}/{node}"
        hit = cache.node(node_id)
        if isinstance(hit, Ask):
            return
        assert isinstance(hit.node, ExecutionNode)
        note(f"{node_id}: {hit.node.output} {hit.state!r}, truth {truths}")
        self.seen["nodes from the cache"] += 1
        found = (hit.node.output, hit.state)
        known = [truth.nodes.get(node_id) for truth in truths if truth.known]
        assert found in [*known, *((w.value, w.state) for w in self.unpublished(execution))]

    def unpublished(self, execution: str) -> list[Write]:
        """Writes whose owners died before these were acknowledged: they may count already."""
        writes = [owner.unpublished for owner in self.owners]
        return [write for write in writes if write is not None and write.execution == execution]

    @rule(
        execution=some_executions, number=some_owners, size=some_sizes, late=st.booleans(),
        what=st.sampled_from(["save", "enter", "recycle", "node"]),
    )  # fmt: skip
    def look_while_it_changes(
        self, execution: str, number: int, size: int | None, late: bool, what: str
    ) -> None:
        """Between a reader's look at the index and its second one, another process writes: what
        held before, or what holds after, is a right answer."""
        owner = self.living(number)
        before = self.truth[execution].copy()
        acts: dict[str, Callable[[], object]] = {
            "save": lambda: self.save_by(owner, execution, 0, size),
            "node": lambda: self.save_by(owner, execution, 0, size),
            "enter": lambda: owner.enter(execution),
            "recycle": lambda: self.recycle(owner, execution),
        }
        with between(acts[what], late=late):
            if what == "node":
                self.right_node(execution, 0, self.reader, [before, self.truth[execution]])
            else:
                hit = self.reader.latest(execution)
                self.right(execution, hit, [before, self.truth[execution]])

    def recycle(self, owner: Owner, execution: str) -> None:
        """Everything is stored, and the owner writes its journal round."""
        for _ in range(8):
            self.service.serve_all()
            self.served()
            self.save_by(owner, execution, 1, 1500)


@contextmanager
def between(act: Callable[[], object], *, late: bool) -> Iterator[None]:
    """Do something once, right before (or after) a reader copies a record out."""
    read = JournalView.read
    done: list[bool] = []

    def intruded(view: JournalView, at: int) -> Any:
        if late:
            found = read(view, at)
        if not done:
            done.append(True)
            act()
        return found if late else read(view, at)

    with mock.patch.object(JournalView, "read", intruded):
        yield


#: At most a third of the least that ten runs have come to.
FLOORS = {
    "records": Floor(1000, 50),
    "rotations": Floor(300, 45),
    "recycled": Floor(100, 35),
    "evicted executions": Floor(15, 8),
    "taken over": Floor(250, 45),
    "found": Floor(30, 12),
    "overtaken": Floor(6, 4),
    "states from the cache": Floor(2000, 45),
    "nodes from the cache": Floor(2000, 45),
    "compared with the store": Floor(200, 45),
}


def steps_of(act: Callable[[CacheMachine], object]) -> None:
    """Do these steps on a machine, look after them, and compare."""

    @settings(max_examples=1, database=None, deadline=None)
    @given(st.none())
    def once(_: None) -> None:
        CacheMachine.explored = Explored()
        machine = CacheMachine()
        try:
            act(machine)
            machine.look_at_the_busy_ones()
        finally:
            machine.teardown()

    once()


def test_a_copy_of_the_first_record_of_a_claim_that_was_displaced() -> None:
    """It looked like a first record that was overtaken, and was fenced."""

    def act(machine: CacheMachine) -> None:
        machine.two_owners(saves=[])
        for execution in ["run-0", "run-1", "run-2", "run-3", "run-4", "run-1"]:
            machine.save_by(machine.owners[0], execution, 0, None)
        machine.die_while_queueing_again(number=0, other=0, execution="run-1", entered=False)
        machine.service.serve_all()
        machine.served()

    steps_of(act)


def test_a_record_queued_again_under_the_number_of_another_claim() -> None:
    """The journal that it was queued in has given that number, too: the hot cache took it for the
    newest record of that claim."""

    def act(machine: CacheMachine) -> None:
        machine.two_owners(saves=[])
        first, second = machine.owners
        machine.save_by(first, "run-0", 0, None)
        for execution in ["run-2", "run-1", "run-3", "run-4", "run-0"]:
            machine.save_by(second, execution, 0, None)
        machine.die_while_queueing_again(number=0, other=1, execution="run-1", entered=True)
        machine.service.serve_all()
        machine.served()

    steps_of(act)


def test_a_claim_without_a_record_is_not_fenced() -> None:
    """The model said that it was; then its first record, unpublished, counted as overtaken."""

    def act(machine: CacheMachine) -> None:
        machine.two_owners(saves=[])
        machine.save_by(machine.owners[0], "run-0", 0, 50)
        machine.enter(number=0, execution="run-0")
        machine.fenced(number=0, execution="run-0")
        machine.die_while_saving(number=0, execution="run-0", published=False, before="nothing")
        machine.service.serve_all()
        machine.served()
        assert machine.seen["found"] == 1

    steps_of(act)


class TestCache(CacheMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=150, stateful_step_count=40)

    def runTest(self) -> None:
        """The examples find nothing, and come to what they are for."""
        CacheMachine.explored = Explored(**FLOORS)
        super().runTest()
        CacheMachine.explored.check()
