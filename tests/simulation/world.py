"""Interleavings: a few agents write, read and take over a few executions while processes die.

Each interleaving has executions of its own, and is judged by :mod:`tests.support.history` once all
is settled. Directories, journals and processes are those of the interleavings before: full,
rotated, evicted.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from livingai.errors import LivingAIError
from tests.simulation.agent import SimAgent
from tests.simulation.install import install
from tests.simulation.scheduler import Clock, Scheduler
from tests.simulation.script import Script
from tests.simulation.service import SimService
from tests.simulation.store import database, decoded
from tests.support.history import History, Stored, summary, violations
from tests.support.journals import scratch_folder, state_directory

#: Turns after which an interleaving that has not settled is stuck.
MOST_STEPS = 20_000


class StuckError(AssertionError):
    """Something that was accepted is never settled."""


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Plan:
    """What may happen in an interleaving, as probabilities."""

    agent_dies: float = 0.4
    service_dies: float = 0.4
    writer_dies: float = 0.4
    store_fails: float = 0.15
    disk_fails: float = 0.3
    successor: float = 0.6


class World:
    """Hosts with their services and agents, on one store."""

    def __init__(self, seed: int, folder: Path, *, hosts: int = 1) -> None:
        self.seed = seed
        self.clock = Clock()
        self.scheduler = Scheduler(seed, self.clock)
        self.chance = self.scheduler.chance
        install(self.scheduler)
        database.clear()
        database.point = self.scheduler.point
        database.troubles.clear()
        self.plan = Plan()
        self.counts: Counter[str] = Counter()
        self._names = 0
        self._failed_syncs = 0
        self.services: list[SimService] = []
        self.agents: list[SimAgent] = []
        self.scheduler.published = self._poll
        for number in range(hosts):
            directory = state_directory(folder / f"host-{number}")
            service = SimService(directory, self.scheduler)
            service.start()
            self.services.append(service)
        for service in self.services:
            for _ in range(2 if hosts > 1 else 3):
                self.new_agent(service)

    def new_agent(self, service: SimService) -> SimAgent:
        """A process starts. Its wall clock may be wrong by half an hour."""
        self._names += 1
        skew = self.chance.choice((0, 0, 0, -1800, 1800, self.chance.randrange(-5, 5))) * 10**9
        agent = SimAgent(f"agent-{self._names}", service, self.scheduler, skew)
        self.agents.append(agent)
        return agent

    # -- one interleaving --

    def interleave(self, number: int) -> History:
        """One interleaving, to its end. Raises StuckError, ViolationError."""
        chance, history = self.chance, History()
        self.scheduler.stay = chance.choice((0.2, 0.5, 0.8, 0.95))
        for actor in self.scheduler.actors:
            actor.weight = chance.choice((0.02, 0.3, 1.0, 1.0))
        executions = [f"run-{self.seed}-{number}-{n}" for n in range(chance.choice((1, 1, 2, 8)))]
        scripts = [Script(self.scheduler, agent, executions, history) for agent in self.agents]
        # A race of first writes, watched by readers, or programs of a few calls each.
        lengths, reads = ((1, 1, 2, 3), 6) if chance.random() < 0.5 else ((0, 1, 2, 3, 4), 2)
        for script in scripts:
            script.begin(chance.choice(lengths), reads=reads)
        events = self._events()
        begun = self.scheduler.steps
        while not all(script.over for script in scripts) or events:
            step = self.scheduler.steps - begun
            while events and events[0][0] <= step:
                self._happen(events.pop(0)[1])
            if not self.scheduler.step():
                self.clock.now_ns += 50_000_000
                if events:
                    events[0] = (0, events[0][1])
                self._poll()
            if self.scheduler.doomed:
                self._die(scripts, executions, history)
            if step > MOST_STEPS:
                raise StuckError(f"{number}: {[str(s) for s in scripts if not s.over]}")
        for service in self.services:
            service.doom = -1
        for actor in self.scheduler.actors:
            actor.doom = actor.process.sound_steps = -1
        self._settle(number)
        self._end(number, history, executions)
        return history

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

    def _die(self, scripts: list[Script], executions: list[str], history: History) -> None:
        """Processes die where they are."""
        while self.scheduler.doomed:
            actor, place = self.scheduler.doomed.pop()
            process = actor.process
            self.counts[f"died at {place}"] += 1
            if isinstance(process, SimAgent):
                self._agent_dies(process, scripts, executions, history)
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

    def _agent_dies(
        self, agent: SimAgent, scripts: list[Script], executions: list[str], history: History
    ) -> None:
        self.counts["agent died"] += 1
        for entry in history.entries:
            if entry.agent == agent.name:
                entry.returned = min(entry.returned, self.scheduler.now)
        agent.die()
        self.agents.remove(agent)
        for script in scripts:
            script.over = script.over or script.agent is agent
        follower = Script(self.scheduler, self.new_agent(agent.service), executions, history)
        scripts.append(follower)
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

    def _end(self, number: int, history: History, executions: list[str]) -> None:
        """Look at the store, and have each agent read once more; then judge."""
        history.living = {agent.name for agent in self.agents}
        for execution in executions:
            owners = {epoch: claim for claim, epoch in database.owners_of(execution)}
            for version, row in database.rows_of(execution).items():
                state = None
                with contextlib.suppress(LivingAIError):
                    state = decoded(execution, row)
                owner = owners[version[0]]
                history.stored.append(Stored(execution, owner or "", version, state))
        agents = self.chance.sample(self.agents, 2)
        if not self._synced_badly():
            # What builds on a state that the store refused is sent again, behind what came after.
            refused = {write.execution for write in history.writes if write.poison}
            history.commits = [each for each in database.commits if each[0] not in refused]
        finals = [Script(self.scheduler, agent, executions, history) for agent in agents]
        for script in finals:
            script.read_all()
        while not all(script.over for script in finals):
            if not self.scheduler.step():
                self.clock.now_ns += 50_000_000
                self._poll()
        found = violations(history)
        for execution in executions:
            database._executions.pop(execution, None)
        database.poison.clear()
        database.commits.clear()
        if found:
            told = "\n  ".join([*found, "history:", *map(str, history.writes),
                                *(str(entry) for entry in history.entries)])  # fmt: skip
            raise ViolationError(f"interleaving {number}:\n  {told}")


def simulate(seed: int, interleavings: int) -> Counter[str]:
    """One world; what happened in it. Raises what :meth:`World.interleave` does."""
    folder = scratch_folder()
    try:
        world = World(seed, folder, hosts=1 + (seed % 4 == 0))
        histories = [world.interleave(number) for number in range(interleavings)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    counts = summary(histories) + world.counts
    counts["interleavings"] += len(histories)
    counts["steps"] += world.scheduler.steps
    for name, count in world.scheduler.points.items():
        counts[f"at {name}"] += count
    return counts
