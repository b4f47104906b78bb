"""What goes into a store and what comes out: rows, results, nodes, checkpoints, lines.

Plain values, in the words of the contract (:mod:`livingai.stores.base`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from livingai.asked import as_seconds, check_plain, shown
from livingai.errors import ConfigurationError
from livingai.node import Status


class RowStatus(IntEnum):
    """The result of one row of a batch."""

    #: It is in the store (now, or since an earlier commit of the same row).
    STORED = 1
    #: A newer claim owns the execution; nothing was written.
    FENCED = 2
    #: The store will never take this row; ``reason`` says why.
    REFUSED = 3
    #: The row is a delta and its base is no checkpoint of the execution: send it without a base.
    BASE_MISSING = 4


@dataclass(slots=True)
class Row:
    """One write, as it goes to a store.

    ``wire`` is the decoded node section (field order of ``queue/FORMAT.md``). ``blob`` is an
    encoded checkpoint (first byte: codec) or None where the write carries no state; ``state_kind``
    says how the decoded bytes become the caller's value (``queue/FORMAT.md``). ``claim`` is the
    owner token, ``epoch`` 0 when the store has yet to give one.
    """

    execution_id: str
    node_id: str
    claim: str
    epoch: int
    seq: int
    wire: list[Any]
    blob: bytes | None
    state_kind: int
    raw_bytes: int
    saved_at: float
    base_hash: bytes | None = None
    content_hash: bytes | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    #: ``wire`` as :func:`livingai.serial.pack` gives it, where that is at hand.
    packed: bytes | None = None


@dataclass(frozen=True, slots=True)
class RowResult:
    """The answer to one :class:`Row`: its status, the epoch it has in the store, and a reason."""

    status: RowStatus
    epoch: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A node as the store has it. ``wire`` as in :class:`Row`; ``has_state``: this very write
    carried a checkpoint (that may have been dropped since); ``first`` is the (epoch, seq) of the
    node's first save."""

    wire: list[Any]
    epoch: int
    seq: int
    has_state: bool
    first: tuple[int, int] = (0, 0)


class PackedNode(NamedTuple):
    """A :class:`StoredNode` whose wire is packed (:func:`livingai.serial.pack`), with its status:
    what goes to another process without being decoded here."""

    wire: bytes
    epoch: int
    seq: int
    has_state: bool
    status: str


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint as the store has it: the node that carried it, in its newest version, and its
    encoded blob (None where there is no state; ``state_kind`` is then 0). What ``checkpoints``
    answers has all fields; single reads may leave those with a default."""

    wire: list[Any]
    epoch: int
    seq: int
    blob: bytes | None
    state_kind: int
    node_id: str = ""
    base_hash: bytes | None = None
    content_hash: bytes | None = None
    raw_bytes: int = 0
    stored_bytes: int = 0
    saved_at: float = 0.0
    #: (epoch, seq) of the node's first save; ranges of nodes have it.
    first: tuple[int, int] = (0, 0)


class DroppedNodes(NamedTuple):
    """What :meth:`~livingai.stores.base.Store.drop_nodes` removed: the number of nodes, the bytes
    of their encoded checkpoints, and the ids that it had to keep."""

    nodes: int
    blob_bytes: int
    kept: tuple[str, ...]


class SizedBlob(NamedTuple):
    """An encoded checkpoint, and how many bytes its state has by its row (0: not known)."""

    blob: bytes
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """One line of ``list_executions``. ``epoch``, ``seq`` and ``updated_at`` (its ``saved_at``) are
    those of the newest write, ``created_at`` is the ``saved_at`` of the row that was committed
    first, in seconds since the Unix epoch; ``stored_bytes`` is the length of all blobs.

    ``status`` and ``error`` ("type: message", or "") are those of the last life of a run, of any
    other execution those of the newest write (:mod:`livingai.stores.standing`). Of a run
    (``is_run``), ``entered_at`` and ``ended_at`` are when that life began and ended; None: it has
    not, or was killed. ``damage`` says why nothing but the id is known, where the store's line
    makes no sense (another program changed it, or a disk has failed)."""

    execution_id: str
    epoch: int
    seq: int
    nodes: int
    checkpoints: int
    stored_bytes: int
    created_at: float
    updated_at: float
    status: str
    is_run: bool = False
    error: str = ""
    entered_at: float | None = None
    ended_at: float | None = None
    damage: str = ""


def check_statuses(statuses: Collection[str]) -> None:
    """Raise ConfigurationError unless these are statuses that executions can have: a filter with a
    misspelt one would find nothing, and look as if there were nothing to find."""
    known = ", ".join(Status)
    if isinstance(statuses, str):
        raise ConfigurationError(f"statuses is a tuple of {known}, not the text {shown(statuses)}")
    if not isinstance(statuses, Collection):
        raise ConfigurationError(f"statuses is a tuple of {known}, not {shown(statuses)}")
    for status in statuses:
        if status not in list(Status):
            raise ConfigurationError(
                f"no execution has the status {shown(status)}; there is {known}"
            )


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions ``list_executions`` answers; what is empty or None does not restrict.

    Raises:
        ConfigurationError: an unknown status, a time that is not a number, or metadata that is no
            dict of texts, bools, finite floats and integers of 64 bits.

    ``metadata`` is compared with the newest node's metadata, key by key, for equality of plain
    values (the framework's name, a tenant). Times are seconds since the Unix epoch.
    """

    statuses: tuple[str, ...] = ()
    updated_after: float | None = None
    updated_before: float | None = None
    metadata: dict[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ConfigurationError as the constructor does; the dict may have changed since."""
        check_statuses(self.statuses)
        for name in ("updated_after", "updated_before"):
            if getattr(self, name) is not None:
                as_seconds(getattr(self, name), name)
        check_plain(self.metadata, "metadata")


@dataclass(frozen=True, slots=True)
class CostLine:
    """A line of ``costs``: a run, a node name or a day (UTC, ``YYYY-MM-DD``), and the sums of its
    nodes' newest versions. ``latency_ms`` is the sum of theirs."""

    group: str
    nodes: int
    cost_tokens: int
    latency_ms: float
