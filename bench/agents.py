"""A process of agents: makes its states, waits for the start, saves, and reports its measurements.

What goes through the pipe, in turn: ``"ready"``; then the parent sends the time to start; a
:class:`~bench.seen.Seen`; then, unless the peer runs, the parent asks for a last save of every
agent and kills this process once it has said what it saved.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol

from bench.peers.base import Place
from bench.peers.kinds import KINDS
from bench.probe import BareWrites, LoopLag
from bench.seen import Seen
from bench.tiers import Mode, Tier
from bench.workload import Source, Workload
from livingai import CheckpointEngine, ExecutionNode, NodeType, Status
from livingai.codecs import content_hash
from livingai.stores.base import StoreSpec
from livingai.workers.process import die_with_parent

#: Marks that the first agent sets on its way, where what a save costs as history grows is wanted.
PARTS: Final = 20


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does: which agents, where to, how."""

    parent: int
    store: StoreSpec
    #: The state directory; the folder above it is the run's own.
    directory: str
    tier: Tier
    mode: Mode
    #: A key of ``bench.peers.kinds.KINDS``; "" for livingai.
    peer: str
    place: Place
    agents: list[int]
    source: Source
    seed: int
    probes: bool
    budget_ms: float


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
        self._peer = KINDS[job.peer].build(job.place) if job.peer else None
        if self._peer is not None:
            self._engine = self._peer
        else:
            self._engine = CheckpointEngine(
                job.store.build(), directory=job.directory, budget_ms=job.budget_ms
            )
        self._bare = BareWrites(os.path.dirname(job.directory), job.tier.probe_every)
        self.seen = Seen()

    async def warm_up(self) -> None:
        """One save, up to its outcome, and a look at the idle event loop."""
        if self._peer is not None:
            # One process after the other: two that make the same tables get in each other's way.
            with only_one(f"{self._job.place.path}.lock"):
                await self._peer.open()
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
            receipt, number = await self._save(agent, step, state, ready_ns)
            self.seen.settled(number, await receipt)
            ready_ns = time.monotonic_ns()
            if agent == self._job.agents[0]:
                self._note_parts(step + 1, len(states), ready_ns)

    def _note_parts(self, done: int, steps: int, now_ns: int) -> None:
        while done * PARTS // steps > len(self.seen.parts_ns):
            self.seen.parts_ns.append(now_ns)

    async def _burst(self, agent: int, states: list[bytes], start_ns: int) -> None:
        receipts = []
        for step, state in enumerate(states):
            await asyncio.sleep(0)
            receipts.append(await self._save(agent, step, state, time.monotonic_ns()))
        self.seen.accepted_ns = time.monotonic_ns()
        for receipt, number in receipts:
            self.seen.settled(number, await receipt)

    async def _paced(self, agent: int, states: list[bytes], start_ns: int) -> None:
        interval_ns = int(self._job.tier.interval_ms * 1e6)
        begin_ns = start_ns + agent * interval_ns // self._job.tier.agents
        receipts = []
        for step, state in enumerate(states):
            due_ns = begin_ns + step * interval_ns
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            receipts.append(await self._save(agent, step, state, due_ns))
        for receipt, number in receipts:
            self.seen.settled(number, await receipt)

    async def _save(self, agent: int, step: int, state: bytes, ready_ns: int) -> tuple[Any, int]:
        """Save; the receipt, and the save's number."""
        node = _node(_run(agent), step)
        # Before every other save: the second of the two finds warm processor caches.
        turn, left = divmod(agent + step, self._job.tier.probe_every)
        probed = self._job.probes and not left
        if probed and turn % 2:
            self.seen.bare_ns.append(self._bare.write(state))
        began = time.monotonic_ns()
        receipt = await self._engine.save(node, state=state)
        held_ns = time.monotonic_ns() - began
        number = self.seen.saved(step, began, held_ns, (began - ready_ns) / 1e6)
        self.seen.raw_bytes += len(state)
        if probed and not turn % 2:
            self.seen.bare_ns.append(self._bare.write(state))
        return receipt, number

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


@contextlib.contextmanager
def only_one(path: str) -> Iterator[None]:
    """One process at a time is inside the block (``flock`` of the file)."""
    with open(path, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
