"""The model behind ``tests/property/test_cache_machine.py``: what owners write,
and the truth of it.

The truth is what the service makes of it: it takes records in the order of their acceptance, the
first record of a claim makes that claim the owner, and what an earlier one writes after that is
fenced. Where the service could meet two first records in either order the truth is not known.
"""

import itertools
import os
import shutil
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from livingai import serial
from livingai.engine import cache as cache_module
from livingai.engine.cache import Ask, HotCache
from livingai.errors import JournalFullError
from livingai.node import ExecutionNode
from livingai.queue.layout import Flag, StateKind
from livingai.queue.record import execution_hash
from livingai.workers.dispatcher.feed import Feed
from tests.support.journals import (
    LIMITS,
    MET,
    Consumer,
    Place,
    Writer,
    scratch_folder,
    state_directory,
)

#: More than an index of two sets with four slots each holds.
EXECUTIONS = [f"run-{number}" for number in range(11)]
NODES = range(3)
#: Few are used often, so that owners meet.
BUSY = EXECUTIONS[:2]
some_executions = st.sampled_from(BUSY * 8 + EXECUTIONS)
some_owners = st.integers(0, 5)
some_nodes = st.sampled_from(NODES)
some_sizes = st.sampled_from([None, 0, 50, 50, 50, 1500])


@dataclass(slots=True)
class Truth:
    """What is true of an execution: its owner's (journal, claim), newest state and nodes. Not
    ``known``: two owners overtook each other, and which came first is not known."""

    owner: tuple[int, int] | None = None
    #: Number of the owner's first write.
    since: int = 0
    state: bytes | None = None
    nodes: dict[str, Any] = field(default_factory=dict)
    known: bool = True

    def copy(self) -> "Truth":
        return Truth(self.owner, self.since, self.state, dict(self.nodes), self.known)


class Owner(Writer):
    """A writer with the service's side of its journal."""

    def __init__(self, directory: Any) -> None:
        super().__init__(directory, LIMITS)
        self.consumer = Consumer(self.journal.directory)
        self.alive = True
        #: An enter that has chosen its claim and not begun it.
        self.entering: tuple[str, int] | None = None
        #: A save that died before it was acknowledged: execution, node id, output, state.
        self.unacknowledged: tuple[str, str, int, bytes] | None = None


class CacheModel(RuleBasedStateMachine):
    """Owners that write, take over, die and are removed; the truth after each of these."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = scratch_folder()
        self.directory = state_directory(self.folder / "state")
        self.reader = HotCache(self.directory, ttl_s=3600.0)
        self.owners: list[Owner] = []
        self.truth = {execution: Truth() for execution in EXECUTIONS}
        self.claims: set[tuple[int, int]] = set()
        self.number = itertools.count(1)
        self.late_s = 0.0
        clock = mock.Mock(wraps=time)
        clock.time_ns = lambda: time.time_ns() + int(self.late_s * 1e9)
        self.clock = mock.patch.object(cache_module, "time", clock)
        self.clock.start()

    def teardown(self) -> None:
        self.clock.stop()
        self.reader.close()
        for owner in self.owners:
            owner.consumer.close()
            if owner.alive:
                owner.close()
        shutil.rmtree(self.folder)

    @initialize()
    def two_owners(self) -> None:
        self.new_owner()
        self.new_owner()

    # -- owners come and go --

    @precondition(lambda self: len(self.owners) < 5)
    @rule()
    def new_owner(self) -> None:
        self.owners.append(Owner(self.directory))

    def caches(self) -> list[HotCache]:
        return [self.reader, *(owner.cache for owner in self.owners if owner.alive)]

    def living(self, number: int, *, entering: bool = False) -> Owner:
        """A living owner: one that is in the middle of an enter, or one that is not; a new one
        if there is none."""
        living = [o for o in self.owners if o.alive and (o.entering is not None) == entering]
        if not living:
            living = [Owner(self.directory)]
            self.owners += living
        return living[number % len(living)]

    @rule(number=some_owners)
    def die(self, number: int) -> None:
        """kill -9."""
        living = [owner for owner in self.owners if owner.alive]
        if living:
            owner = living[number % len(living)]
            owner.alive = False
            owner.die()

    @rule(
        number=some_owners,
        execution=some_executions,
        published=st.booleans(),
        indexed=st.booleans(),
    )
    def die_while_saving(self, number: int, execution: str, published: bool, indexed: bool) -> None:
        """The record is complete and never acknowledged: it counts once the service finds it."""
        owner = self.living(number)
        state, value = self.new_state(50)
        node_id = f"{execution}/0"
        where: Any = owner.journal._control if indexed else owner.journal.index
        name = "publish" if indexed else "put_node"
        with mock.patch.object(type(where), name, side_effect=ZeroDivisionError):
            try:
                owner.save(execution, state, node_id=node_id, output=value)
            except (ZeroDivisionError, JournalFullError) as error:
                if isinstance(error, ZeroDivisionError):
                    owner.unacknowledged = (execution, node_id, value, state)
                    if indexed:
                        self.found(owner)
        owner.alive = False
        owner.die()

    @rule(number=some_owners, other=some_owners, execution=some_executions)
    def die_while_queueing_again(self, number: int, other: int, execution: str) -> None:
        """An older write, anybody's, is complete once more (from the quarantine, or a copy after a
        failed fdatasync), and no agent has learnt of it."""
        owner = self.living(number)
        place = self.owners[other % len(self.owners)].places.get(execution)
        if place is None or not place.seq:
            return
        node = ExecutionNode(execution, id=f"{execution}/0", output="older")
        where = type(owner.journal._control)
        with (
            mock.patch.object(where, "publish", side_effect=ZeroDivisionError),
            suppress(ZeroDivisionError, JournalFullError),
        ):
            owner.journal.append(
                key=execution_hash(execution), slot=-1, node_key=0, claim=place.claim, epoch=0,
                seq=1, flags=Flag.STATE, state_kind=StateKind.BYTES,
                node=serial.pack(node.to_wire()), ext=b"", state=b"older", budget_us=1,
            )  # fmt: skip
        owner.alive = False
        owner.die()

    def found(self, owner: Owner) -> None:
        """A record that was never acknowledged is found: it counts from when it was written."""
        if owner.unacknowledged is not None:
            execution, node_id, value, state = owner.unacknowledged
            owner.unacknowledged = None
            if self.truth[execution].since > value:
                return
            last = owner.places[execution]
            place = Place(last.slot, last.claim, last.seq + 1)
            self.happened(owner, execution, node_id, value, state, place)

    @rule(number=some_owners)
    def remove(self, number: int) -> None:
        """The service has stored all that a dead owner left, and removes its journal."""
        dead = [owner for owner in self.owners if not owner.alive]
        if not dead:
            return
        owner = dead[number % len(dead)]
        self.scan(owner)
        owner.consumer.close()
        gone = self.directory.journals + "/.gone-x"
        os.rename(owner.journal.directory, gone)
        shutil.rmtree(gone)
        self.owners.remove(owner)

    @rule(number=some_owners, most=st.integers(1, 20))
    def store(self, number: int, most: int) -> None:
        """The service stores some records, so that their segments may be recycled."""
        if not self.owners:
            return
        owner = self.owners[number % len(self.owners)]
        if owner.alive:
            owner.consumer.take(most)
        else:
            self.scan(owner)

    def scan(self, owner: Owner) -> None:
        """The service reads a dead owner's records, and indexes what was not published."""
        with closing(Feed(owner.journal.directory)) as feed:
            feed.check_owner()
            assert not feed.alive
            feed.read_ahead()
            while feed.ahead:
                feed.settle(feed.next(), MET, 1)
                if not feed.ahead:
                    feed.read_ahead()
            feed.advance()
        self.found(owner)

    # -- writing --

    def new_state(self, size: int) -> tuple[bytes, int]:
        number = next(self.number)
        return f"state {number} ".encode().ljust(size, b"."), number

    @rule(number=some_owners, execution=some_executions, node=some_nodes, size=some_sizes)
    def save(self, number: int, execution: str, node: int, size: int | None) -> None:
        owner = self.living(number)
        is_new = execution not in owner.places
        written = self.save_by(owner, execution, node, size)
        if written and is_new and size is not None and abs(self.late_s) < 3600:
            for cache in self.caches():
                assert not isinstance(cache.latest(execution), Ask), "a miss without need"

    def save_by(self, owner: Owner, execution: str, node: int, size: int | None) -> bool:
        """Save, keep the model, and say whether it was accepted."""
        state, value = self.new_state(size or 0)
        node_id = f"{execution}/{node}"
        given = None if size is None else state
        try:
            owner.save(execution, given, node_id=node_id, output=value)
        except JournalFullError:
            owner.consumer.take()
            return False
        place = owner.places[execution]
        self.happened(owner, execution, node_id, value, given, place)
        note(f"owner {self.owners.index(owner)} wrote {value}: {place}")
        return True

    def happened(
        self,
        owner: Owner,
        execution: str,
        node_id: str,
        value: int,
        state: bytes | None,
        place: Place,
    ) -> None:
        """The model of an accepted write."""
        truth = self.truth[execution]
        name = (owner.journal.id, place.claim)
        if place.seq <= 1:
            assert name not in self.claims, "a claim is given twice: the store takes one write"
            self.claims.add(name)
            truth.owner, truth.since, truth.known = name, value, True
        if truth.owner == name:
            truth.state = truth.state if state is None else state
            truth.nodes[node_id] = (value, state)

    @rule(number=some_owners, execution=some_executions)
    def enter(self, number: int, execution: str) -> None:
        """An owner claims an execution and then writes nothing for a while."""
        owner = self.living(number)
        owner.enter(execution)

    @rule(number=some_owners, execution=some_executions)
    def enter_half(self, number: int, execution: str) -> None:
        """The same, and it does not even get to begin its claim."""
        owner = self.living(number)
        claim = owner.cache.take_over(execution, 0, owner.journal.id)
        owner.entering = (execution, claim)

    @precondition(lambda self: any(o.alive and o.entering for o in self.owners))
    @rule(number=some_owners)
    def enter_the_rest(self, number: int) -> None:
        owner = self.living(number, entering=True)
        assert owner.entering is not None
        execution, claim = owner.entering
        slot = owner.journal.locate(execution_hash(execution))
        owner.journal.index.begin(slot, claim)
        owner.places[execution] = Place(slot, claim)
        owner.entering = None

    @rule(
        number=some_owners, other=some_owners, execution=some_executions, before=st.booleans(),
        entered=st.booleans(), size=some_sizes,
    )  # fmt: skip
    def overtake(
        self, number: int, other: int, execution: str, before: bool, entered: bool,
        size: int | None,
    ) -> None:  # fmt: skip
        """While one writes its first record, another one takes over and writes, too: the one that
        is published last was accepted last."""
        owner, intruder = self.living(number), self.living(other)
        if owner is intruder:
            return
        owner.enter(execution)
        if entered:
            intruder.enter(execution)
        intruded: list[bool] = []

        def supersede(key: int) -> None:
            if not before:
                owner._supersede(key)
            if not intruded:
                intruded.append(True)
                self.save_by(intruder, execution, 1, 50)
            if before:
                owner._supersede(key)

        owner.journal.supersede = supersede
        try:
            self.save_by(owner, execution, 2, size)
        finally:
            owner.journal.supersede = owner._supersede

    @rule(number=some_owners, execution=some_executions)
    def fenced(self, number: int, execution: str) -> None:
        """An owner learns that it is no longer the owner."""
        owner = self.living(number)
        place, truth = owner.places.get(execution), self.truth[execution]
        if place is None or truth.owner == (owner.journal.id, place.claim) or not truth.known:
            return
        if owner.journal.index.owns(place.slot, execution_hash(execution)):
            owner.journal.index.forget(place.slot)

    @rule(execution=some_executions)
    def deleted(self, execution: str) -> None:
        self.reader.forget(execution)
        self.truth[execution] = Truth(since=next(self.number), known=False)

    @rule(late_s=st.sampled_from([-4000.0, 0.0, 3500.0, 4000.0]))
    def clock_jumps(self, late_s: float) -> None:
        self.late_s = late_s
