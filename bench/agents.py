"""A process of agents: makes its states, waits for the start, saves, and reports its measurements.

What goes through the pipe, in turn: ``"ready"``; then the parent sends the time to start; a
:class:`Seen`; then, unless the peer runs, the parent asks for a last save of every agent and kills
this process once it has said what it saved.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

from bench.peer import LangGraphSQLite, SynchronousSQLite
from bench.probe import BareWrites, LoopLag
from bench.tiers import Mode, Peer, Tier
from bench.workload import Source, Workload
from livingai import CheckpointEngine, ExecutionNode, NodeType, Outcome, Status
from livingai.codecs import content_hash
from livingai.stores.base import StoreSpec
from livingai.workers.process import die_with_parent


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does: which agents, where to, how."""

    parent: int
    store: StoreSpec
    #: The state directory; the folder above it is the run's own.
    directory: str
    tier: Tier
    mode: Mode
    peer: Peer
    #: The folder with the peer's packages.
    packages: str
    agents: list[int]
    source: Source
    seed: int
    probes: bool
    budget_ms: float


@dataclass(slots=True)
class Seen:
    """The measurements of a process, in nanoseconds; points in time are of CLOCK_MONOTONIC."""

    held_ns: list[int] = field(default_factory=list)
    bare_ns: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    #: The same from the moment at which the agent was ready to save: an event loop that others
    #: block counts.
    ready_latency_ms: list[float] = field(default_factory=list)
    lag_ns: list[int] = field(default_factory=list)
    idle_lag_ns: list[int] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    raw_bytes: int = 0
    cpu_s: float = 0.0
    #: When the last save had returned, and when the last outcome was there.
    accepted_ns: int = 0
    ended_ns: int = 0
    #: When each quarter of the first agent's steps was done.
    quarters_ns: list[int] = field(default_factory=list)


class Engine(Protocol):
    """What is measured: livingai's engine, or the peer."""

    async def save(self, node: ExecutionNode, state: bytes) -> Any:
        """Accept a state; what comes back can be awaited for its outcome."""

    async def close(self) -> None:
        """Let go."""


class Crew:
    """The agents of one process, in one event loop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        workload = Workload(job.source, job.seed)
        self._states = {agent: workload.states(agent, job.tier.growth) for agent in job.agents}
        self._engine: Engine
        if job.peer == "livingai":
            self._engine = CheckpointEngine(
                job.store.build(), directory=job.directory, budget_ms=job.budget_ms
            )
        elif job.peer == "sqlite":
            self._engine = SynchronousSQLite(f"{job.directory}.db", job.budget_ms)
        else:
            self._engine = LangGraphSQLite(f"{job.directory}.db", job.budget_ms, job.packages)
        self._bare = BareWrites(os.path.dirname(job.directory), job.tier.probe_every)
        self.seen = Seen()

    async def warm_up(self) -> None:
        """One save, up to its outcome, and a look at the idle event loop."""
        if self._job.probes:
            self.seen.idle_lag_ns = await LoopLag().idle(0.3)
        node = _node(f"warm-{os.getpid()}", 0)
        await (await self._engine.save(node, state=b"warm" * 1000))

    async def run(self, start_ns: int) -> None:
        """All agents, from ``start_ns`` until the last outcome."""
        lag = LoopLag()
        cpu_ns = time.process_time_ns()
        await asyncio.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9))
        if self._job.probes:
            lag.start()
        agent = {"closed": self._closed, "paced": self._paced, "burst": self._burst}[self._job.mode]
        work: list[Coroutine[Any, Any, None]] = [
            agent(number, states, start_ns) for number, states in self._states.items()
        ]
        await asyncio.gather(*work)
        self.seen.ended_ns = time.monotonic_ns()
        lag.stop()
        self.seen.cpu_s = (time.process_time_ns() - cpu_ns) / 1e9
        self.seen.lag_ns = lag.lags_ns

    async def _closed(self, agent: int, states: list[bytes], start_ns: int) -> None:
        ready_ns = start_ns
        for step, state in enumerate(states):
            await asyncio.sleep(0)  # an agent that never waits lets the others run
            receipt, waited_ms = await self._save(agent, step, state, ready_ns)
            self._note(await receipt, waited_ms)
            ready_ns = time.monotonic_ns()
            if agent == self._job.agents[0] and (step + 1) * 4 // len(states) > len(
                self.seen.quarters_ns
            ):
                self.seen.quarters_ns.append(ready_ns)

    async def _burst(self, agent: int, states: list[bytes], start_ns: int) -> None:
        receipts = []
        for step, state in enumerate(states):
            await asyncio.sleep(0)
            receipts.append((await self._save(agent, step, state, time.monotonic_ns()))[0])
        self.seen.accepted_ns = time.monotonic_ns()
        for receipt in receipts:
            self._note(await receipt, 0.0)

    async def _paced(self, agent: int, states: list[bytes], start_ns: int) -> None:
        interval_ns = int(self._job.tier.interval_ms * 1e6)
        begin_ns = start_ns + agent * interval_ns // self._job.tier.agents
        receipts = []
        for step, state in enumerate(states):
            due_ns = begin_ns + step * interval_ns
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            receipts.append(await self._save(agent, step, state, due_ns))
        for receipt, waited_ms in receipts:
            self._note(await receipt, waited_ms)

    async def _save(self, agent: int, step: int, state: bytes, ready_ns: int) -> tuple[Any, float]:
        """Save; the receipt, and how long the event loop kept the agent from saving (ms)."""
        node = _node(_run(agent), step)
        # Before every other save: the second of the two finds warm processor caches.
        turn, left = divmod(agent + step, self._job.tier.probe_every)
        probed = self._job.probes and not left
        if probed and turn % 2:
            self.seen.bare_ns.append(self._bare.write(state))
        began = time.monotonic_ns()
        receipt = await self._engine.save(node, state=state)
        self.seen.held_ns.append(time.monotonic_ns() - began)
        self.seen.raw_bytes += len(state)
        if probed and not turn % 2:
            self.seen.bare_ns.append(self._bare.write(state))
        return receipt, (began - ready_ns) / 1e6

    def _note(self, outcome: Outcome, waited_ms: float) -> None:
        self.seen.outcomes[str(outcome.status)] += 1
        self.seen.latency_ms.append(outcome.latency_ms)
        self.seen.ready_latency_ms.append(waited_ms + outcome.latency_ms)

    async def save_last(self) -> dict[str, bytes]:
        """One more state of every agent, not waited for; their content hashes by execution."""
        saved = {}
        for agent, states in self._states.items():
            state = states[-1][:-1] + b',"the last words"]'
            await self._engine.save(_node(_run(agent), len(states)), state=state)
            saved[_run(agent)] = content_hash(state)
        return saved

    async def close(self) -> None:
        """Let go."""
        self._bare.close()
        await self._engine.close()


def _run(agent: int) -> str:
    return f"agent-{agent:04d}"


def _node(execution_id: str, step: int) -> ExecutionNode:
    return ExecutionNode(
        execution_id=execution_id,
        type=NodeType.PROMPT,
        status=Status.SUCCESS,
        output=f"the answer of step {step}",
        metadata={"step": step},
    )


async def _live(job: Job, pipe: Connection) -> None:
    crew = Crew(job)
    await crew.warm_up()
    pipe.send("ready")
    await crew.run(pipe.recv())
    pipe.send(crew.seen)
    if pipe.recv() == "save":
        pipe.send(await crew.save_last())
        pipe.recv()  # the parent kills us here
    await crew.close()


def agent_process(job: Job, pipe: Connection) -> None:
    """The process's body."""
    die_with_parent(job.parent)
    asyncio.run(_live(job, pipe))
