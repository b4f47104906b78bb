"""An execution as it was before one of its nodes began, as the source of a copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from livingai.errors import NodeNotFoundError
from livingai.node import NodeField, Status
from livingai.stores.base import SizedBlob, Store, StoredCheckpoint, StoredNode
from livingai.stores.comparing import Version
from livingai.stores.copying import copy_execution


def fork_before(store: Store, execution_id: str, node_id: str, new_id: str) -> int:
    """Copy what an execution had when ``node_id`` was saved for the first time, without that node,
    under a new id; the number of nodes.

    A store keeps the newest version of a node. Of one that was saved again since, its end came
    later: in the copy it is RUNNING, without output and error. So a tool that was under way at that
    moment is in doubt in the copy.

    Raises:
        ExecutionNotFoundError, NodeNotFoundError: there is no such execution or node.
        CopyConflictError: ``new_id`` is another execution; nothing was written.
    """
    earlier = _Earlier(store, execution_id, node_id)
    if not earlier.found:
        raise NodeNotFoundError(
            f"nothing of {execution_id!r} was saved before {node_id!r}; there is nothing to copy"
        )
    # It has what a copy reads of its source.
    return copy_execution(cast("Store", earlier), store, execution_id, new_id).nodes


class _Earlier:
    """The reading half of a store, for one execution before one of its nodes."""

    def __init__(self, store: Store, execution_id: str, node_id: str) -> None:
        self._store = store
        nodes = list(store.nodes(execution_id))
        cut = next((_first(n) for n in nodes if n.wire[NodeField.ID] == node_id), None)
        if cut is None:
            raise NodeNotFoundError(f"execution {execution_id!r} has no node {node_id!r}")
        self._cut = cut
        self.found = [_before(node, cut) for node in nodes if _first(node) < cut]
        self._wires = {str(node.wire[NodeField.ID]): node.wire for node in self.found}

    @property
    def url(self) -> str:
        return self._store.url

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        return iter(self.found)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        return [each for each in self._store.owners(execution_id) if each[0] <= self._cut[0]]

    def checkpoints(self, execution_id: str) -> Iterator[StoredCheckpoint]:
        for found in self._store.checkpoints(execution_id):
            wire = self._wires.get(str(found.wire[NodeField.ID]))
            if wire is not None and (found.epoch, found.seq) < self._cut:
                yield replace(found, wire=wire)

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        return self._store.sized_blob(execution_id, content_hash)


def _first(node: StoredNode) -> Version:
    return node.first if node.first[0] else (node.epoch, node.seq)


def _before(node: StoredNode, cut: Version) -> StoredNode:
    """A node as it was before that version, as far as is known."""
    if (node.epoch, node.seq) < cut:
        return node
    wire = list(node.wire)
    wire[NodeField.STATUS] = Status.RUNNING.value
    for field in (NodeField.OUTPUT, NodeField.ERROR, NodeField.COMPLETED_AT):
        wire[field] = None
    wire[NodeField.COST_TOKENS], wire[NodeField.LATENCY_MS] = 0, 0.0
    epoch, seq = _first(node)
    return replace(node, wire=wire, epoch=epoch, seq=seq, has_state=False)
