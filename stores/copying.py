"""Copying executions: between stores, or inside one as a fork.

A copy keeps epochs, claims and sequence numbers, so the target fences whom the source would fence,
and copying again changes nothing: an interrupted copy is simply started again. Blobs are copied as
they are; that they arrived is verified by reading them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import xxhash

from livingai.errors import CorruptRecordError, ExecutionNotFoundError, StoreError
from livingai.stores.base import (
    ExecutionInfo,
    Row,
    RowStatus,
    Store,
    StoredCheckpoint,
    StoredNode,
)

_BATCH_ROWS = 200
_BATCH_BYTES = 8 << 20
_PAGE = 200
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy wrote or found there: numbers, and bytes of encoded checkpoints."""

    executions: int = 0
    nodes: int = 0
    checkpoints: int = 0
    blob_bytes: int = 0


def copy_execution(
    source: Store, target: Store, execution_id: str, as_id: str | None = None
) -> Copied:
    """Copy one execution with all its nodes and checkpoints; ``as_id`` makes it a fork.

    A fork's nodes get ids of their own (``<id>~<8 hex digits of the new execution's hash>``), and
    its first node's metadata says ``forked_from``.

    Raises:
        ExecutionNotFoundError: the source has no such execution.
        StoreError: the target has a newer owner of that execution, or refuses a row.
        CorruptRecordError: what arrived is not what was sent.
    """
    nodes = list(source.nodes(execution_id))
    if not nodes:
        raise ExecutionNotFoundError(f"no execution {execution_id!r} in {source.url}")
    name = as_id or execution_id
    rename = _Renamer(execution_id, as_id, nodes[0].wire[1])
    claims = dict(source.owners(execution_id))
    sums: dict[Version, int] = {}
    batch: list[Row] = []
    size = count = 0
    blob_bytes = 0
    for row in _rows(source, execution_id, nodes, claims, rename):
        batch.append(row)
        if row.blob is not None:
            count += 1
            size += len(row.blob)
            blob_bytes += len(row.blob)
            sums[row.epoch, row.seq] = xxhash.xxh3_64_intdigest(row.blob)
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            _commit(target, batch)
            batch, size = [], 0
    _commit(target, batch)
    _verify(target, name, sums)
    return Copied(1, len(nodes), count, blob_bytes)


def copy_store(
    source: Store,
    target: Store,
    *,
    prefix: str = "",
    progress: Callable[[ExecutionInfo, int], None] = lambda info, done: None,
) -> Copied:
    """Copy every execution whose id begins with ``prefix``; ``progress(info, number)`` is called
    after each. What the target has completely already is skipped, so call it again to resume, or
    to catch up with what was written meanwhile.

    Raises: as :func:`copy_execution`.
    """
    total = Copied()
    after: str | None = None
    done = 0
    while page := source.list_executions(after=after, limit=_PAGE, prefix=prefix):
        for info in page:
            done += 1
            if same_content(info, find_execution(target, info.execution_id)):
                one = Copied(1, info.nodes, info.checkpoints, info.stored_bytes)
            else:
                one = copy_execution(source, target, info.execution_id)
            total = Copied(
                total.executions + one.executions,
                total.nodes + one.nodes,
                total.checkpoints + one.checkpoints,
                total.blob_bytes + one.blob_bytes,
            )
            progress(info, done)
        after = page[-1].execution_id
    return total


def find_execution(store: Store, execution_id: str) -> ExecutionInfo | None:
    """The store's line for one execution; None if it has none."""
    for info in store.list_executions(limit=1, prefix=execution_id):
        if info.execution_id == execution_id:
            return info
    return None


def same_content(one: ExecutionInfo | None, other: ExecutionInfo | None) -> bool:
    """Whether two stores have the same writes of an execution, as far as counts and the newest
    version tell."""
    if one is None or other is None:
        return one is other
    return (one.epoch, one.seq, one.nodes, one.checkpoints, one.stored_bytes) == (
        other.epoch,
        other.seq,
        other.nodes,
        other.checkpoints,
        other.stored_bytes,
    )


class _Renamer:
    """Names of a fork; without a new id everything keeps its name."""

    def __init__(self, execution_id: str, as_id: str | None, first_node: object) -> None:
        self._source = execution_id
        self._as_id = as_id
        self._first_node = first_node
        self._tail = f"~{xxhash.xxh3_64_intdigest((as_id or '').encode()) >> 32:08x}"

    def wire(self, wire: list[object]) -> list[object]:
        """A node section under its new names."""
        if self._as_id is None:
            return wire
        renamed = list(wire)
        renamed[0] = self._as_id
        renamed[1] = f"{wire[1]}{self._tail}"
        if wire[4] is not None:
            renamed[4] = f"{wire[4]}{self._tail}"
        if wire[1] == self._first_node and isinstance(wire[12], dict):
            renamed[12] = {**wire[12], "forked_from": self._source}
        return renamed


def _rows(
    source: Store,
    execution_id: str,
    nodes: list[StoredNode],
    claims: dict[int, str | None],
    rename: _Renamer,
) -> Iterator[Row]:
    """Writes in order of (epoch, seq) that give the target the same nodes and checkpoints: each
    node at its first and at its newest version, each checkpoint at its own."""
    bare: dict[Version, StoredNode] = {}
    for node in nodes:
        bare[node.epoch, node.seq] = node
        bare.setdefault(node.first if node.first[0] else (node.epoch, node.seq), node)
    waiting = sorted(bare.items(), key=lambda item: item[0])
    at = 0

    def row(version: Version, wire: list[object], checkpoint: StoredCheckpoint | None) -> Row:
        epoch, seq = version
        renamed = rename.wire(wire)
        return Row(
            execution_id=str(renamed[0]), node_id=str(renamed[1]),
            claim=claims.get(epoch) or f"copy-{epoch}", epoch=epoch, seq=seq, wire=renamed,
            blob=checkpoint.blob if checkpoint else None,
            state_kind=checkpoint.state_kind if checkpoint else 0,
            raw_bytes=checkpoint.raw_bytes if checkpoint else 0,
            saved_at=checkpoint.saved_at if checkpoint else _saved_at(wire),
            base_hash=checkpoint.base_hash if checkpoint else None,
            content_hash=checkpoint.content_hash if checkpoint else None,
        )  # fmt: skip

    for checkpoint in source.checkpoints(execution_id):
        version = (checkpoint.epoch, checkpoint.seq)
        while at < len(waiting) and waiting[at][0] < version:
            yield row(waiting[at][0], waiting[at][1].wire, None)
            at += 1
        if at < len(waiting) and waiting[at][0] == version:
            at += 1
        yield row(version, checkpoint.wire, checkpoint)
    for version, node in waiting[at:]:
        yield row(version, node.wire, None)


def _saved_at(wire: list[object]) -> float:
    """A time for a write whose own is not kept: when the node ended, else when it began."""
    for value in (wire[6], wire[5]):
        if isinstance(value, int | float):
            return float(value)
    return 0.0


def _commit(target: Store, rows: list[Row]) -> None:
    if not rows:
        return
    for row, result in zip(rows, target.commit(rows), strict=True):
        if result.status is not RowStatus.STORED:
            raise StoreError(
                f"{target.url} does not take {row.execution_id} {row.node_id} (epoch {row.epoch}, "
                f"seq {row.seq}): {result.status.name.lower()}, {result.reason}"
            )


def _verify(target: Store, execution_id: str, sums: dict[Version, int]) -> None:
    for checkpoint in target.checkpoints(execution_id):
        expected = sums.pop((checkpoint.epoch, checkpoint.seq), None)
        if expected is None:
            continue  # the target had more
        if xxhash.xxh3_64_intdigest(checkpoint.blob or b"") != expected:
            raise CorruptRecordError(
                f"{target.url}: checkpoint {checkpoint.epoch}.{checkpoint.seq} of {execution_id} "
                "is not what was copied; copy again"
            )
    if sums:
        raise CorruptRecordError(
            f"{target.url}: {len(sums)} checkpoints of {execution_id} did not arrive; copy again"
        )
