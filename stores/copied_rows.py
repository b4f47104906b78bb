"""The rows of a copy: those that give another store the same nodes and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import xxhash

from livingai.node import NodeField
from livingai.stores.base import Row, StoredCheckpoint, StoredNode
from livingai.stores.comparing import Version, copied_claim


class Renamer:
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
        renamed[NodeField.EXECUTION_ID] = self._as_id
        renamed[NodeField.ID] = f"{wire[NodeField.ID]}{self._tail}"
        if wire[NodeField.PARENT_ID] is not None:
            renamed[NodeField.PARENT_ID] = f"{wire[NodeField.PARENT_ID]}{self._tail}"
        metadata = wire[NodeField.METADATA]
        if wire[NodeField.ID] == self._first_node and isinstance(metadata, dict):
            renamed[NodeField.METADATA] = {**metadata, "forked_from": self._source}
        return renamed


def copied_rows(
    checkpoints: Iterable[StoredCheckpoint],
    nodes: list[StoredNode],
    claims: dict[int, str | None],
    rename: Renamer,
) -> Iterator[tuple[Row, StoredCheckpoint | None]]:
    """Writes in order of (epoch, seq) that give the target the same nodes and checkpoints: each
    node at its first and at its newest version, each checkpoint at its own. ``checkpoints`` come in
    that order, too."""
    bare: dict[Version, StoredNode] = {}
    for node in nodes:
        bare[node.epoch, node.seq] = node
        bare.setdefault(node.first if node.first[0] else (node.epoch, node.seq), node)
    waiting = sorted(bare.items(), key=lambda item: item[0])
    at = 0

    def row(
        version: Version, wire: list[object], checkpoint: StoredCheckpoint | None = None
    ) -> tuple[Row, StoredCheckpoint | None]:
        epoch, seq = version
        renamed = rename.wire(wire)
        made = Row(
            execution_id=str(renamed[NodeField.EXECUTION_ID]), node_id=str(renamed[NodeField.ID]),
            claim=claims.get(epoch) or copied_claim(epoch), epoch=epoch, seq=seq, wire=renamed,
            blob=checkpoint.blob if checkpoint else None,
            state_kind=checkpoint.state_kind if checkpoint else 0,
            raw_bytes=checkpoint.raw_bytes if checkpoint else 0,
            saved_at=checkpoint.saved_at if checkpoint else _saved_at(wire),
            base_hash=checkpoint.base_hash if checkpoint else None,
            content_hash=checkpoint.content_hash if checkpoint else None,
        )  # fmt: skip
        return made, checkpoint

    for checkpoint in checkpoints:
        version = (checkpoint.epoch, checkpoint.seq)
        while at < len(waiting) and waiting[at][0] < version:
            yield row(waiting[at][0], waiting[at][1].wire)
            at += 1
        if at < len(waiting) and waiting[at][0] == version:
            at += 1
        yield row(version, checkpoint.wire, checkpoint)
    for version, node in waiting[at:]:
        yield row(version, node.wire)


def _saved_at(wire: list[object]) -> float:
    """A time for a write whose own is not kept: when the node ended, else when it began."""
    for value in (wire[NodeField.COMPLETED_AT], wire[NodeField.CREATED_AT]):
        if isinstance(value, int | float):
            return float(value)
    return 0.0
