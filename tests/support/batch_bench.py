"""A batch writer over a real store, whose writer's role runs in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import LivingAIError, StoreDamagedError
from livingai.outcome import STATUS_BY_CODE
from livingai.queue.journal import JournalLimits
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher.batches import BatchWriter
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.ports import Decided
from livingai.workers.dispatcher.store_link import Backoff
from livingai.workers.store.writer import WriterRole
from tests.support.journals import Writer, state_directory
from tests.support.patience import patience

#: What a request does before it reaches the store: raise an error, or nothing.
Fault = Callable[[list[int]], LivingAIError | None]


class NearWriter:
    """A writer's role in this process, reached as a writer's process is."""

    revision = 3

    def __init__(self, role: WriterRole, lsn_at: dict[int, int], fault: Fault) -> None:
        self._role, self._lsn_at, self._fault = role, lsn_at, fault
        #: Record numbers of each batch that was sent.
        self.sent: list[list[int]] = []
        #: The request that came last.
        self.rows: list[list[object]] = []
        #: By record number: answered in the store's place, so many times.
        self.answers: dict[int, list[int]] = {}
        #: How often the store was examined, and how often it is damaged.
        self.examined = self.unsound = 0

    async def worker(self) -> NearWriter:
        return self

    async def ask(self, verb: str, rows: list[list[object]]) -> list[list[object]]:
        assert verb == "commit"
        assert self.examined > self.unsound or not self.unsound, "it is written to"
        numbers = [self._lsn_at[int(row[1])] for row in rows]  # type: ignore[call-overload]
        self.sent.append(numbers)
        self.rows = rows
        error = self._fault(numbers)
        if error is not None:
            raise error
        told = [self.answers.get(number) for number in numbers]
        real = iter(self._role.do_commit([r for r, t in zip(rows, told, strict=True) if not t]))
        return [[t.pop(0), 0, "told", 1] if t else next(real) for t in told]

    async def call(self, verb: str) -> None:
        assert verb == "examine"
        self.examined += 1
        if self.examined <= self.unsound:
            raise StoreDamagedError("damaged, says the writer")

    async def close(self) -> None:
        self._role.close()


class BatchBench:
    """A batch writer over a real store; plays the dispatcher."""

    def __init__(self, folder: Path, saves: list[tuple[str, bool]], fault: Fault) -> None:
        self.store = SQLiteStore(folder / "agent.db")
        directory = state_directory(folder / "state")
        self.owner = Writer(directory, JournalLimits())
        for number, (execution, history) in enumerate(saves):
            self.owner.save(execution, b"\0state %d" % number, history=history)
        self.feed = Feed(self.owner.journal.directory)
        self.feed.read_ahead()
        self.items = [self.feed.next() for _ in range(len(self.feed.ahead))]
        config = ServiceConfig.build(self.store, directory.path, EngineConfig())
        self.writer = BatchWriter(config, self)
        lsn_at = {item.at: item.header.lsn for item in self.items}
        self.near = NearWriter(WriterRole(self.store), lsn_at, fault)
        self.writer._link = self.near  # type: ignore[assignment]
        self.writer._backoff = Backoff(0.0, 0.0)
        #: Outcome and reason by record number, in the order of their coming.
        self.outcomes: dict[int, str] = {}
        self.aside: dict[int, str] = {}
        self.again: list[int] = []
        #: What the store has in the end, by execution.
        self.seqs: dict[str, list[int]] = {}
        self._all = asyncio.Event()
        self.failure: BaseException | None = None

    async def run(self) -> None:
        """Until each record is terminal."""
        for item in self.items:
            item.ready = True
            self.writer.lanes.add(item)
        self.writer.flush()
        await asyncio.wait_for(self._all.wait(), patience(60))
        assert self.failure is None
        for item in self.items:
            assert item.header.execution_hash not in self.writer.lanes, "its lane is blocked"

    def _note(self, item: Item, status: str) -> None:
        assert item.header.lsn not in self.outcomes, "it has two outcomes"
        self.outcomes[item.header.lsn] = status
        item.done = True
        if len(self.outcomes) == len(self.items):
            asyncio.get_running_loop().call_soon(self._all.set)

    def kick(self) -> None:
        asyncio.get_running_loop().call_soon(self.writer.flush)

    def sent(self, items: list[Item]) -> None:
        """Nothing is encoded here."""

    def store_answered(self, batch: list[Decided]) -> None:
        for item, status, _, _ in batch:
            self._note(item, STATUS_BY_CODE[status].value)

    def set_aside(self, item: Item, reason: str) -> None:
        self.aside[item.header.lsn] = reason
        self._note(item, "quarantined")
        self.kick()

    def encode_again(self, items: list[Item]) -> None:
        self.again += [item.header.lsn for item in items]

    def encode_elsewhere(self, items: list[Item]) -> None:
        """The records stay ready."""

    def tell_trouble(self) -> None:
        """No agent listens."""

    def fail(self, error: BaseException) -> None:
        self.failure = error
        self._all.set()

    def stored(self, execution_id: str) -> list[int]:
        """Numbers within their claim of the checkpoints that the store has."""
        return [found.seq for found in self.store.checkpoints(execution_id)]

    def close(self) -> None:
        self.feed.close()
        self.owner.close()
        self.store.close()


def no_fault(numbers: list[int]) -> None:
    """All goes to the store."""


def tried(
    folder: Path,
    saves: list[tuple[str, bool]],
    fault: Fault = no_fault,
    answers: Mapping[int, Sequence[int]] | None = None,
) -> BatchBench:
    """What became of these saves, in one life of a batch writer."""

    async def main() -> BatchBench:
        bench = BatchBench(folder, saves, fault)
        bench.near.answers = {number: list(told) for number, told in (answers or {}).items()}
        with closing(bench):
            await bench.run()
            for name in {name for name, _ in saves}:
                bench.seqs[name] = bench.stored(name)
            await bench.writer.close()
        return bench

    return asyncio.run(main())
