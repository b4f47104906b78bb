"""The model behind ``tests/property/test_cache_machine.py``: what owners and the service do."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from livingai import serial
from livingai.engine.cache import Ask
from livingai.errors import JournalFullError
from livingai.node import ExecutionNode
from livingai.queue.layout import ExtensionKey, Flag, StateKind, owner_token
from livingai.queue.record import execution_hash
from tests.support.cache_truth import EXECUTIONS, CacheTruth
from tests.support.owners import Owner, Storing, Truth, Write

NODES = range(3)
#: Few are used often, so that owners meet.
BUSY = EXECUTIONS[:2]
some_executions = st.sampled_from(BUSY * 3 + EXECUTIONS)
some_owners = st.integers(0, 5)
some_nodes = st.sampled_from(NODES)
some_sizes = st.sampled_from([None, 0, 50, 50, 50, 1500])
_Save = tuple[int, str, int, int | None]
some_saves = st.tuples(some_owners, some_executions, some_nodes, some_sizes)


class CacheModel(CacheTruth):
    """Owners that write, take over, die and are removed; a service that dies, too."""

    @initialize(saves=st.lists(some_saves, min_size=8, max_size=24))
    def two_owners(self, saves: list[_Save]) -> None:
        """They have written something before anything happens, half of which is stored."""
        self.new_owner()
        self.new_owner()
        self.save_some(saves[::2], stored=False)
        self.save_some(saves[1::2], stored=True)

    # -- owners come and go --

    @precondition(lambda self: len(self.owners) < 5)
    @rule()
    def new_owner(self) -> None:
        self.owners.append(Owner(self.directory, self.log))

    @rule(number=some_owners)
    def die(self, number: int) -> None:
        """kill -9."""
        living = [owner for owner in self.owners if owner.alive]
        if living:
            living[number % len(living)].kill()

    @rule(
        number=some_owners, execution=some_executions, published=st.booleans(),
        before=st.sampled_from(["nothing", "enter", "overtaken", "save"]),
    )  # fmt: skip
    def die_while_saving(self, number: int, execution: str, published: bool, before: str) -> None:
        """The record is complete and never acknowledged: it counts once the service finds it."""
        owner = self.living(number)
        if before in {"enter", "overtaken"}:
            owner.enter(execution)
            if before == "overtaken":
                self.living(number + 1).enter(execution)
        elif before == "save":
            self.save_by(owner, execution, 0, 50)
        state, value = self.new_state(50)
        node_id = f"{execution}/0"
        where: Any = owner.journal._control if published else owner.journal.index
        what = "publish" if published else "put_node"
        with mock.patch.object(type(where), what, side_effect=ZeroDivisionError):
            try:
                owner.save(execution, state, node_id=node_id, output=value)
            except ZeroDivisionError:
                seq = owner.places[execution].seq + 1
                name = owner.name(execution)
                owner.unpublished = Write(execution, node_id, value, state, name, seq)
            except JournalFullError:
                self.seen["full"] += 1
        owner.kill()

    @rule(number=some_owners, other=some_owners, execution=some_executions, entered=st.booleans())
    def die_while_queueing_again(
        self, number: int, other: int, execution: str, entered: bool
    ) -> None:
        """An older write, anybody's, is complete once more (from the quarantine, or a copy after a
        failed fdatasync), and no agent has learnt of it."""
        owner, writer = self.living(number), self.owners[other % len(self.owners)]
        place = writer.places.get(execution)
        if place is None or not place.seq:
            return
        writers_name = writer.name(execution)
        if entered:
            owner.enter(execution)
        node = ExecutionNode(execution, id=f"{execution}/0", output="older")
        tags = {ExtensionKey.OWNER.value: owner_token(*writers_name)}
        where = type(owner.journal._control)
        with (
            mock.patch.object(where, "publish", side_effect=ZeroDivisionError),
            suppress(ZeroDivisionError, JournalFullError),
        ):
            owner.journal.append(
                key=execution_hash(execution), slot=-1, node_key=0, claim=place.claim, epoch=0,
                seq=1, flags=Flag.STATE, state_kind=StateKind.BYTES,
                node=serial.pack(node.to_wire()), ext=serial.pack(tags), state=b"older",
                budget_us=1,
            )  # fmt: skip
        owner.kill()

    # -- the service --

    @rule(most=st.integers(1, 20), deaths=st.booleans())
    def serve(self, most: int, deaths: bool) -> None:
        """The service stores some records, so that their segments may be used again."""
        if deaths:
            self.service.notice_deaths()
        self.service.serve(most)
        self.served()

    @rule(
        most=st.integers(1, 20), without=st.sets(st.integers(0, 12), max_size=3),
        come_to=st.sampled_from(["commit", "outcomes", "cursor"]),
    )  # fmt: skip
    def service_dies(self, most: int, without: set[int], come_to: str) -> None:
        """What it committed has no outcome, in part, or the cursor has not moved; its successor
        commits again what has none."""
        if come_to == "commit":
            self.service.commit(most)
        else:
            self.service.settle_some(most, without)
        if come_to == "cursor":
            self.service.outcomes.tell()
        self.served()
        self.service.close()
        self.service = Storing(self.directory, self.store)

    @rule()
    def retire(self) -> None:
        """The service removes the journals of dead owners of which all is stored."""
        self.service.journals.retire_all()
        self.served()

    # -- writing --

    @rule(saves=st.lists(some_saves, min_size=1, max_size=6), stored=st.booleans())
    def save_some(self, saves: list[_Save], stored: bool) -> None:
        """``stored``: all that was written before."""
        if stored:
            self.service.serve()
            self.served()
        for number, execution, node, size in saves:
            owner = self.living(number)
            is_new = execution not in owner.places
            written = self.save_by(owner, execution, node, size)
            if written and is_new and size is not None and abs(self.late_s) < 3600:
                for cache in self.caches():
                    assert not isinstance(cache.latest(execution), Ask), "a miss without need"

    @rule(number=some_owners, execution=some_executions)
    def enter(self, number: int, execution: str) -> None:
        """An owner claims an execution and then writes nothing for a while."""
        self.living(number).enter(execution)

    @rule(number=some_owners, execution=some_executions)
    def enter_half(self, number: int, execution: str) -> None:
        """The same, and it does not even get to begin its claim."""
        owner = self.living(number)
        owner.entering = (execution, owner.take(execution))

    @precondition(lambda self: any(o.alive and o.entering for o in self.owners))
    @rule(number=some_owners)
    def enter_the_rest(self, number: int) -> None:
        owner = self.living(number, entering=True)
        assert owner.entering is not None
        owner.begin(*owner.entering)
        owner.entering = None

    @rule(
        number=some_owners, other=some_owners, execution=some_executions,
        when=st.sampled_from(["earlier", "before the marks", "behind the marks"]),
        entered=st.booleans(), size=some_sizes,
    )  # fmt: skip
    def overtake(
        self, number: int, other: int, execution: str, when: str, entered: bool,
        size: int | None,
    ) -> None:  # fmt: skip
        """Before one writes its first record, or while it does, another one takes over and writes,
        too: the one that is published last was accepted last."""
        owner, intruder = self.living(number), self.living(other)
        if owner is intruder:
            return
        owner.enter(execution)
        if entered:
            intruder.enter(execution)
        if when == "earlier":
            self.save_by(intruder, execution, 1, 50)
            self.save_by(owner, execution, 2, size)
            return
        intruded: list[bool] = []

        def supersede(key: int) -> None:
            if when == "behind the marks":
                owner._supersede(key)
            if not intruded:
                intruded.append(True)
                truth = self.truth[execution].copy()
                self.save_by(intruder, execution, 1, 50)
                if intruder.places[execution].seq > 1:  # no first record: it comes too late
                    self.truth[execution] = truth
            if when == "before the marks":
                owner._supersede(key)

        owner.journal.supersede = supersede
        try:
            self.save_by(owner, execution, 2, size)
        finally:
            owner.journal.supersede = owner._supersede

    @rule(number=some_owners, execution=some_executions)
    def fenced(self, number: int, execution: str) -> None:
        """An owner learns that it is no longer the owner: a record of its claim was fenced."""
        owner = self.living(number)
        place, truth = owner.places.get(execution), self.truth[execution]
        if place is None or not place.seq or not truth.known:
            return
        if truth.owner == (owner.journal.id, place.claim):
            return
        if owner.journal.index.owns(place.slot, execution_hash(execution)):
            owner.journal.index.forget(place.slot)

    @rule(execution=some_executions)
    def deleted(self, execution: str) -> None:
        """As the service does it: behind what was written before."""
        self.service.serve_all()
        self.served()
        self.reader.forget(execution)
        self.log.mark(execution_hash(execution), 0)
        self.store.delete(execution)
        self.truth[execution] = Truth(since=next(self.number), known=False)

    @rule(late_s=st.sampled_from([-4000.0, 0.0, 3500.0, 4000.0]))
    def clock_jumps(self, late_s: float) -> None:
        self.late_s = late_s
