"""Nodes of an SQLite store by their ids: reading a range of them, removing single ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from livingai.stores.base import DroppedNodes, NodeRange, StoredCheckpoint
from livingai.stores.checked import digest, integer, newest_checkpoint, rows_of, text, whole
from livingai.stores.retention import plan_node_drops
from livingai.stores.shared.rows import read_blob, read_wire
from livingai.stores.sqlite import drops, keeping
from livingai.stores.sqlite.file import DatabaseFile

if TYPE_CHECKING:
    import apsw

#: The page is cut before anything is joined to it: what has to be sorted has no blobs in it then.
_BETWEEN: Final = """
SELECT n.node_id, n.first_epoch, n.first_seq, n.epoch, n.seq, n.state_seq, n.wire_sum, n.wire,
    {state}
FROM (
    SELECT rowid AS row FROM nodes INDEXED BY {index}
    WHERE execution_id = ? AND node_id >= ? {bounds} ORDER BY node_id {direction} LIMIT ?
) AS page CROSS JOIN nodes AS n ON n.rowid = page.row {joins}
"""
_STATE: Final = "c.state_kind, c.raw_bytes, c.blob_sum, b.blob, c.content_hash"
_NO_STATE: Final = "NULL, NULL, NULL, NULL, NULL"
_JOINS: Final = """
LEFT JOIN checkpoints AS c
    ON c.execution_id = n.execution_id AND c.epoch = n.state_epoch AND c.seq = n.state_seq
LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
"""
_NEWEST_STATE: Final = """
SELECT c.state_kind, c.raw_bytes, c.blob_sum, b.blob, c.content_hash
FROM checkpoints AS c LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
WHERE c.execution_id = ? AND c.node_id = ? ORDER BY c.epoch DESC, c.seq DESC LIMIT 1
"""
_LINE: Final = "SELECT node_id, life_epoch, life_seq FROM executions WHERE execution_id = ?"
_CHECKPOINTS: Final = """
SELECT epoch, seq, node_id, base_hash, content_hash FROM checkpoints
WHERE execution_id = ? ORDER BY epoch, seq
"""
_NODE: Final = """
SELECT epoch, seq, cost_tokens FROM nodes WHERE node_id = ? AND execution_id = ?
"""
_DROP: Final = "DELETE FROM nodes WHERE node_id = ? AND execution_id = ?"
_COUNT: Final = """
UPDATE executions SET nodes = nodes - ?, cost_tokens = cost_tokens - ? WHERE execution_id = ?
"""


def nodes_between(
    file: DatabaseFile, execution_id: str, asked: NodeRange
) -> list[StoredCheckpoint]:
    """The nodes of a range.

    By the index of ids where the range has two ends: so a few nodes of many are as quick as a few
    of few. That index begins with the node's id, so a range without an end would lead through the
    nodes of all executions behind it; it is answered from those of its execution, sorted.
    """
    bindings: list[Any] = [execution_id, asked.first]
    bounds = []
    if asked.behind is not None:
        bounds.append("AND node_id < ?")
        bindings.append(asked.behind)
    for sign, version in ((">", asked.after), ("<=", asked.upto)):
        if version is not None:
            bounds.append(f"AND (first_epoch, first_seq) {sign} (?, ?)")
            bindings += version
    by_id = bool(asked.first) and asked.behind is not None
    statement = _BETWEEN.format(
        state=_STATE if asked.states else _NO_STATE,
        joins=_JOINS if asked.states else "",
        index="nodes_by_id" if by_id else "nodes_in_order",
        bounds=" ".join(bounds),
        direction="DESC" if asked.backwards else "ASC",
    )
    with rows_of(execution_id):
        rows = file.read(statement, (*bindings, asked.limit))
        rows.sort(key=lambda row: text(row[0], "node_id"), reverse=asked.backwards)
        return [_found(file, execution_id, row, asked.states) for row in rows]


def _found(file: DatabaseFile, execution_id: str, row: Any, states: bool) -> StoredCheckpoint:
    node_id, first_epoch, first_seq, epoch, seq, state_seq, wire_sum, wire, *state = row
    fields = read_wire(execution_id, node_id, wire, wire_sum)
    if states and state[0] is None and state_seq is not None:  # dropped: an older one may be there
        state = next(iter(file.read(_NEWEST_STATE, (execution_id, node_id))), state)
    kind, raw_bytes, blob_sum, blob, content_hash = state
    found = StoredCheckpoint(fields, whole(epoch, "epoch"), whole(seq, "seq"), None, 0)
    if kind is not None:
        raw = read_blob(execution_id, blob, blob_sum)
        found = newest_checkpoint(execution_id, fields, (epoch, seq), raw, kind, raw_bytes)
    return StoredCheckpoint(
        found.wire, found.epoch, found.seq, found.blob, found.state_kind, node_id,
        content_hash=digest(content_hash, "content_hash"), raw_bytes=found.raw_bytes,
        first=(whole(first_epoch, "first_epoch"), whole(first_seq, "first_seq")),
    )  # fmt: skip


def drop_nodes(
    connection: apsw.Connection, execution_id: str, node_ids: Collection[str]
) -> DroppedNodes:
    """Inside a transaction: remove nodes with their checkpoints."""
    with rows_of(execution_id):
        line: Any = connection.execute(_LINE, (execution_id,)).fetchone()
        if line is None:
            return DroppedNodes(0, 0, ())
        newest_node, *life = line
        there: dict[str, int] = {}
        newest: dict[str, tuple[int, int]] = {}
        lives: set[str] = set()
        for node_id in node_ids:
            node: Any = connection.execute(_NODE, (node_id, execution_id)).fetchone()
            if node is not None:
                *version, cost = node
                there[node_id] = integer(cost, "cost_tokens")
                newest[node_id] = (version[0], version[1])
                if version == life:
                    lives.add(node_id)
        checkpoints = [
            StoredCheckpoint([], epoch, seq, b"", 0, node_id, base_hash, content_hash)
            for epoch, seq, node_id, base_hash, content_hash in connection.execute(
                _CHECKPOINTS, (execution_id,)
            )
        ]
        going, versions = plan_node_drops(checkpoints, set(there) - lives, newest_node)
        connection.executemany(_DROP, [(node_id, execution_id) for node_id in going])
        blob_bytes = keeping.drop_checkpoints(connection, execution_id, versions)
        tokens = sum(there[node_id] for node_id in going)
        connection.execute(_COUNT, (len(going), tokens, execution_id))
        if going:
            drops.note_drop(connection, execution_id, max(newest[node_id] for node_id in going))
    return DroppedNodes(len(going), blob_bytes, tuple(sorted(set(there) - set(going))))
