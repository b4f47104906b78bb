"""A process of agents, and what it reports to its parent.

Each agent goes through its run. For every message it saves a node and a state, waits as if for a
model or a tool, and then waits for the outcome. Right after ``save`` has returned, and not before,
it reports that state to the parent, so the parent knows which states must not be lost.

An agent that takes over the run of a dead process starts from the state that ``latest`` returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from livingai.demo.generator import Message
from livingai.demo.runs import MessageRun
from livingai.engine.cache import HotCache
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ExecutionNotFoundError, LivingAIError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Receipt
from livingai.protocol.sections import Cached
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.process import die_with_parent

_TYPES: Final = {"assistant": NodeType.PROMPT, "tool": NodeType.TOOL}


class Saved(NamedTuple):
    """``save`` has returned. ``digest`` is that of the state, None for a tool's mere intent."""

    execution_id: str
    step: int
    digest: str | None
    held_us: float


class Settled(NamedTuple):
    """A write has its outcome."""

    status: str
    latency_ms: float


class TookOver(NamedTuple):
    """What ``latest`` gave a successor (None: nothing), and whether the hot cache had it."""

    execution_id: str
    digest: str | None
    from_cache: bool


class Failed(NamedTuple):
    """The process cannot go on; the reason as a sentence."""

    reason: str


class Finished(NamedTuple):
    """All runs are at their end, and the store has everything."""


Report = Saved | Settled | TookOver | Failed | Finished


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does. ``taken_over`` are the runs of a process that was killed."""

    parent: int
    database: str
    runs: list[MessageRun]
    seconds: float
    seed: int
    taken_over: frozenset[str] = field(default_factory=frozenset)


def digest(state: bytes) -> str:
    """The SHA-256 of a state, in hexadecimal."""
    return hashlib.sha256(state).hexdigest()


def agent_process(job: Job, pipe: Connection[Report, None]) -> None:
    """Work through the runs of ``job``; the function that the process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    die_with_parent(job.parent)
    try:
        asyncio.run(_Crew(job, pipe).work())
    except LivingAIError as error:
        pipe.send(Failed(f"{type(error).__name__}: {error}"))
    else:
        pipe.send(Finished())


class _Crew:
    """The agents of this process, in one event loop and with one engine."""

    def __init__(self, job: Job, pipe: Connection[Report, None]) -> None:
        self._job = job
        self._pipe = pipe
        self._engine = CheckpointEngine(SQLiteStore(job.database))

    async def work(self) -> None:
        """Go through all runs to their ends."""
        async with self._engine:
            starts = {run.execution_id: await self._find(run) for run in self._job.runs}
            work = [self._go_through(run, starts[run.execution_id]) for run in self._job.runs]
            await asyncio.gather(*work)

    async def _find(self, run: MessageRun) -> int:
        """The step at which to go on: behind the newest state, if the run was taken over."""
        if run.execution_id not in self._job.taken_over:
            return 0
        cache = HotCache(self._engine.directory, ttl_s=self._engine.config.cache_ttl_s)
        from_cache = isinstance(cache.latest(run.execution_id), Cached)
        cache.close()
        try:
            _, state = await self._engine.latest(run.execution_id)
        except ExecutionNotFoundError:
            self._pipe.send(TookOver(run.execution_id, None, from_cache))
            return 0
        self._pipe.send(TookOver(run.execution_id, digest(state), from_cache))
        return len(json.loads(state))

    async def _go_through(self, run: MessageRun, start: int) -> None:
        rng = random.Random(f"{self._job.seed}/{run.execution_id}/{start}")
        pause_s = self._job.seconds / len(run.messages)
        await asyncio.sleep(rng.uniform(0, pause_s))
        for step in range(start, len(run.messages)):
            node = _node(run, step)
            receipts = []
            if node.type is NodeType.TOOL:
                # A tool's intent is saved before the tool runs.
                intent = ExecutionNode(
                    run.execution_id, NodeType.TOOL, Status.RUNNING, id=node.id, input=node.input
                )
                receipts.append(await self._save(run, step, intent, None))
                await asyncio.sleep(pause_s * rng.uniform(0.1, 0.3))
            receipts.append(await self._save(run, step, node, run.state(step)))
            await asyncio.sleep(pause_s * rng.uniform(0.5, 1.2))
            for receipt in receipts:
                outcome = await receipt
                self._pipe.send(Settled(str(outcome.status), outcome.latency_ms))

    async def _save(
        self, run: MessageRun, step: int, node: ExecutionNode, state: bytes | None
    ) -> Receipt:
        began = time.perf_counter_ns()
        receipt = await self._engine.save(node, state=state)
        held_us = (time.perf_counter_ns() - began) / 1000
        known = None if state is None else digest(state)
        self._pipe.send(Saved(run.execution_id, step, known, held_us))
        return receipt


def _node(run: MessageRun, step: int) -> ExecutionNode:
    """The node that records message ``step``."""
    message = run.messages[step]
    kind = _TYPES.get(str(message.get("role")), NodeType.MEMORY)
    return ExecutionNode(
        run.execution_id,
        kind,
        Status.SUCCESS,
        input=_call(run.messages[:step], message) if kind is NodeType.TOOL else None,
        output=message.get("content") or message.get("tool_calls"),
        metadata={"role": message.get("role"), "name": message.get("name")},
        id=f"{run.execution_id}-{step:04d}",
    )


def _call(before: list[Message], answer: Message) -> Any:
    """The call that a tool's message answers."""
    for message in reversed(before):
        for call in message.get("tool_calls") or ():
            if isinstance(call, dict) and call.get("id") == answer.get("tool_call_id"):
                return call.get("function")
    return None
