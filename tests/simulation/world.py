"""Interleavings: a few agents write, read and take over a few executions while processes die.

Each interleaving has executions of its own, and is judged by :mod:`tests.support.history` once all
is settled. Directories, journals and processes are those of the interleavings before: full,
rotated, evicted. In a small world one begins while the service is still at work on the one before.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from livingai.errors import LivingAIError
from tests.simulation.agent import SimAgent
from tests.simulation.install import install
from tests.simulation.interleaving import Interleaving
from tests.simulation.scheduler import Clock, Scheduler
from tests.simulation.service import SimService
from tests.simulation.size import LARGE, SMALL, WIDE, Size
from tests.simulation.store import database, decoded
from tests.support.history import History, Stored, summary, violations
from tests.support.journals import scratch_folder, state_directory

#: Turns after which an interleaving that has not settled is stuck.
MOST_STEPS = 20_000


class StuckError(AssertionError):
    """Something that was accepted is never settled."""


class ViolationError(AssertionError):
    """An invariant does not hold."""


class World:
    """Hosts with their services and agents, on one store."""

    def __init__(self, seed: int, folder: Path, size: Size = LARGE) -> None:
        self.seed = seed
        self.size = size
        self.clock = Clock()
        self.scheduler = Scheduler(seed, self.clock)
        self.chance = self.scheduler.chance
        install(self.scheduler)
        database.clear()
        database.point = self.scheduler.point
        database.troubles.clear()
        self.plan = size.plan
        self.counts: Counter[str] = Counter()
        self._names = 0
        self._failed_syncs = 0
        self.services: list[SimService] = []
        self.agents: list[SimAgent] = []
        self.scheduler.published = self._poll
        for number in range(size.hosts):
            directory = state_directory(folder / f"host-{number}")
            service = SimService(directory, self.scheduler)
            service.start()
            self.services.append(service)
        for service in self.services:
            for _ in range(size.agents):
                self.new_agent(service)

    def new_agent(self, service: SimService) -> SimAgent:
        """A process starts. Its wall clock may be wrong by half an hour."""
        self._names += 1
        skew = self.chance.choice((0, 0, 0, -1800, 1800, self.chance.randrange(-5, 5))) * 10**9
        agent = SimAgent(f"agent-{self._names}", service, self.scheduler, skew)
        self.agents.append(agent)
        return agent

    # -- interleavings --

    def interleave(self, numbers: Iterable[int]) -> list[History]:
        """Some interleavings, to their end. Raises StuckError, ViolationError."""
        found: list[Interleaving] = []
        for number in numbers:
            found.append(Interleaving(self, number))
            self._act(found)
        for service in self.services:
            service.doom = -1
        for actor in self.scheduler.actors:
            actor.doom = actor.process.sound_steps = -1
        self._settle(found[-1].number)
        self._end(found)
        return [each.history for each in found]

    def _act(self, found: list[Interleaving]) -> None:
        """Until the agents have done all that they do in the last one."""
        chance, newest = self.chance, found[-1]
        self.scheduler.stay = chance.choice((0.2, 0.5, 0.8, 0.95))
        for actor in self.scheduler.actors:
            actor.weight = chance.choice((0.02, 0.3, 1.0, 1.0))
        events = self._events()
        begun = self.scheduler.steps
        while events or not newest.over:
            step = self.scheduler.steps - begun
            while events and events[0][0] <= step:
                self._happen(events.pop(0)[1])
            if not self.scheduler.step():
                self.clock.now_ns += 50_000_000
                if events:
                    events[0] = (0, events[0][1])
                self._poll()
            if self.scheduler.doomed:
                self._die(found)
            if step > MOST_STEPS:
                waiting = [str(script) for script in newest.scripts if not script.over]
                raise StuckError(f"{newest.number}: {waiting}")

    def _events(self) -> list[tuple[int, str]]:
        chance, plan = self.chance, self.plan
        kinds = {
            "agent dies": plan.agent_dies,
            "service dies": plan.service_dies,
            "writer dies": plan.writer_dies,
            "store fails": plan.store_fails,
            "store loses its answer": plan.store_fails,
            "disk fails": plan.disk_fails,
        }
        found = [
            (chance.randrange(120), kind)
            for kind, often in kinds.items()
            for _ in range(2)
            if chance.random() < often / 2
        ]
        return sorted(found)

    def _happen(self, kind: str) -> None:
        """Something bad comes soon."""
        chance = self.chance
        service = chance.choice(self.services)
        if kind.startswith("store"):
            self.counts[kind] += 1
            database.troubles.append(kind == "store loses its answer")
            return
        if kind == "disk fails":
            for process in (*self.agents, service.process):
                if process is not None and chance.random() < 0.5:
                    process.sound_steps = chance.randrange(4)
            return
        if kind == "agent dies":
            chosen = [actor for agent in self.agents for actor in agent.actors]
        elif kind == "service dies":
            chosen = service.process.actors if service.process is not None else []
        else:
            service.doom = chance.randrange(12)
            return
        if chosen:
            chance.choice(chosen).doom = chance.randrange(25)

    def _die(self, found: list[Interleaving]) -> None:
        """Processes die where they are."""
        while self.scheduler.doomed:
            actor, place = self.scheduler.doomed.pop()
            process = actor.process
            self.counts[f"died at {place}"] += 1
            if isinstance(process, SimAgent):
                self._agent_dies(process, found)
                continue
            for service in self.services:
                if process is service.process:
                    self.counts["service died"] += 1
                    service.die()
                    service.start()
                for life in service.writers():
                    if life.process is process:
                        self.counts["writer died"] += 1
                        life.die()

    def _agent_dies(self, agent: SimAgent, found: list[Interleaving]) -> None:
        self.counts["agent died"] += 1
        for each in found:
            for entry in each.history.entries:
                if entry.agent == agent.name:
                    entry.returned = min(entry.returned, self.scheduler.now)
        agent.die()
        self.agents.remove(agent)
        newest = found[-1]
        for script in newest.scripts:
            script.over = script.over or script.agent is agent
        follower = newest.script(self, self.new_agent(agent.service))
        newest.scripts.append(follower)
        goes_on = self.chance.random() < self.plan.successor
        follower.begin(self.chance.choice((1, 2)) if goes_on else 0)

    def _poll(self) -> None:
        for service in self.services:
            service.dirty = True

    def _settle(self, number: int) -> None:
        """Until everything has its outcome, and everybody knows."""
        self.clock.now_ns += 1_500_000_000  # dead owners are noticed
        self._poll()
        idle = 0
        for turn in range(MOST_STEPS):
            if turn % 8 == 0 and self._is_quiet():
                idle += 1
                if idle > 1:
                    return
                self.clock.now_ns += 250_000_000
                self._poll()
            if not self.scheduler.step():
                self.clock.now_ns += 250_000_000
                self._poll()
        waiting = [f"{agent.name}: {len(agent.handle.pending)}" for agent in self.agents]
        inflight = [s.dispatcher.inflight if s.dispatcher else None for s in self.services]
        raise StuckError(f"{number}: pending {waiting}, in flight {inflight}")

    def _is_quiet(self) -> bool:
        return (
            all(service.quiet for service in self.services)
            and not any(len(agent.handle.pending) for agent in self.agents)
            and all(
                feed.cursor.read().lsn == feed.tail.control.tail_lsn
                for service in self.services
                if service.dispatcher is not None
                for feed in service.dispatcher.intake.feeds.values()
                if feed.alive
            )
        )

    def _synced_badly(self) -> bool:
        """Whether a sync has failed lately: then copies come behind what was written after their
        originals."""
        failed = sum(
            self.scheduler.points[f"error journal.{at}_fsync"] for at in ("before", "after")
        )
        failed, self._failed_syncs = failed - self._failed_syncs, failed
        return failed > 0

    def _end(self, found: list[Interleaving]) -> None:
        """Look at the store, and have some agents read once more; then judge."""
        in_order = not self._synced_badly()
        for each in found:
            self._look_at_store(each, in_order)
        agents = self.chance.sample(self.agents, self.size.readers)
        for each in found:
            finals = [each.script(self, agent) for agent in agents]
            for script in finals:
                script.read_all()
            while not all(script.over for script in finals):
                if not self.scheduler.step():
                    self.clock.now_ns += 50_000_000
                    self._poll()
        for each in found:
            self._judge(each)
        database.poison.clear()
        database.commits.clear()

    def _look_at_store(self, each: Interleaving, in_order: bool) -> None:
        history = each.history
        history.living = {agent.name for agent in self.agents}
        for execution in each.executions:
            owners = {epoch: claim for claim, epoch in database.owners_of(execution)}
            for version, row in database.rows_of(execution).items():
                state = None
                with contextlib.suppress(LivingAIError):
                    state = decoded(execution, row)
                owner = owners[version[0]]
                history.stored.append(Stored(execution, owner or "", version, state))
        if in_order:
            # What builds on a state that the store refused is sent again, behind what came after.
            judged = set(each.executions) - {w.execution for w in history.writes if w.poison}
            history.commits = [commit for commit in database.commits if commit[0] in judged]

    @staticmethod
    def _judge(each: Interleaving) -> None:
        history = each.history
        wrong = violations(history)
        for execution in each.executions:
            database._executions.pop(execution, None)
        if wrong:
            told = "\n  ".join([*wrong, "history:", *map(str, history.writes),
                                *(str(entry) for entry in history.entries)])  # fmt: skip
            raise ViolationError(f"interleaving {each.number}:\n  {told}")


def simulate(seed: int, interleavings: int, *, small: bool = False) -> Counter[str]:
    """One world; what happened in it. Raises what :meth:`World.interleave` does."""
    folder = scratch_folder()
    size = SMALL if small else (LARGE, WIDE)[seed % 4 == 0]
    histories: list[History] = []
    try:
        world = World(seed, folder, size)
        for first in range(0, interleavings, size.together):
            numbers = range(first, min(first + size.together, interleavings))
            histories += world.interleave(numbers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    counts = summary(histories) + world.counts
    counts["interleavings"] += len(histories)
    counts["steps"] += world.scheduler.steps
    for name, count in world.scheduler.points.items():
        counts[f"at {name}"] += count
    return counts
