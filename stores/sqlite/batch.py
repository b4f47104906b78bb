"""One batch of rows inside one transaction: what is new, and how it gets into the tables.

Rules:

1. :meth:`Batch.add` decides one row and only reads; :meth:`Batch.flush` writes what was decided,
   each table with one prepared statement. A row that changes nothing writes nothing.
2. The caller holds the write lock, see :mod:`livingai.stores.sqlite.owners`.
3. "Stored already" is exact for rows with a checkpoint. A row without one leaves no trace once a
   newer version of its node replaced it; then its claim's ``last_seq`` decides (base.py, rule 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livingai.node import NodeField
from livingai.stores.base import Row, RowResult, RowStatus
from livingai.stores.shared.human import plain_text
from livingai.stores.shared.refusals import BASE_MISSING, fenced
from livingai.stores.shared.rows import (
    Write,
    checkpoint_columns,
    cost_tokens,
    node_columns,
)
from livingai.stores.sqlite.owners import OwnerRow, Owners
from livingai.stores.standing import is_life, standing

if TYPE_CHECKING:
    import apsw

Version = tuple[int, int]  # (epoch, seq)

_NODE = """
SELECT rowid, epoch, seq, first_epoch, first_seq, state_epoch, state_seq, cost_tokens
FROM nodes WHERE node_id = ? AND execution_id = ?
"""
_INSERT_NODE = """
INSERT INTO nodes (type, status, name, parent_id, cost_tokens, latency_ms, created_at, completed_at,
    saved_at, input, output, error, metadata, wire_sum, wire, epoch, seq, state_epoch, state_seq,
    first_epoch, first_seq, execution_id, node_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE_NODE = """
UPDATE nodes SET type = ?, status = ?, name = ?, parent_id = ?, cost_tokens = ?, latency_ms = ?,
    created_at = ?, completed_at = ?, saved_at = ?, input = ?, output = ?, error = ?, metadata = ?,
    wire_sum = ?, wire = ?, epoch = ?, seq = ?, state_epoch = ?, state_seq = ?
WHERE rowid = ?
"""
_MOVE_NODE = """
UPDATE nodes SET state_epoch = ?, state_seq = ?, first_epoch = ?, first_seq = ? WHERE rowid = ?
"""
_HAS_CHECKPOINT = "SELECT 1 FROM checkpoints WHERE execution_id = ? AND epoch = ? AND seq = ?"
# Newest first: a delta's base is almost always the checkpoint before.
_HAS_CONTENT = """
SELECT 1 FROM checkpoints WHERE execution_id = ? AND content_hash = ?
ORDER BY epoch DESC, seq DESC LIMIT 1
"""
_NEXT_BLOB_ID = "SELECT coalesce(max(blob_id), 0) + 1 FROM blobs"
_INSERT_BLOB = "INSERT INTO blobs (blob_id, blob) VALUES (?, ?)"
_INSERT_CHECKPOINT = """
INSERT INTO checkpoints (execution_id, epoch, seq, blob_id, node_id, state_kind, codec, raw_bytes,
    stored_bytes, base_hash, content_hash, saved_at, blob_sum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_NEWER = "excluded.epoch > epoch OR (excluded.epoch = epoch AND excluded.seq > seq)"
_SAVE_EXECUTION = f"""
INSERT INTO executions (execution_id, epoch, seq, status, error, node_id, created_at, updated_at,
    nodes, checkpoints, stored_bytes, cost_tokens)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (execution_id) DO UPDATE SET
    epoch = CASE WHEN {_NEWER} THEN excluded.epoch ELSE epoch END,
    seq = CASE WHEN {_NEWER} THEN excluded.seq ELSE seq END,
    status = CASE WHEN life_epoch IS NULL AND ({_NEWER}) THEN excluded.status ELSE status END,
    error = CASE WHEN life_epoch IS NULL AND ({_NEWER}) THEN excluded.error ELSE error END,
    node_id = CASE WHEN {_NEWER} THEN excluded.node_id ELSE node_id END,
    updated_at = CASE WHEN {_NEWER} THEN excluded.updated_at ELSE updated_at END,
    nodes = nodes + excluded.nodes,
    checkpoints = checkpoints + excluded.checkpoints,
    stored_bytes = stored_bytes + excluded.stored_bytes,
    cost_tokens = cost_tokens + excluded.cost_tokens
"""
_SAVE_LIFE = """
UPDATE executions SET status = ?, error = ?, entered_at = ?, ended_at = ?, life_epoch = ?,
    life_seq = ?
WHERE execution_id = ? AND (life_epoch IS NULL OR (life_epoch, life_seq) < (?, ?))
"""


@dataclass(slots=True)
class _Node:
    rowid: int | None  # None: not in the table yet
    version: Version
    first: Version
    state: Version | None
    cost: int
    write: Write | None = None  # the newest version, where it is not in the table yet
    moved: bool = False  # a row that came out of order changed `first` or `state` only


@dataclass(slots=True)
class _Changes:
    """What a batch changes of one execution's line."""

    first: Write
    latest: Write
    version: Version
    nodes: int = 0
    checkpoints: int = 0
    stored_bytes: int = 0
    cost: int = 0
    life: tuple[Version, Write] | None = None  # the newest record of a life


class Batch:
    """Rows on their way into the tables; see the rules at the top of this module."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._owners = Owners(connection)
        self._nodes: dict[tuple[str, str], _Node | None] = {}
        self._checkpoints: dict[tuple[str, int, int], Write] = {}
        self._changes: dict[str, _Changes] = {}
        #: Content hashes known to be checkpoints, by execution.
        self._contents: dict[str, set[bytes | None]] = {}

    def add(self, write: Write) -> RowResult:
        """Decide what one row leads to."""
        row = write.row
        owner = self._owners.find(row.execution_id, row.claim, row.epoch)
        newest = self._owners.newest(row.execution_id)
        assert newest is not None
        if owner is newest:
            if row.base_hash is not None and not self._has_base(owner, row):
                return RowResult(RowStatus.BASE_MISSING, owner.epoch, BASE_MISSING)
            self._apply(owner, write)
            return RowResult(RowStatus.STORED, owner.epoch)
        if owner is not None and self._is_stored(owner, row):
            return RowResult(RowStatus.STORED, owner.epoch)
        epoch = owner.epoch if owner else row.epoch
        reason = fenced(newest.epoch, epoch, deleted=newest.claim is None)
        return RowResult(RowStatus.FENCED, epoch, reason)

    # -- what is new --

    def _node(self, execution_id: str, node_id: str) -> _Node | None:
        key = (execution_id, node_id)
        if key not in self._nodes:
            row: Any = self._execute(_NODE, (node_id, execution_id)).fetchone()
            node = None
            if row:
                rowid, epoch, seq, first_epoch, first_seq, state_epoch, state_seq, cost = row
                state = None if state_epoch is None else (state_epoch, state_seq)
                node = _Node(rowid, (epoch, seq), (first_epoch, first_seq), state, cost)
            self._nodes[key] = node
        return self._nodes[key]

    def _has_checkpoint(self, execution_id: str, version: Version) -> bool:
        key = (execution_id, *version)
        return key in self._checkpoints or bool(self._execute(_HAS_CHECKPOINT, key).fetchone())

    def _has_base(self, owner: OwnerRow, row: Row) -> bool:
        """Whether a delta can be decoded: its base is a checkpoint here, or it is stored itself."""
        contents = self._contents.setdefault(row.execution_id, set())
        if row.base_hash not in contents:
            key = (row.execution_id, row.base_hash)
            if not self._execute(_HAS_CONTENT, key).fetchone():
                version = (owner.epoch, row.seq)
                return row.seq <= owner.last_seq and self._has_checkpoint(row.execution_id, version)
            contents.add(row.base_hash)
        return True

    def _is_stored(self, owner: OwnerRow, row: Row) -> bool:
        """Whether this row of a claim that has been superseded was committed before."""
        version = (owner.epoch, row.seq)
        if row.blob is not None:
            return self._has_checkpoint(row.execution_id, version)
        node = self._node(row.execution_id, row.node_id)
        if node is None or node.version < version:
            return False
        return node.version[0] == owner.epoch or row.seq <= owner.last_seq

    def _apply(self, owner: OwnerRow, write: Write) -> None:
        row = write.row
        version = (owner.epoch, row.seq)
        node = self._node(row.execution_id, row.node_id)
        # A row above last_seq is new for sure: the common case needs no look-up.
        is_new_state = row.blob is not None and (
            row.seq > owner.last_seq or not self._has_checkpoint(row.execution_id, version)
        )
        if node is None:
            node = _Node(None, version, version, None, 0)
            self._nodes[row.execution_id, row.node_id] = node
            self._replace(node, version, write).nodes += 1
        elif version > node.version:
            self._replace(node, version, write)
        elif version < node.first:
            node.first = version
            node.moved = True
        if version != node.version or node.write is not None:
            self._note_life(version, write)
        if is_new_state:
            self._checkpoints[row.execution_id, owner.epoch, row.seq] = write
            self._contents.setdefault(row.execution_id, set()).add(row.content_hash)
            changes = self._changed(version, write)
            changes.checkpoints += 1
            changes.stored_bytes += write.stored_bytes
            if node.state is None or version > node.state:
                node.state = version
                node.moved = node.moved or version != node.version
        owner.last_seq = max(owner.last_seq, row.seq)

    def _note_life(self, version: Version, write: Write) -> None:
        if is_life(write.row.wire):
            changes = self._changed(version, write)
            if changes.life is None or version > changes.life[0]:
                changes.life = (version, write)

    def _replace(self, node: _Node, version: Version, write: Write) -> _Changes:
        changes = self._changed(version, write)
        cost = cost_tokens(write)
        changes.cost += cost - node.cost
        node.version, node.write, node.cost = version, write, cost
        return changes

    def _changed(self, version: Version, write: Write) -> _Changes:
        execution_id = write.row.execution_id
        changes = self._changes.get(execution_id)
        if changes is None:
            changes = self._changes[execution_id] = _Changes(write, write, version)
        elif version > changes.version:
            changes.latest, changes.version = write, version
        return changes

    # -- write it down --

    def flush(self) -> None:
        """Write everything that was decided; the caller commits."""
        self._owners.flush()
        self._flush_nodes()
        self._flush_checkpoints()
        rows = [
            (
                execution_id, *changes.version, *_status(changes.latest),
                changes.latest.row.node_id, changes.first.saved_at, changes.latest.saved_at,
                changes.nodes, changes.checkpoints, changes.stored_bytes, changes.cost,
            )
            for execution_id, changes in self._changes.items()
        ]  # fmt: skip
        self._write(_SAVE_EXECUTION, rows)
        self._flush_lives()

    def _flush_lives(self) -> None:
        rows = []
        for execution_id, changes in self._changes.items():
            if changes.life is not None:
                version, write = changes.life
                _, _, *times = standing(write.row.wire)
                rows.append((*_status(write), *times, *version, execution_id, *version))
        self._write(_SAVE_LIFE, rows)

    def _flush_nodes(self) -> None:
        inserts, updates, moves = [], [], []
        for (execution_id, node_id), node in self._nodes.items():
            if node is None:
                continue
            state = node.state or (None, None)
            if node.write is not None:
                columns = (*node_columns(node.write), *node.version, *state)
                if node.rowid is None:
                    inserts.append((*columns, *node.first, execution_id, node_id))
                else:
                    updates.append((*columns, node.rowid))
            if node.moved and node.rowid is not None:
                moves.append((*state, *node.first, node.rowid))
        self._write(_INSERT_NODE, inserts)
        self._write(_UPDATE_NODE, updates)
        self._write(_MOVE_NODE, moves)

    def _flush_checkpoints(self) -> None:
        if not self._checkpoints:
            return
        first: Any = self._execute(_NEXT_BLOB_ID).fetchone()
        blobs, rows = [], []
        for blob_id, (key, write) in enumerate(self._checkpoints.items(), first[0]):
            blob = write.row.blob
            assert blob is not None
            blobs.append((blob_id, blob))
            rows.append((*key, blob_id, *checkpoint_columns(write, blob)))
        self._write(_INSERT_BLOB, blobs)
        self._write(_INSERT_CHECKPOINT, rows)

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:  # looking the statement up is not free
            self._executemany(statement, rows)


def _status(write: Write) -> tuple[str | None, str | None]:
    """Status, and what went wrong, as columns of ``executions``."""
    return plain_text(write.row.wire[NodeField.STATUS]), standing(write.row.wire).error or None
