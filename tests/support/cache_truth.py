"""What is true of executions that several processes write, and of what the service stores of them.

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
from typing import ClassVar
from unittest import mock

from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine

from livingai.engine import cache as cache_module
from livingai.engine.cache import HotCache
from livingai.errors import JournalFullError
from livingai.queue.record import execution_hash
from livingai.testing.model import StoreModel
from tests.support.explored import Explored
from tests.support.journals import scratch_folder, segment_inodes, state_directory
from tests.support.owners import Claims, Owner, Storing, Truth, Write, stored, token

#: More than an index holds.
EXECUTIONS = [f"run-{number}" for number in range(7)]
NAMES = {execution_hash(execution): execution for execution in EXECUTIONS}


class CacheTruth(RuleBasedStateMachine):
    """Processes and their service, and the truth after each write."""

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
        """Once all is stored, the store has what is true, and no journal is needed any more."""
        self.service.serve_all()
        self.served()
        for execution, truth in self.truth.items():
            found = stored(self.store, execution)
            note(f"{execution}: {truth}, stored {found}")
            if truth.known:
                assert found.owner == token(truth.owner)
                nodes = {node: value for node, (value, _) in truth.nodes.items()}
                assert truth.vague or (found.state, found.nodes) == (truth.state, nodes)
                self.seen["compared with the store"] += not truth.vague
        for feed in self.service.intake.feeds.values():
            assert feed.finished
            assert feed.cursor.read().lsn == feed.tail.lsn

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

    # -- writing --

    def new_state(self, size: int) -> tuple[bytes, int]:
        number = next(self.number)
        return f"state {number} ".encode().ljust(size, b"."), number

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

    # -- the service --

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
