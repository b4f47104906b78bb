"""Processes that write executions, and the service that stores what they write."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

from livingai.engine.pending import OwnedExecution
from livingai.node import NodeField
from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import owner_token
from livingai.queue.record import execution_hash
from livingai.serial import unpack
from livingai.stores.base import Row, RowResult, RowStatus, Store
from livingai.testing.model import StoreModel
from livingai.workers.dispatcher.feed import Item
from livingai.workers.dispatcher.journals import Journals
from livingai.workers.store.writer import WriterRole
from tests.support.journals import MET, Writer
from tests.support.served import Served

_FENCED = STATUS_CODES[OutcomeStatus.FENCED]
#: A few records fill a segment, one drained segment is enough to be used again, and the index has
#: room for four executions and eight nodes.
LIMITS = JournalLimits(
    segment_bytes=2048, journal_bytes=6 * 2048, cache_bytes=2048, cache_ttl_s=0.0, index_sets=1,
    node_slots=8,
)  # fmt: skip


@dataclass(slots=True)
class Truth:
    """What is true of an execution: its owner's (journal, claim), newest state and nodes. Not
    ``known``: it was deleted, and a process that does not know that may still write to it."""

    owner: tuple[int, int] | None = None
    #: Number of the owner's first write.
    since: int = 0
    state: bytes | None = None
    nodes: dict[str, tuple[int, bytes | None]] = field(default_factory=dict)
    known: bool = True
    #: A write that was never acknowledged may or may not be part of what is stored.
    vague: bool = False

    def copy(self) -> Truth:
        return replace(self, nodes=dict(self.nodes))


class Write(NamedTuple):
    """A record: the values that it has, and whose it is."""

    execution: str
    node_id: str
    value: int
    state: bytes | None
    #: (journal, claim), and the number within the claim.
    owner: tuple[int, int]
    seq: int


class Claims:
    """In which order claims were begun, and marked as taken over by other processes."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._begun: dict[tuple[int, int], int] = {}
        #: By hash of the execution: the last number, and whose mark that is (0: nobody's; the
        #: execution is being deleted).
        self._marks: dict[int, dict[int, int]] = {}

    def begin(self, owner: tuple[int, int]) -> None:
        """A claim counts from now on."""
        self._begun[owner] = next(self._numbers)

    def resume(self, owner: tuple[int, int], seq: int) -> None:
        """A claim whose slot was displaced goes on: without a record it is begun once more."""
        if not seq:
            self.begin(owner)

    def mark(self, key: int, journal: int) -> None:
        """All claims but that journal's do not count any more."""
        self._marks.setdefault(key, {})[journal] = next(self._numbers)

    def overtaken(self, key: int, owner: tuple[int, int]) -> bool:
        """Whether another process has marked the claim since it was begun."""
        marks = self._marks.get(key, {}).items()
        return any(at > self._begun[owner] for journal, at in marks if journal != owner[0])


class Owner(Writer):
    """A process that writes executions."""

    def __init__(self, directory: StateDirectory, claims: Claims) -> None:
        super().__init__(directory, LIMITS)
        self.alive = True
        self.claims = claims
        #: A claim that was taken and not begun: its execution, and the claim.
        self.entering: tuple[str, int] | None = None
        #: The write that it died in, before that was acknowledged.
        self.unpublished: Write | None = None

    def take(self, execution: str) -> int:
        """Take the next claim, as :meth:`enter` does before it begins it."""
        self.claims.mark(execution_hash(execution), self.journal.id)
        return self.cache.take_over(execution, 0, self.journal.id)

    def enter(self, execution_id: str) -> OwnedExecution:
        return self.begin(execution_id, self.take(execution_id))

    def begin(self, execution_id: str, claim: int) -> OwnedExecution:
        self.claims.begin((self.journal.id, claim))
        return super().begin(execution_id, claim)

    def place(self, execution_id: str) -> OwnedExecution:
        before = self.places.get(execution_id)
        if before is not None and not self.journal.index.owns(before.slot, before.key):
            self.claims.resume(self.name(execution_id), before.seq)
        return super().place(execution_id)

    def _supersede(self, key: int) -> None:
        self.claims.mark(key, self.journal.id)
        super()._supersede(key)

    def name(self, execution: str) -> tuple[int, int]:
        """Itself as the owner of an execution."""
        return self.journal.id, self.places[execution].claim

    def kill(self) -> None:
        """kill -9."""
        self.alive = False
        self.die()


class _ModelStore:
    """The model of a store, as a writer uses one."""

    replacements = 0

    def __init__(self, model: StoreModel) -> None:
        self._model = model

    def open(self) -> None:
        """It is open."""

    def close(self) -> None:
        """Its data stay."""

    def commit(self, rows: list[Row]) -> list[RowResult]:
        return self._model.commit(rows)


class Storing(Served):
    """The service of a state directory; what its writer makes of the records goes to a store."""

    def __init__(self, directory: StateDirectory, model: StoreModel) -> None:
        super().__init__(directory)
        self.writer = WriterRole(cast(Store, _ModelStore(model)))
        self.journals = Journals(directory, self.intake, 0)
        #: Records that are to be fenced whatever the store says of them.
        self.overtaken: list[Item] = []

    def notice_deaths(self) -> None:
        """Check all owners."""
        self.intake.refresh()
        for feed in self.intake.feeds.values():
            feed.check_owner()

    def commit(self, most: int = 1 << 30) -> dict[Item, int]:
        """Take records and commit them; the outcome of each, which is written nowhere yet."""
        self.take(most)
        flying = self.inflight.copy()
        rows = [item for item in flying if not item.overtaken]
        self.overtaken += [item for item in flying if item.overtaken]
        records = [[item.feed.path, item.at, None, None, None, None] for item in rows]
        outcomes = dict.fromkeys(flying, _FENCED)
        for item, (status, _, reason, _) in zip(rows, self.writer.do_commit(records), strict=True):
            assert status in (RowStatus.STORED, RowStatus.FENCED), reason
            outcomes[item] = MET if status == RowStatus.STORED else _FENCED
        return outcomes

    def settle_some(self, most: int = 1 << 30, without: Collection[int] = ()) -> int:
        """Take and store records, and write their outcomes but for those with these numbers; how
        many records that were."""
        outcomes = self.commit(most)
        for number, (item, status) in enumerate(outcomes.items()):
            if number not in without:
                self.settle(item, status)
        return len(outcomes)

    def serve(self, most: int = 1 << 30) -> int:
        """Take and store records, and tell the owners; how many records that were."""
        count = self.settle_some(most)
        self.outcomes.tell()
        return count

    def serve_all(self) -> None:
        """Until nothing is left."""
        self.notice_deaths()
        for _ in range(1000):
            if not self.serve() and not self.intake.waiting():
                return
        raise AssertionError("the service does not come to an end")

    def close(self) -> None:
        self.writer.close()
        super().close()


class Stored(NamedTuple):
    """What a store has of an execution: its owner, newest state, and the output of each node."""

    owner: str | None
    state: bytes | None
    nodes: dict[str, Any]


def stored(model: StoreModel, execution: str) -> Stored:
    """What the store has of an execution."""
    contents = model.contents()
    latest = contents.get(f"latest {execution}")
    state = None if latest is None or latest[3] is None else latest[3][1:]
    wires: list[Any] = [unpack(node[0]) for node in contents.get(f"nodes {execution}", ())]
    nodes = {wire[NodeField.ID]: wire[NodeField.OUTPUT] for wire in wires}
    return Stored(model.owner(execution), state, nodes)


def token(owner: tuple[int, int] | None) -> str | None:
    """An owner as the store knows it."""
    return None if owner is None else owner_token(*owner)
