"""The store contract: what the service asks of a database, and what a database may refuse.

Rules that every backend keeps, and :class:`livingai.testing.StoreConformance` checks:

1. **A commit is conditional and idempotent.** ``(execution_id, epoch, seq)`` identifies a write.
   Committing it again changes nothing and reports :attr:`RowStatus.STORED`. A row without a blob
   counts as stored, too, once a newer version of its node has replaced it: by a row of the same
   claim, or by a later claim where ``seq`` is not above the largest one stored for its own claim.
2. **Ownership is a claim.** A row whose ``epoch`` is 0 names only its ``claim`` (owner token). The
   first row of an unknown claim takes the execution's next epoch; a row of a claim that is not the
   newest one is :attr:`RowStatus.FENCED`, unless that very row is stored already. For a known claim
   ``epoch`` is not looked at; an unknown one keeps an epoch that it brings (another store gave it)
   if that is above all known ones, and is fenced otherwise. A refused row claims nothing.
3. **Order never goes back.** What ``latest_checkpoint`` answers is the maximum of (epoch, seq), in
   whatever order rows came; a node is what its row with the largest (epoch, seq) says.
4. **A batch is atomic per execution.** Rows of one execution become visible in order.
5. **One bad row spoils nothing but itself.** It is reported :attr:`RowStatus.REFUSED` with a
   reason; the rest of the batch is committed.
6. **Transient trouble is raised** as :class:`~livingai.errors.StoreUnavailableError` and the whole
   batch may then be sent again.
7. **A delete is a barrier.** It removes an execution and takes its next epoch: rows that were
   queued before it are fenced, a process that wants to go on takes a new claim.
8. **A delta needs its base.** A row with a ``base_hash`` is taken only if a checkpoint of the
   execution has that content hash (in the store, or earlier in the batch); else it is
   :attr:`RowStatus.BASE_MISSING` and nothing of it but its claim was written.
9. **A read returns what was written** or raises :class:`~livingai.errors.CorruptRecordError`.
10. **A run has the status of its last life**, not that of its newest node
    (:mod:`livingai.stores.standing`): a status is what retention deletes by.
11. **A mark is about the database itself** and lies in it, so that it goes where the database goes:
    its identity, and the state directories on it. A store may keep none.

A store object is cheap and inert until it is used: no driver import, no connection. It describes
itself as a :class:`StoreSpec`, from which the service's own processes build their own copy.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from livingai.errors import ConfigurationError
from livingai.node import NodeField
from livingai.serial import pack
from livingai.stores.ranges import NodeRange, pick
from livingai.stores.records import (
    CostLine,
    DroppedNodes,
    ExecutionFilter,
    ExecutionInfo,
    PackedNode,
    Row,
    RowResult,
    RowStatus,
    SizedBlob,
    StoredCheckpoint,
    StoredNode,
)

__all__ = [
    "IDENTITY",
    "Capabilities",
    "CostLine",
    "DroppedNodes",
    "ExecutionFilter",
    "ExecutionInfo",
    "NodeRange",
    "PackedNode",
    "Row",
    "RowResult",
    "RowStatus",
    "SizedBlob",
    "Store",
    "StoreSpec",
    "StoredCheckpoint",
    "StoredNode",
]


#: The mark that is a database's identity: random, made once, and the same wherever it lies.
IDENTITY: Final = "store_id"


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """How to build a store in another process: ``module:Class`` and keyword arguments (plain
    values only, so that it can be sent as msgpack)."""

    path: str
    kwargs: dict[str, Any]

    def build(self) -> Store:
        """Import the class and build the store.

        Raises:
            ConfigurationError: the class cannot be imported or is no store.
        """
        module, _, name = self.path.partition(":")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"the store class {self.path} cannot be imported by the service ({error}); a store "
                "of your own must live in an importable module"
            ) from error
        if not (isinstance(cls, type) and issubclass(cls, Store)):
            raise ConfigurationError(f"{self.path} is not a livingai store")
        return cls(**self.kwargs)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do beyond the contract."""

    #: How many writer processes may write at once; 1 means serialized.
    max_writers: int = 1
    #: STORE level survives power loss of the store's machine as configured.
    durable: bool = True
    #: It is read in the process that asks, without a way to a server and back: many deltas on each
    #: other may be stored.
    embedded: bool = False
    #: :meth:`Store.examine` looks whether the database is sound.
    examines: bool = False


class Store(ABC):
    """The contract. See the rules at the top of this module. Not thread-safe: each process and
    thread that uses a store builds its own from :meth:`spec`."""

    capabilities: Capabilities = Capabilities()

    # -- identity, needs no connection --

    @abstractmethod
    def spec(self) -> StoreSpec:
        """How another process builds the same store (may hold credentials; never logged)."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The store's address without credentials, for messages and the state directory."""

    def places(self) -> frozenset[str]:
        """Names of the places where the data are, whatever the URL calls them: two stores that
        share one are the same store, or have a part in common. May connect.

        Raises:
            StoreError: they cannot be found out.
        """
        return frozenset({self.url})

    @abstractmethod
    def default_directory(self) -> str:
        """Where the state directory of this store is unless the user says otherwise."""

    def validate(self) -> None:  # noqa: B027 - optional
        """Cheap check in the agent's process that this store can be used at all (exists, is
        writable, is a database). Raises a :class:`~livingai.errors.StoreError`."""

    def former_directories(self) -> list[str]:
        """Where an earlier livingai had its state directory, if that was elsewhere."""
        return []

    @property
    def replacements(self) -> int:
        """How often, since this object was made, another database may have come to its place."""
        return 0

    @property
    def place(self) -> str | None:
        """The real path of the file that is the database; None: it is none (a server)."""
        return None

    def glance(self) -> str | None:
        """The identity of the database as far as it is known at once, in the agent's process;
        "": it has none yet, None: it is not known."""
        return None

    # -- life --

    @abstractmethod
    def open(self) -> None:
        """Connect, and create or migrate the schema. Idempotent."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect. Idempotent."""

    def let_go(self) -> None:  # noqa: B027 - optional
        """Close what is not there any more, such as a file that was removed. Called about once a
        second by a process that has the store open and nothing to do; never opens anything."""

    def examine(self) -> None:  # noqa: B027 - optional
        """Look whether the database is sound, as far as it can be seen, without what this process
        remembers of it, and without a change to it while that is not known. Called when another
        process has found it damaged, where :attr:`Capabilities.examines`; may take long.

        Raises:
            StoreDamagedError: it is damaged.
            StoreUnavailableError: it cannot be looked at now.
        """

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- marks: notes about the database itself, see :mod:`livingai.stores.belonging` --

    def marks(self) -> dict[str, str] | None:
        """All marks by name; None: this store keeps none."""
        return None

    def mark(  # noqa: B027 - optional
        self, name: str, value: str | None, *, keep: bool = False
    ) -> None:
        """Set a mark, durably; None removes it. ``keep``: the value that is there stays."""

    # -- writing --

    @abstractmethod
    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch durably; one result per row, in order. See rules 1 to 6."""

    @abstractmethod
    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same epoch again.
        Raises :class:`~livingai.errors.FencedError` when a newer claim has come since."""

    @abstractmethod
    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove the checkpoints with these (epoch, seq) and give their space back; the nodes stay.
        Versions that are not there are left alone. The caller has made sure that no delta needs
        them (:mod:`livingai.stores.retention`). Returns the number of blob bytes removed."""

    @abstractmethod
    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution, see rule 7; the number of nodes removed. An execution that
        is not there, or deleted already, is left alone."""

    @abstractmethod
    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove these nodes with all their checkpoints, and give the space back.

        Kept and reported (in order of id) are nodes that cannot go: the one written last, the one
        with the newest checkpoint, the one whose newest version is the run's last life (rule 10),
        and those with a checkpoint that a delta of another node needs;
        :func:`livingai.stores.retention.plan_node_drops` decides. A commit beside it comes before
        or after it as a whole, so no delta is committed whose base goes. Ids that are not there are
        left alone. A row of a removed node that is sent again is a new one."""

    def forget(self, execution_id: str) -> bool:
        """Remove all of an execution, its owners too, as if it had never been here: for a hot
        tier, which a cold one fills again. False: this store cannot; nothing was changed."""
        return False

    # -- reading --

    @abstractmethod
    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state, with its epoch and seq; else the newest node,
        with blob None. None: there is no such execution."""

    @abstractmethod
    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node, with its epoch and seq, and the newest state that it was
        saved with and that was not dropped. Ids should be unique; of executions that share one,
        the one saved last answers."""

    @abstractmethod
    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""

    def packed_nodes(self, execution_id: str) -> Iterator[PackedNode]:
        """As :meth:`nodes`, packed. A store that keeps packed wires need not decode them."""
        for node in self.nodes(execution_id):
            packed = pack(node.wire)
            yield PackedNode(
                packed, node.epoch, node.seq, node.has_state, str(node.wire[NodeField.STATUS])
            )

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range, each in its newest version with its ``first`` version and, where it
        is asked for, the newest state that it was saved with and that was not dropped. This one
        looks at all nodes of the execution; a store should have an index of ids."""
        return pick(self.nodes(execution_id), asked, self.load_node)

    @abstractmethod
    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        """The encoded checkpoint of this execution whose raw content has that hash. Of several a
        full one (no ``base_hash``), else the oldest: so no chain of deltas runs in a circle."""

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """As :meth:`blob_by_hash`, with the size of the state by its row."""
        blob = self.blob_by_hash(execution_id, content_hash)
        return None if blob is None else SizedBlob(blob, 0)

    @abstractmethod
    def list_executions(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str = "",
        where: ExecutionFilter | None = None,
    ) -> list[ExecutionInfo]:
        """At most ``limit`` executions whose ids begin with ``prefix`` and that fit ``where``, in
        order of id (by code point), starting behind ``after``."""

    @abstractmethod
    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        """All checkpoints of an execution, oldest (epoch, seq) first. Without ``blobs`` their
        ``blob`` is empty: enough to decide what may be dropped."""

    @abstractmethod
    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """(epoch, claim) of all that ever owned the execution, oldest first; a claim of None is a
        deletion."""

    @abstractmethod
    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The (epoch, seq) of the newest save of all nodes that :meth:`drop_nodes` has removed, not
        of those that it kept; None: it has removed none. So who misses a node knows whether it may
        have been removed. It is noted in one step with the removal."""

    @abstractmethod
    def costs(self, *, group: str = "execution", prefix: str = "") -> list[CostLine]:
        """Sums over the executions whose ids begin with ``prefix``, by ``group``: "execution",
        "name" (of the node, from its metadata; else its type) or "day" of ``created_at``; in order
        of group."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes that the store occupies (files, or what the server reports)."""
