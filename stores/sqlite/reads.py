"""What an SQLite store answers, one consistent query each.

No query leaves a snapshot open behind its answer, not even :func:`nodes` while its caller works:
an open snapshot would keep the write-ahead log from being copied back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

from livingai.errors import CorruptRecordError
from livingai.stores.base import (
    ExecutionFilter,
    ExecutionInfo,
    PackedNode,
    SizedBlob,
    StoredCheckpoint,
    StoredNode,
)
from livingai.stores.checked import (
    damaged_line,
    execution_line,
    newest_checkpoint,
    rows_of,
    text,
    whole,
)
from livingai.stores.shared.prefixes import behind
from livingai.stores.shared.rows import check_wire, read_blob, read_wire
from livingai.stores.sqlite import keeping
from livingai.stores.sqlite.file import DatabaseFile

_log = logging.getLogger("livingai.stores")
#: Nodes fetched at a time.
_NODES_PAGE: Final = 256

_LATEST = """
SELECT c.epoch, c.seq, c.state_kind, c.raw_bytes, c.blob_sum, b.blob, c.node_id, n.wire_sum, n.wire
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
SELECT n.epoch, n.seq, n.state_seq, n.execution_id, n.wire_sum, n.wire, c.state_kind, c.raw_bytes,
    c.blob_sum, b.blob
FROM nodes AS n
LEFT JOIN checkpoints AS c
    ON c.execution_id = n.execution_id AND c.epoch = n.state_epoch AND c.seq = n.state_seq
LEFT JOIN blobs AS b ON b.blob_id = c.blob_id
WHERE n.rowid = (SELECT rowid FROM nodes WHERE node_id = ? ORDER BY saved_at DESC LIMIT 1)
"""
_NODE_STATE = """
SELECT c.state_kind, c.raw_bytes, c.blob_sum, b.blob
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
SELECT {columns} FROM executions AS e
WHERE {range} AND typeof(execution_id) = 'text'{where}
ORDER BY execution_id LIMIT ? OFFSET ?
"""
_LINE: Final = (
    "execution_id", "epoch", "seq", "nodes", "checkpoints", "stored_bytes", "created_at",
    "updated_at", "status", "life_epoch IS NOT NULL", "coalesce(error, '')", "entered_at",
    "ended_at",
)  # fmt: skip


def latest_checkpoint(file: DatabaseFile, execution_id: str) -> StoredCheckpoint | None:
    """The newest write that carries a state; else the newest node, with blob None."""
    with rows_of(execution_id):
        for epoch, seq, kind, raw_bytes, blob_sum, blob, node_id, wire_sum, wire in file.read(
            _LATEST, (execution_id,)
        ):
            fields = read_wire(execution_id, node_id, wire, wire_sum)
            state = read_blob(execution_id, blob, blob_sum)
            return newest_checkpoint(execution_id, fields, (epoch, seq), state, kind, raw_bytes)
        for epoch, seq, node_id, wire_sum, wire in file.read(_NEWEST_NODE, (execution_id,)):
            fields = read_wire(execution_id, node_id, wire, wire_sum)
            return StoredCheckpoint(fields, whole(epoch, "epoch"), whole(seq, "seq"), None, 0)
    return None


def load_node(file: DatabaseFile, node_id: str) -> StoredCheckpoint | None:
    """The newest version of a node with the newest state that it was saved with."""
    with rows_of(f"of node {node_id}"):
        found = file.read(_NODE, (node_id,))
        for row in found:
            text(row[3], "execution_id")
    for epoch, seq, state_seq, execution_id, wire_sum, wire, *newest in found:
        with rows_of(execution_id):
            fields = read_wire(execution_id, node_id, wire, wire_sum)
            state = [newest]
            if newest[0] is None and state_seq is not None:  # dropped; an older one may be there
                state = file.read(_NODE_STATE, (execution_id, node_id)) or state
            kind, raw_bytes, blob_sum, blob = state[0]
            if kind is None:
                return StoredCheckpoint(fields, whole(epoch, "epoch"), whole(seq, "seq"), None, 0)
            raw = read_blob(execution_id, blob, blob_sum)
            return newest_checkpoint(execution_id, fields, (epoch, seq), raw, kind, raw_bytes)
    return None


def nodes(file: DatabaseFile, execution_id: str) -> Iterator[StoredNode]:
    """All nodes of an execution, each in its newest version, ordered by their first save."""
    after = (-1, -1)
    while rows := _page(file, execution_id, after):
        for *first, epoch, seq, state_epoch, state_seq, node_id, wire_sum, wire in rows:
            with rows_of(execution_id):
                node = StoredNode(
                    read_wire(execution_id, node_id, wire, wire_sum),
                    whole(epoch, "epoch"), whole(seq, "seq"),
                    (epoch, seq) == (state_epoch, state_seq),
                    (whole(first[0], "first_epoch"), whole(first[1], "first_seq")),
                )  # fmt: skip
            yield node
        after = rows[-1][:2]


def _page(file: DatabaseFile, execution_id: str, after: tuple[int, int]) -> list[Any]:
    with rows_of(execution_id):
        return file.read(_NODES, (execution_id, *after, _NODES_PAGE))


def packed_nodes(file: DatabaseFile, execution_id: str) -> Iterator[PackedNode]:
    """As :func:`nodes`, with the wires as stored: checked against their sums, not decoded."""
    with rows_of(execution_id):
        rows = file.read(_PACKED, (execution_id,))
        for wire, epoch, seq, has_state, status, wire_sum, node_id in rows:
            check_wire(execution_id, node_id, wire, wire_sum)
            yield PackedNode(
                wire, whole(epoch, "epoch"), whole(seq, "seq"), bool(has_state), status
            )


def sized_blob(file: DatabaseFile, execution_id: str, content_hash: bytes) -> SizedBlob | None:
    """The encoded checkpoint of this execution whose raw content has that hash."""
    with rows_of(execution_id):
        for blob_sum, blob, raw_bytes in file.read(_BY_HASH, (execution_id, content_hash)):
            state = read_blob(execution_id, blob, blob_sum)
            return SizedBlob(state, whole(raw_bytes, "raw_bytes"))
    return None


def list_executions(
    file: DatabaseFile, after: str | None, limit: int, prefix: str, where: ExecutionFilter | None
) -> list[ExecutionInfo]:
    """A page of executions in order of id, starting behind ``after``."""
    between, bindings = _range(after or "", prefix)
    sql, restricted = keeping.restriction(where)
    statement = _LIST.replace("{range}", between).replace("{where}", sql)
    bindings += restricted
    try:
        rows = file.read(statement.format(columns=", ".join(_LINE)), (*bindings, max(limit, 0), 0))
    except CorruptRecordError:  # a text on this page is not valid: the others are listed
        return _list_singly(file, statement, bindings, limit)
    return [_line(row) for row in rows]


def _range(after: str, prefix: str) -> tuple[str, list[Any]]:
    """SQL and bindings for ids behind ``after`` that begin with ``prefix``: one bound at each end,
    because SQLite looks up only one, and walks over the rows that a second one excludes."""
    between, bindings = ("execution_id > ?", [after])
    if prefix > after:
        between, bindings = ("execution_id >= ?", [prefix])
    end = behind(prefix)
    if end is not None:
        between, bindings = f"{between} AND execution_id < ?", [*bindings, end]
    return between, bindings


def _line(row: Sequence[Any]) -> ExecutionInfo:
    fields = [*row[:9], bool(row[9]), *row[10:]]
    return execution_line(ExecutionInfo(*fields))


def _list_singly(
    file: DatabaseFile, statement: str, bindings: list[Any], limit: int
) -> list[ExecutionInfo]:
    """As :func:`list_executions`, slowly: a line that cannot be read is listed as damaged."""
    found: list[ExecutionInfo] = []
    offset = 0
    while len(found) < limit:
        one = (*bindings, 1, offset)
        offset += 1
        try:
            rows = file.read(statement.format(columns=", ".join(_LINE)), one)
            found += [_line(row) for row in rows]
        except CorruptRecordError as error:
            try:
                rows = file.read(statement.format(columns="execution_id"), one)
                found += [damaged_line(name, str(error)) for (name,) in rows]
            except CorruptRecordError:  # the id itself: it cannot be asked for
                _log.warning("%s: a line of executions has an id that is no text", file.path)
                continue
        if not rows:
            break
    return found
