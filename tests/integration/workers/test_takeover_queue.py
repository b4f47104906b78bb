"""What was accepted before a take-over is stored before it, whatever it needs.

Several owners write the same executions while the store takes nothing for a moment: states that are
deltas of one another, with and without history, take-overs in between, and zombies that write on.
Then the writer goes on, or is killed and starts again, or the dispatcher is. A model that knows
only the order of acceptance decides the outcome of every record.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

import apsw
import pytest

from livingai import Durability, SQLiteStore
from livingai.outcome import STATUS_BY_CODE
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.record import read_outcome
from livingai.queue.segments import Segments
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.journals import Writer
from tests.support.place import Place
from tests.support.sandbox import other_boot
from tests.support.states import state_of
from tests.support.waiting import frozen, gone, kill, until

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or SystemRandom().getrandbits(32)
ROUNDS = 12
OWNERS = 3
EXECUTIONS = 4


@dataclass(frozen=True, slots=True)
class Write:
    """A record that was accepted."""

    owner: int
    claim: int
    execution: str
    state: bytes | None
    history: bool
    segment: int
    offset: int
    lsn: int

    @property
    def name(self) -> tuple[int, int]:
        """Whose it is."""
        return self.owner, self.claim


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Somebody else holds SQLite's write lock."""
    with closing(apsw.Connection(str(database))) as connection:
        connection.set_busy_timeout(30_000)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


class Round:
    """One schedule: it writes, and checks the outcome of each write."""

    def __init__(self, place: Place, owners: list[Writer], random: Random, number: int) -> None:
        self.place, self.owners, self.random = place, owners, random
        self.executions = [f"{number}/{i}" for i in range(EXECUTIONS)]
        self.noise = random.randbytes(20_000)  # does not compress, so a delta pays
        self.writes: list[Write] = []
        self.restarted = False

    def write(self) -> None:
        """One owner saves something; now and then it takes the execution over again first."""
        random = self.random
        number = random.randrange(OWNERS)
        owner, execution = self.owners[number], random.choice(self.executions)
        if random.random() < 0.1:
            owner.places.pop(execution, None)
        small = b"%d " % len(self.writes)
        state = random.choice((None, small, small + self.noise, small + self.noise))
        history = random.random() < 0.3
        at = owner.save(execution, state, history=history)
        self.writes.append(
            Write(
                number, owner.places[execution].claim, execution, state, history,
                segment_of(at.position), offset_of(at.position), at.lsn,
            )
        )  # fmt: skip

    def run(self) -> None:
        """Write, with the store out of reach for a part of the time."""
        place, random = self.place, self.random
        for _ in range(random.randrange(12)):
            self.write()
        pids = place.pids()
        writer = pids["writers"]
        with ExitStack() as stack:
            kills = random.random() < 0.3
            if kills or random.random() < 0.6:
                stack.enter_context(frozen(writer))
            else:
                stack.enter_context(locked(place.database))
            for _ in range(random.randrange(5, 60)):
                self.write()
                if random.random() < 0.2:  # some are in a batch by now, some encoded
                    place.ask("status")
            if kills:
                kill(*writer)
            if random.random() < 0.2:
                self.restarted = True
                kill(pids["dispatcher"])
                gone(pids["dispatcher"])
        place.pids()

    def statuses(self) -> list[str]:
        """Wait for the outcome of every write."""
        found: dict[int, str] = {}
        with ExitStack() as stack:
            segments = [
                stack.enter_context(closing(Segments(owner.journal.directory)))
                for owner in self.owners
            ]

            def look() -> bool:
                for i, write in enumerate(self.writes):
                    segment = segments[write.owner].get(write.segment)
                    assert segment is not None
                    known = read_outcome(segment.view, write.offset, write.lsn)
                    if known is not None:
                        found[i] = STATUS_BY_CODE[known[0]]
                return len(found) == len(self.writes)

            until(look, what="an outcome of every write", timeout=60)
        return [found[i] for i in range(len(self.writes))]

    def check(self) -> None:
        """Hold the outcomes and the store against the order of acceptance."""
        statuses = self.statuses()
        for execution in self.executions:
            mine = [
                (w, s) for w, s in zip(self.writes, statuses, strict=True)
                if w.execution == execution
            ]  # fmt: skip
            if mine:
                self.check_execution(execution, mine)

    def check_execution(self, execution: str, mine: list[tuple[Write, str]]) -> None:
        """See :meth:`check`."""
        story = [(w.name, w.state and w.state[:6], w.history, s) for w, s in mine]
        claims: list[tuple[int, int]] = []
        counted: list[tuple[Write, str]] = []
        for write, status in mine:
            if write.name not in claims:
                claims.append(write.name)
            if write.name != claims[-1]:
                assert status == "fenced", story
                continue
            counted.append((write, status))
        newest: dict[tuple[int, int], int] = {}
        for i, (write, _) in enumerate(counted):
            if write.state is not None:
                newest[write.name] = i
        for i, (write, status) in enumerate(counted):
            allowed = {"met", "late"}
            if write.state is not None and not write.history and newest[write.name] > i:
                allowed.add("superseded")
                if self.restarted and write.name != claims[-1]:
                    allowed.add("fenced")  # a newer one was stored, and then it was sent again
            assert status in allowed, story
        states = [write.state for write, _ in counted if write.state is not None]
        newest_state = states[-1] if states else None
        assert peek.stored_state(self.place.database, execution) == newest_state, story
        found = [int(str(name).rpartition("-")[2], 16) for name in owners(self.place, execution)]
        assert found == [claim for _, claim in claims], story


@pytest.mark.parametrize("part", range(2))
def test_order_of_acceptance(state_dir: Place, part: int) -> None:
    print(f"seed {SEED} (repeat with LIVINGAI_SEED={SEED})")
    random = Random(f"{SEED}/{part}")
    state_dir.tracebacks_allowed = True  # of a dispatcher that is killed as it starts
    state_dir.directory.ensure(state_dir.store().url)
    with state_dir.service():
        owners = [Writer(state_dir.directory, JournalLimits()) for _ in range(OWNERS)]
        try:
            for number in range(ROUNDS):
                here = Round(state_dir, owners, random, number)
                here.run()
                here.check()
        finally:
            for owner in owners:
                owner.close()


def test_journal_that_the_service_has_not_seen_yet(state_dir: Place) -> None:
    """A process makes its journal, saves, and another one takes over at once: the service is woken
    by the second, and must not store that first."""
    state_dir.directory.ensure(state_dir.store().url)
    second = state_dir.agent()
    second.call(acts.save, "warm up")
    second.settled(1)
    for number in range(10):
        execution = f"run-{number}"
        with closing(Writer(state_dir.directory, JournalLimits())) as first:
            first.save(execution, b"first")
            second.call(acts.save, execution, number)
            assert second.settled().keys() <= {"met", "late"}
            name = f"{first.journal.id:016x}-{first.places[execution].claim:x}"
            until(lambda e=execution: len(owners(state_dir, e)) == 2, what="both stored")  # type: ignore[misc]
            assert owners(state_dir, execution)[0] == name
            assert peek.stored_state(state_dir.database, execution) == state_of(execution, number)


def owners(place: Place, execution: str) -> list[str | None]:
    """The owners that an execution has had, oldest first."""
    with SQLiteStore(place.database) as store:
        return [claim for _, claim in store.owners(execution)]


def fsync(agent: AgentSide) -> None:
    """All that is queued survives a power loss."""
    agent.engine.flush_sync(level=Durability.FSYNC)


def test_order_of_take_overs_behind_a_power_loss(state_dir: Place) -> None:
    """Executions that have moved between processes wait in journals of an earlier boot."""
    state_dir.tracebacks_allowed = True  # processes are killed as they start
    other = other_boot(state_dir.folder / "boot_id")
    crew = [state_dir.agent() for _ in range(3)]
    for agent in crew:  # in this order their journals are made
        agent.call(acts.save, "warm up")
        agent.settled(1)
    orders = list(itertools.permutations(range(3)))
    with locked(state_dir.database):
        for number, order in enumerate(orders):
            for step, member in enumerate(order):
                crew[member].call(acts.save, f"run-{number}", step)
        for agent in crew:
            agent.call(fsync)
        for process in state_dir.processes():
            kill(process.pid)
        state_dir.empty()
    survivor = state_dir.agent(prefix=other)
    survivor.call(acts.drain)
    for number in range(len(orders)):
        execution = f"run-{number}"
        assert survivor.call(acts.latest, execution) == [{"step": 2}, state_of(execution, 2)]
        assert peek.stored_steps(state_dir.database, execution) == [0, 1, 2]
