"""What an SQLite store answers, one consistent query each.

No query leaves a snapshot open behind its answer, not even :func:`nodes` while its caller works:
an open snapshot would keep the write-ahead log from being copied back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from livingai.stores import sqlite_keeping
from livingai.stores.base import (
    ExecutionFilter,
    ExecutionInfo,
    PackedNode,
    SizedBlob,
    StoredCheckpoint,
    StoredNode,
)
from livingai.stores.rows import check_wire, read_blob, read_wire
from livingai.stores.sqlite_file import DatabaseFile

#: Nodes fetched at a time.
_NODES_PAGE: Final = 256
_LAST_CODE_POINT: Final = 0x10FFFF

_LATEST = """
SELECT c.epoch, c.seq, c.state_kind, c.blob_sum, b.blob, c.node_id, n.wire_sum, n.wire
FROM checkpoints AS c
LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
LEFT JOIN nodes AS n ON n.node_id = c.node_id AND n.execution_id = c.execution_id
WHERE c.execution_id = ? ORDER BY c.epoch DESC, c.seq DESC LIMIT 1
"""
_NEWEST_NODE = """
SELECT n.epoch, n.seq, n.node_id, n.wire_sum, n.wire
FROM executions AS e JOIN nodes AS n ON n.node_id = e.node_id AND n.execution_id = e.execution_id
WHERE e.execution_id = ?
"""
_NODE = """
SELECT n.epoch, n.seq, n.state_seq, c.state_kind, c.blob_sum, b.blob, n.execution_id, n.wire_sum,
    n.wire
FROM nodes AS n
LEFT JOIN checkpoints AS c
    ON c.execution_id = n.execution_id AND c.epoch = n.state_epoch AND c.seq = n.state_seq
LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
WHERE n.rowid = (SELECT rowid FROM nodes WHERE node_id = ? ORDER BY saved_at DESC LIMIT 1)
"""
_NODE_STATE = """
SELECT c.state_kind, c.blob_sum, b.blob
FROM checkpoints AS c LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
WHERE c.execution_id = ? AND c.node_id = ? ORDER BY c.epoch DESC, c.seq DESC LIMIT 1
"""
_NODES = """
SELECT first_epoch, first_seq, epoch, seq, state_epoch, state_seq, node_id, wire_sum, wire
FROM nodes WHERE execution_id = ? AND (first_epoch, first_seq) > (?, ?)
ORDER BY first_epoch, first_seq LIMIT ?
"""
_PACKED = """
SELECT wire, epoch, seq, state_epoch IS epoch AND state_seq IS seq, status, wire_sum, node_id
FROM nodes WHERE execution_id = ? ORDER BY first_epoch, first_seq
"""
_BY_HASH = """
SELECT c.blob_sum, b.blob, c.raw_bytes
FROM checkpoints AS c LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
WHERE c.execution_id = ? AND c.content_hash = ?
ORDER BY c.base_hash IS NOT NULL, c.epoch, c.seq LIMIT 1
"""
_LIST = """
SELECT execution_id, epoch, seq, nodes, checkpoints, stored_bytes, created_at, updated_at, status,
    life_epoch, coalesce(error, ''), entered_at, ended_at
FROM executions AS e
WHERE execution_id > ? AND execution_id >= ? AND (? IS NULL OR execution_id < ?){where}
ORDER BY execution_id LIMIT ?
"""


def latest_checkpoint(file: DatabaseFile, execution_id: str) -> StoredCheckpoint | None:
    """The newest write that carries a state; else the newest node, with blob None."""
    for epoch, seq, kind, blob_sum, blob, node_id, wire_sum, wire in file.read(
        _LATEST, (execution_id,)
    ):
        fields = read_wire(execution_id, node_id, wire, wire_sum)
        return StoredCheckpoint(fields, epoch, seq, read_blob(execution_id, blob, blob_sum), kind)
    for epoch, seq, node_id, wire_sum, wire in file.read(_NEWEST_NODE, (execution_id,)):
        fields = read_wire(execution_id, node_id, wire, wire_sum)
        return StoredCheckpoint(fields, epoch, seq, None, 0)
    return None


def load_node(file: DatabaseFile, node_id: str) -> StoredCheckpoint | None:
    """The newest version of a node with the newest state that it was saved with."""
    for epoch, seq, state_seq, kind, blob_sum, blob, execution_id, wire_sum, wire in file.read(
        _NODE, (node_id,)
    ):
        fields = read_wire(execution_id, node_id, wire, wire_sum)
        state = (kind, blob_sum, blob)
        if kind is None and state_seq is not None:  # dropped; an older one may be there
            older = file.read(_NODE_STATE, (execution_id, node_id))
            state = older[0] if older else state
        if state[0] is None:
            return StoredCheckpoint(fields, epoch, seq, None, 0)
        found = read_blob(execution_id, state[2], state[1])
        return StoredCheckpoint(fields, epoch, seq, found, state[0])
    return None


def nodes(file: DatabaseFile, execution_id: str) -> Iterator[StoredNode]:
    """All nodes of an execution, each in its newest version, ordered by their first save."""
    after = (-1, -1)
    while rows := file.read(_NODES, (execution_id, *after, _NODES_PAGE)):
        for *first, epoch, seq, state_epoch, state_seq, node_id, wire_sum, wire in rows:
            fields = read_wire(execution_id, node_id, wire, wire_sum)
            has_state = (epoch, seq) == (state_epoch, state_seq)
            yield StoredNode(fields, epoch, seq, has_state, (first[0], first[1]))
        after = rows[-1][:2]


def packed_nodes(file: DatabaseFile, execution_id: str) -> Iterator[PackedNode]:
    """As :func:`nodes`, with the wires as stored: checked against their sums, not decoded."""
    for wire, epoch, seq, has_state, status, wire_sum, node_id in file.read(
        _PACKED, (execution_id,)
    ):
        check_wire(execution_id, node_id, wire, wire_sum)
        yield PackedNode(wire, epoch, seq, bool(has_state), status)


def sized_blob(file: DatabaseFile, execution_id: str, content_hash: bytes) -> SizedBlob | None:
    """The encoded checkpoint of this execution whose raw content has that hash."""
    for blob_sum, blob, raw_bytes in file.read(_BY_HASH, (execution_id, content_hash)):
        return SizedBlob(read_blob(execution_id, blob, blob_sum), raw_bytes)
    return None


def list_executions(
    file: DatabaseFile, after: str | None, limit: int, prefix: str, where: ExecutionFilter | None
) -> list[ExecutionInfo]:
    """A page of executions in order of id, starting behind ``after``."""
    end = behind(prefix)
    sql, restricted = sqlite_keeping.restriction(where)
    bindings = (after or "", prefix, end, end, *restricted, max(limit, 0))
    rows = file.read(_LIST.format(where=sql), bindings)
    lines = ([*row[:9], row[9] is not None, *row[10:]] for row in rows)
    return [ExecutionInfo(*line) for line in lines]


def behind(prefix: str) -> str | None:
    """The smallest text that is larger than all that begin with ``prefix``; None: there is none."""
    while prefix:
        point = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if point <= _LAST_CODE_POINT:
            # Surrogates are no characters: U+D7FF is followed by U+E000.
            return prefix + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)
    return None
