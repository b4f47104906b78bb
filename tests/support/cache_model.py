"""The model behind ``tests/property/test_cache_machine.py``: what owners write,
and the truth of it.

The truth is what the service makes of it: it takes records in the order of their acceptance, the
first record of a claim makes that claim the owner, and what an earlier one writes after that is
fenced. Where the service could meet two first records in either order the truth is not known.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections import Counter
from contextlib import suppress
from typing import Any, ClassVar
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
from livingai.queue.layout import ExtensionKey, Flag, StateKind, owner_token
from livingai.queue.record import execution_hash
from livingai.testing.model import StoreModel
from tests.support.explored import Explored
from tests.support.journals import scratch_folder, segment_inodes, state_directory
from tests.support.owners import Claims, Owner, Storing, Truth, Write, stored, token

#: More than an index holds.
EXECUTIONS = [f"run-{number}" for number in range(7)]
NAMES = {execution_hash(execution): execution for execution in EXECUTIONS}
NODES = range(3)
#: Few are used often, so that owners meet.
BUSY = EXECUTIONS[:2]
some_executions = st.sampled_from(BUSY * 3 + EXECUTIONS)
some_owners = st.integers(0, 5)
some_nodes = st.sampled_from(NODES)
some_sizes = st.sampled_from([None, 0, 50, 50, 50, 1500])
_Save = tuple[int, str, int, int | None]
some_saves = st.tuples(some_owners, some_executions, some_nodes, some_sizes)


class CacheModel(RuleBasedStateMachine):
    """Owners that write, take over, die and are removed; the truth after each of these."""

    explored: ClassVar[Explored]

    def __init__(self) -> None:
        super().__init__()
        self.folder = scratch_folder()
        self.directory = state_directory(self.folder / "state")
        self.reader = HotCache(self.directory, ttl_s=3600.0)
        self.owners: list[Owner] = []
        self.store = StoreModel()
        self.service = Storing(self.directory, self.store)
        self.seen: Counter[str] = Counter()
        self.truth = {execution: Truth() for execution in EXECUTIONS}
        self.log = Claims()
        self.claims: set[tuple[int, int]] = set()
        self.number = itertools.count(1)
        self.late_s = 0.0
        clock = mock.Mock(wraps=time)
        clock.time_ns = lambda: time.time_ns() + int(self.late_s * 1e9)
        self.clock = mock.patch.object(cache_module, "time", clock)
        self.clock.start()

    def teardown(self) -> None:
        self.clock.stop()
        try:
            for owner in self.owners:
                if owner.alive:
                    owner.kill()
            self.compare()
        finally:
            self.explored.add(self.seen)
            self.reader.close()
            self.service.close()
            shutil.rmtree(self.folder)

    def compare(self) -> None:
        """Once all is stored, the store has what is true, and no journal is left that is needed."""
        self.service.serve_all()
        self.served()
        for execution, truth in self.truth.items():
            found = stored(self.store, execution)
            note(f"{execution}: {truth}, stored {found}")
            if truth.known and truth.owner is not None:
                assert found.owner == token(truth.owner)
                nodes = {node: value for node, (value, _) in truth.nodes.items()}
                assert truth.vague or (found.state, found.nodes) == (truth.state, nodes)
                self.seen["compared with the store"] += not truth.vague
        assert all(feed.finished for feed in self.service.intake.feeds.values())

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

    def caches(self) -> list[HotCache]:
        return [self.reader, *(owner.cache for owner in self.owners if owner.alive)]

    def living(self, number: int, *, entering: bool = False) -> Owner:
        """A living owner: one that is in the middle of an enter, or one that is not; a new one
        if there is none."""
        living = [o for o in self.owners if o.alive and (o.entering is not None) == entering]
        if not living:
            living = [Owner(self.directory, self.log)]
            self.owners += living
        return living[number % len(living)]

    @rule(number=some_owners)
    def die(self, number: int) -> None:
        """kill -9."""
        living = [owner for owner in self.owners if owner.alive]
        if living:
            living[number % len(living)].kill()

    @rule(
        number=some_owners, execution=some_executions, published=st.booleans(),
        before=st.sampled_from(["nothing", "enter", "save"]),
    )  # fmt: skip
    def die_while_saving(self, number: int, execution: str, published: bool, before: str) -> None:
        """The record is complete and never acknowledged: it counts once the service finds it."""
        owner = self.living(number)
        if before == "enter":
            owner.enter(execution)
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
        most=st.integers(1, 20), without=st.sets(st.integers(0, 12), min_size=1, max_size=3),
        told=st.booleans(),
    )  # fmt: skip
    def service_dies(self, most: int, without: set[int], told: bool) -> None:
        """What it committed has no outcome, in part; its successor commits that again."""
        if told:
            self.service.serve(most, without)
        else:
            self.service.commit(most)
        self.served()
        self.service.close()
        self.service = Storing(self.directory, self.store)

    @rule()
    def retire(self) -> None:
        """The service removes the journals of dead owners of which all is stored."""
        self.service.journals.retire_all()
        self.served()

    def served(self) -> None:
        """The service has read journals: what dead owners left unpublished has been found."""
        feeds = self.service.intake.feeds
        for owner in self.owners.copy():
            feed = feeds.get(owner.journal.directory)
            if feed is not None and feed.exhausted and owner.unpublished is not None:
                self.found(owner.unpublished)
                owner.unpublished = None
            if not os.path.exists(owner.journal.directory):
                assert not owner.alive
                assert owner.unpublished is None, "a record was removed unread"
                self.owners.remove(owner)
        for item in self.service.overtaken:
            name = (item.feed.journal_id, item.header.claim)
            assert item.header.seq == 1
            assert self.log.overtaken(item.header.execution_hash, name), "nobody took it over"
            truth = self.truth[NAMES[item.header.execution_hash]]
            if name in self.claims:  # an earlier life of the service had found and not stored it
                truth.vague = True
                truth.known = truth.known and truth.owner != name
        self.service.overtaken.clear()

    def found(self, write: Write) -> None:
        """A record that was never acknowledged is found: it counts from when it was written; but
        not the first of a claim if another process has claimed the execution since."""
        truth = self.truth[write.execution]
        if write.seq == 1 and self.log.overtaken(execution_hash(write.execution), write.owner):
            self.seen["overtaken"] += 1
        elif truth.since > write.value:
            truth.vague = True
        else:
            self.seen["found"] += 1
            self.happened(write)

    # -- writing --

    def new_state(self, size: int) -> tuple[bytes, int]:
        number = next(self.number)
        return f"state {number} ".encode().ljust(size, b"."), number

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

    def save_by(self, owner: Owner, execution: str, node: int, size: int | None) -> bool:
        """Save, keep the model, and say whether it was accepted."""
        state, value = self.new_state(size or 0)
        node_id = f"{execution}/{node}"
        given = None if size is None else state
        files = segment_inodes(owner.journal.directory)
        place = owner.places.get(execution)
        if place is not None and not owner.journal.index.owns(place.slot, place.key):
            self.seen["evicted executions"] += 1
        try:
            owner.save(execution, given, node_id=node_id, output=value)
        except JournalFullError:
            self.seen["full"] += 1
            self.service.serve_all()
            self.served()
            return False
        self.seen["records"] += 1
        new = segment_inodes(owner.journal.directory)
        if max(new) > max(files):
            self.seen["rotations"] += 1
            self.seen["recycled"] += new[max(new)] in files.values()
        seq = owner.places[execution].seq
        self.happened(Write(execution, node_id, value, given, owner.name(execution), seq))
        note(f"owner {self.owners.index(owner)} wrote {value}: {owner.places[execution]}")
        return True

    def happened(self, write: Write) -> None:
        """The model of an accepted write."""
        truth = self.truth[write.execution]
        if write.seq == 1:
            assert write.owner not in self.claims, "a claim is given twice: the store takes one"
            self.claims.add(write.owner)
            self.seen["taken over"] += truth.owner is not None
            truth.owner, truth.since, truth.known = write.owner, write.value, True
        if truth.owner == write.owner:
            truth.state = truth.state if write.state is None else write.state
            truth.nodes[write.node_id] = (write.value, write.state)

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
                truth = self.truth[execution].copy()
                self.save_by(intruder, execution, 1, 50)
                if intruder.places[execution].seq > 1:  # no first record: it comes too late
                    self.truth[execution] = truth
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
