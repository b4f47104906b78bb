"""A peer, in the shape of an engine."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from typing import Any

from livingai import Durability, ExecutionNode, Outcome, OutcomeStatus


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer keeps states in one run."""

    #: An SQLite database, or another file, in the run's folder.
    path: str
    #: An empty database of the server, if it needs one.
    url: str
    #: The folder with its packages.
    packages: str
    budget_ms: float


class Done:
    """A receipt whose outcome is known."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __await__(self) -> Generator[Any, None, Outcome]:
        yield from ()
        return self.outcome


class Peer(abc.ABC):
    """What keeps the states of one process of agents."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._steps: dict[str, int] = {}

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect, and make what tables it needs; no other process does so meanwhile."""

    @abc.abstractmethod
    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Keep a state; what comes back can be awaited for its outcome."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let go."""

    def _next_step(self, execution_id: str) -> int:
        """Numbers the states of an execution."""
        step = self._steps.get(execution_id, 0)
        self._steps[execution_id] = step + 1
        return step

    def _outcome(self, began_ns: int) -> Outcome:
        """Of a save that began then (``time.perf_counter_ns``) and is stored now."""
        latency_ms = (time.perf_counter_ns() - began_ns) / 1e6
        met = latency_ms <= self.place.budget_ms
        return Outcome(
            OutcomeStatus.MET if met else OutcomeStatus.LATE, Durability.STORE, latency_ms
        )


class BatchingPeer(Peer):
    """Stores all that is waiting at once, one batch after the other, in the event loop."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._waiting: list[tuple[str, int, bytes, int, asyncio.Future[Outcome]]] = []
        self._flusher: asyncio.Task[None] | None = None

    @abc.abstractmethod
    async def _store(self, rows: list[tuple[str, int, bytes]]) -> None:
        """Store (execution, step, state) of each."""

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Put it to the next batch."""
        began_ns, name = time.perf_counter_ns(), node.execution_id
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, self._next_step(name), state, began_ns, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._store([(name, step, state) for name, step, state, _, _ in batch])
            except Exception as error:
                for *_, future in batch:
                    future.set_exception(error)
                continue
            for *_, began_ns, future in batch:
                future.set_result(self._outcome(began_ns))
        self._flusher = None
