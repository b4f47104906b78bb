"""Copying executions: between stores, or inside one as a fork.

Rules:

1. A copy keeps epochs, claims and sequence numbers, so the target fences the writers that the
   source would fence, and copying again changes nothing.
2. Before the first row is written, everything that the target has under the same ids is compared
   with the source (:mod:`livingai.stores.comparing`). A copy that was cut short goes on, an older
   copy is brought up to date; another run, or one that went on in the target, is refused.
3. Blobs are copied as they are. Afterwards the target is read back: nodes by their sections, states
   by what they decode to.
4. What is written to the source meanwhile may be left for the next copy; it is never copied in
   part without what came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from livingai.errors import (
    ConfigurationError,
    CopyConflictError,
    CorruptRowError,
    ExecutionNotFoundError,
    StoreError,
)
from livingai.node import NodeField
from livingai.stores.base import (
    ExecutionInfo,
    Row,
    RowStatus,
    Store,
)
from livingai.stores.comparing import (
    Hasher,
    Holding,
    NodePrint,
    conflict,
    is_complete,
    read_holding,
    wire_hash,
)
from livingai.stores.copied_rows import Renamer, copied_rows

_BATCH_ROWS = 200
_BATCH_BYTES = 8 << 20
_PAGE = 200
#: So many conflicts are named in the message.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy wrote or found there: numbers, and bytes of encoded checkpoints. ``left_out``
    counts checkpoints that the target has dropped and cannot take again."""

    executions: int = 0
    nodes: int = 0
    checkpoints: int = 0
    blob_bytes: int = 0
    left_out: int = 0

    def __add__(self, other: Copied) -> Copied:
        return Copied(
            self.executions + other.executions,
            self.nodes + other.nodes,
            self.checkpoints + other.checkpoints,
            self.blob_bytes + other.blob_bytes,
            self.left_out + other.left_out,
        )


def copy_execution(
    source: Store, target: Store, execution_id: str, as_id: str | None = None
) -> Copied:
    """Copy one execution with all its nodes and checkpoints; ``as_id`` makes it a fork.

    A fork's nodes get ids of their own (``<id>~<8 hex digits of the new execution's hash>``), and
    its first node's metadata says ``forked_from``.

    Raises:
        ExecutionNotFoundError: the source has no such execution.
        CopyConflictError: the target has another run under that id; nothing was written.
        StoreError: the target refuses a row.
        CorruptRecordError: what arrived is not what was sent.
    """
    nodes = list(source.nodes(execution_id))
    if not nodes:
        raise ExecutionNotFoundError(f"no execution {execution_id!r} in {source.url}")
    name = as_id or execution_id
    rename = Renamer(execution_id, as_id, nodes[0].wire[NodeField.ID])
    there = read_holding(target, name)
    if there.owners or there.nodes:
        why = conflict(_renamed_holding(source, execution_id, rename), there)
        if why is not None:
            raise _refused(target, [(name, why)])
    sent = Holding(dict(source.owners(execution_id)))
    hasher = Hasher(source, execution_id)
    newest = max(there.owners, default=0)
    batch: list[Row] = []
    size = 0
    stored = source.checkpoints(execution_id)
    for row, checkpoint in copied_rows(stored, nodes, sent.owners, rename):
        version = (row.epoch, row.seq)
        _note(sent, row)
        if checkpoint is not None:
            sent.states[version] = hasher.print_of(checkpoint, row.node_id)
            sent.blob_bytes += len(checkpoint.blob or b"")
        if version in there.states or row.epoch < newest:
            continue  # it has this very one, or had it and has dropped it
        batch.append(row)
        size += len(row.blob or b"")
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            _commit(target, batch)
            batch, size = [], 0
    _commit(target, batch)
    return _verified(target, name, sent)


def copy_store(
    source: Store,
    target: Store,
    *,
    prefix: str = "",
    progress: Callable[[ExecutionInfo, int], None] = lambda info, done: None,
) -> Copied:
    """Copy every execution whose id begins with ``prefix``; ``progress(info, number)`` is called
    after each. Call it again to resume, or to catch up with what was written meanwhile.

    Raises:
        ConfigurationError: both are the same store.
        CopyConflictError: the target has other runs under some of the ids; nothing was written.
        StoreError, CorruptRecordError: as :func:`copy_execution`.
    """
    refuse_same(source, target)
    complete = _compare_all(source, target, prefix)
    total = Copied()
    for done, info in enumerate(_executions(source, prefix), 1):
        known = complete.get(info.execution_id)
        total += known or copy_execution(source, target, info.execution_id)
        progress(info, done)
    return total


def refuse_same(source: Store, target: Store) -> None:
    """Raise ConfigurationError if both names lead to the same store."""
    if source.places() & target.places():
        raise ConfigurationError(
            f"source and target are the same store: {source.url} and {target.url}"
        )


def _compare_all(source: Store, target: Store, prefix: str) -> dict[str, Copied]:
    """What the target has completely; changes nothing."""
    complete: dict[str, Copied] = {}
    refused: list[tuple[str, str]] = []
    for info in _executions(source, prefix):
        execution_id = info.execution_id
        if find_execution(target, execution_id) is None and not target.owners(execution_id):
            continue
        here, there = read_holding(source, execution_id), read_holding(target, execution_id)
        why = conflict(here, there)
        if why is not None:
            refused.append((execution_id, why))
        elif is_complete(here, there):
            complete[execution_id] = _counted(here, there)
    if refused:
        raise _refused(target, refused)
    return complete


def _refused(target: Store, refused: list[tuple[str, str]]) -> CopyConflictError:
    named = "; ".join(f"{execution_id}: {why}" for execution_id, why in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    return CopyConflictError(
        f"{target.url} has other runs under the same ids ({named}{more}). Nothing of them was "
        "copied. Copy to another store, or name a prefix that leaves them out"
    )


def _counted(here: Holding, there: Holding) -> Copied:
    left_out = len(here.dropped_by(there))
    return Copied(1, len(here.nodes), len(here.states) - left_out, here.blob_bytes, left_out)


def _executions(store: Store, prefix: str) -> Iterator[ExecutionInfo]:
    after: str | None = None
    while page := store.list_executions(after=after, limit=_PAGE, prefix=prefix):
        yield from page
        after = page[-1].execution_id


def find_execution(store: Store, execution_id: str) -> ExecutionInfo | None:
    """The store's line for one execution; None if it has none."""
    for info in store.list_executions(limit=1, prefix=execution_id):
        if info.execution_id == execution_id:
            return info
    return None


def same_content(one: ExecutionInfo | None, other: ExecutionInfo | None) -> bool:
    """Whether two stores have the same writes of an execution, judged by counts and the newest
    version."""
    if one is None or other is None:
        return one is other
    return (one.epoch, one.seq, one.nodes, one.checkpoints, one.stored_bytes) == (
        other.epoch,
        other.seq,
        other.nodes,
        other.checkpoints,
        other.stored_bytes,
    )


def _commit(target: Store, rows: list[Row]) -> None:
    if not rows:
        return
    for row, result in zip(rows, target.commit(rows), strict=True):
        if result.status is not RowStatus.STORED:
            raise StoreError(
                f"{target.url} does not take {row.execution_id} {row.node_id} (epoch {row.epoch}, "
                f"seq {row.seq}): {result.status.name.lower()}, {result.reason}"
            )


def _renamed_holding(source: Store, execution_id: str, rename: Renamer) -> Holding:
    """What the source has, under the names that it gets in the target."""
    nodes = list(source.nodes(execution_id))
    held = Holding(dict(source.owners(execution_id)))
    held.stateless = {(node.epoch, node.seq) for node in nodes if not node.has_state}
    hasher = Hasher(source, execution_id)
    stored = source.checkpoints(execution_id)
    for row, checkpoint in copied_rows(stored, nodes, held.owners, rename):
        _note(held, row)
        if checkpoint is not None:
            held.states[row.epoch, row.seq] = hasher.print_of(checkpoint, row.node_id)
    return held


def _note(held: Holding, row: Row) -> None:
    """Add to ``held`` what a row does to the nodes of the store that gets it."""
    version = (row.epoch, row.seq)
    before = held.nodes.get(row.node_id)
    first = version if before is None else before.first  # rows come in order
    held.nodes[row.node_id] = NodePrint(first, version, wire_hash(row.wire))


def _verified(target: Store, execution_id: str, sent: Holding) -> Copied:
    """Read back what arrived.

    Raises:
        CorruptRecordError: it is not what was sent.
    """
    arrived = read_holding(target, execution_id)
    why = conflict(sent, arrived)
    if why is None and not is_complete(sent, arrived):
        why = "not all of it arrived"
    if why is not None:
        raise CorruptRowError(
            f"{target.url}: {execution_id} is not what was copied: {why}; if no other process "
            "writes to it there, copy again"
        )
    return _counted(sent, arrived)
