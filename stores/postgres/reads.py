"""What a PostgreSQL store answers, one consistent query each; long answers come page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from livingai.errors import ConfigurationError
from livingai.node import NodeField
from livingai.stores import checked
from livingai.stores.base import (
    CostLine,
    ExecutionFilter,
    ExecutionInfo,
    SizedBlob,
    StoredCheckpoint,
    StoredNode,
)
from livingai.stores.checked import (
    damaged_line,
    execution_line,
    moment,
    newest_checkpoint,
    owner,
    rows_of,
    whole,
)
from livingai.stores.postgres.connection import Session
from livingai.stores.postgres.rows import is_text, jsonb, key, read_blob, read_wire, unkey
from livingai.stores.shared.prefixes import behind

#: Lines fetched at a time, and checkpoints with their blobs.
_PAGE: Final = 256
_BLOBS_PAGE: Final = 16

_LATEST = """
SELECT c.epoch, c.seq, c.state_kind, c.raw_bytes, c.blob_sum, c.blob, c.node_id, n.wire_sum, n.wire
FROM {s}.checkpoints AS c
LEFT JOIN {s}.nodes AS n ON n.node_id = c.node_id AND n.execution_id = c.execution_id
WHERE c.execution_id = %s ORDER BY c.epoch DESC, c.seq DESC LIMIT 1
"""
_NEWEST_NODE = """
SELECT n.epoch, n.seq, NULL, NULL, NULL, NULL, n.node_id, n.wire_sum, n.wire
FROM {s}.executions AS e
JOIN {s}.nodes AS n ON n.node_id = e.node_id AND n.execution_id = e.execution_id
WHERE e.execution_id = %s
"""
#: The newest state that was not dropped; usually the first one looked at.
_NODE = """
SELECT n.epoch, n.seq, c.state_kind, c.raw_bytes, c.blob_sum, c.blob, n.execution_id, n.wire_sum,
    n.wire
FROM (
    SELECT * FROM {s}.nodes WHERE node_id = %s ORDER BY saved_at DESC, execution_id LIMIT 1
) AS n LEFT JOIN LATERAL (
    SELECT * FROM {s}.checkpoints AS c WHERE c.execution_id = n.execution_id
        AND (c.epoch, c.seq) <= (n.state_epoch, n.state_seq) AND c.node_id = n.node_id
    ORDER BY c.epoch DESC, c.seq DESC LIMIT 1
) AS c ON true
"""
_NODES = """
SELECT first_epoch, first_seq, epoch, seq,
    (epoch, seq) IS NOT DISTINCT FROM (state_epoch, state_seq), node_id, wire_sum, wire
FROM {s}.nodes WHERE execution_id = %s AND (first_epoch, first_seq) > (%s, %s)
ORDER BY first_epoch, first_seq LIMIT %s
"""
_BY_HASH = """
SELECT blob_sum, blob, raw_bytes FROM {s}.checkpoints WHERE execution_id = %s AND content_hash = %s
ORDER BY base_hash IS NOT NULL, epoch, seq LIMIT 1
"""
#: Every user may ask when the server started, to the microsecond; its name need not be unique.
_PLACE = """
SELECT concat_ws(':', 'postgresql', extract(epoch FROM pg_postmaster_start_time()), d.oid,
    to_regnamespace(%s)::oid)
FROM pg_database AS d WHERE d.datname = current_database()
"""
_LIST = """
SELECT execution_id, epoch, seq, nodes, checkpoints, stored_bytes, created_at, updated_at, status,
    life_epoch IS NOT NULL, coalesce(error, ''), entered_at, ended_at
FROM {s}.executions AS e WHERE nodes > 0 AND {where} ORDER BY execution_id LIMIT %s
"""
#: No escape of an id but those that ``rows`` writes.
_OURS: Final = "execution_id !~ E'\\x01[^\\x01\\x02]'"
_HAS_METADATA = """EXISTS (
    SELECT FROM {s}.nodes AS n WHERE n.node_id = e.node_id AND n.execution_id = e.execution_id
        AND n.metadata @> %s::jsonb)"""
_CHECKPOINTS = """
SELECT c.epoch, c.seq, c.state_kind, c.node_id, c.base_hash, c.content_hash, c.raw_bytes,
    c.stored_bytes, c.saved_at, c.blob_sum, {blob}, n.wire_sum, n.wire
FROM {s}.checkpoints AS c
LEFT JOIN {s}.nodes AS n ON n.node_id = c.node_id AND n.execution_id = c.execution_id
WHERE c.execution_id = %s AND (c.epoch, c.seq) > (%s, %s) ORDER BY c.epoch, c.seq LIMIT %s
"""
_OWNERS = "SELECT epoch, claim FROM {s}.owners WHERE execution_id = %s ORDER BY epoch"
_GROUPS: Final = {
    "execution": "execution_id",
    "name": "coalesce(name, type)",
    "day": "coalesce(to_char({s}.at(created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), '')",
}
_COSTS = """
SELECT {group} COLLATE "C" AS line, count(*), sum(cost_tokens)::text, coalesce(sum(latency_ms), 0)
FROM {s}.nodes WHERE {where} GROUP BY line ORDER BY line
"""
#: Tables and indexes as the server reports them, but of the blobs those that are there: the files
#: keep what was removed for later blobs.
_SIZE = """
SELECT sum(pg_total_relation_size(c.oid) - CASE WHEN c.relname = 'checkpoints'
    THEN pg_total_relation_size(c.reltoastrelid) ELSE 0 END)::bigint
    + (SELECT coalesce(sum(stored_bytes), 0) FROM {s}.executions)::bigint
FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r'
    AND c.relname IN ('livingai', 'executions', 'owners', 'nodes', 'checkpoints')
"""


class PostgresReads:
    """The queries of one schema (quoted) over one session."""

    def __init__(self, session: Session, schema: str) -> None:
        self._session = session
        self._schema = schema

    def _read(self, statement: str, *arguments: Any) -> list[Any]:
        return self._session.read(statement.replace("{s}", self._schema), arguments)

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state; else the newest node, with blob None."""
        if not is_text(execution_id):
            return None
        stored = key(execution_id)
        for statement in (_LATEST, _NEWEST_NODE):
            for *state, node_id, wire_sum, wire in self._read(statement, stored):
                return _checkpoint(stored, node_id, (wire_sum, wire), state)
        return None

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node with the newest state that it was saved with."""
        if not is_text(node_id):
            return None
        stored = key(node_id)
        for *state, execution_id, wire_sum, wire in self._read(_NODE, stored):
            return _checkpoint(execution_id, stored, (wire_sum, wire), state)
        return None

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""
        stored = key(execution_id)
        first: Sequence[int] = (-1, -1)
        while rows := self._read(_NODES, stored, *first, _PAGE) if is_text(stored) else []:
            for *first, epoch, seq, has_state, node_id, wire_sum, wire in rows:
                with rows_of(execution_id):
                    node = StoredNode(
                        read_wire(stored, node_id, wire, wire_sum), whole(epoch, "epoch"),
                        whole(seq, "seq"), has_state, (first[0], first[1]),
                    )  # fmt: skip
                yield node

    def place(self) -> str:
        """What names this schema of this server, however it was reached."""
        ((name,),) = self._read(_PLACE, self._schema)
        return str(name)

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """The encoded checkpoint of this execution whose raw content has that hash."""
        if is_text(execution_id):
            for blob_sum, blob, size in self._read(_BY_HASH, key(execution_id), content_hash):
                with rows_of(execution_id):
                    state = read_blob(execution_id, blob, blob_sum)
                    return SizedBlob(state, whole(size, "raw_bytes"))
        return None

    def list_executions(
        self, after: str | None, limit: int, prefix: str, where: ExecutionFilter | None
    ) -> list[ExecutionInfo]:
        """A page of executions in order of id, starting behind ``after``."""
        if not is_text(prefix, after or ""):
            return []
        parts, arguments = _with_prefix(prefix)
        if after is not None:
            parts.append("execution_id > %s")
            arguments.append(key(after))
        for part, argument in _restrictions(where):
            parts.append(part)
            arguments.append(argument)
        try:
            return self._list(parts, arguments, limit)
        except LookupError:  # ids that only another program can have written
            return self._list([*parts, _OURS], arguments, limit)

    def _list(self, parts: list[str], arguments: list[Any], limit: int) -> list[ExecutionInfo]:
        statement = _LIST.replace("{where}", " AND ".join(parts))
        rows = self._read(statement, *arguments, max(limit, 0))
        return [_line(unkey(row[0]), row) for row in rows]

    def checkpoints(self, execution_id: str, blobs: bool) -> Iterator[StoredCheckpoint]:
        """All checkpoints of an execution, oldest first."""
        stored = key(execution_id)
        statement = _CHECKPOINTS.replace("{blob}", "c.blob" if blobs else "NULL")
        page = _BLOBS_PAGE if blobs else _PAGE
        after: Sequence[int] = (-1, -1)
        while rows := self._read(statement, stored, *after, page) if is_text(stored) else []:
            for epoch, seq, kind, node_id, base, content, raw, size, saved_at, *rest in rows:
                blob_sum, blob, wire_sum, wire = rest
                with rows_of(execution_id):
                    found = checked.checkpoint(StoredCheckpoint(
                        read_wire(stored, node_id, wire, wire_sum), epoch, seq,
                        read_blob(stored, blob, blob_sum) if blobs else b"", kind, unkey(node_id),
                        base, content, raw, size, saved_at,
                    ))  # fmt: skip
                yield found
                after = (epoch, seq)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """(epoch, claim) of all owners, oldest first."""
        rows = self._read(_OWNERS, key(execution_id)) if is_text(execution_id) else []
        with rows_of(execution_id):
            return [owner(epoch, claim if claim is None else unkey(claim)) for epoch, claim in rows]

    def costs(self, group: str, prefix: str) -> list[CostLine]:
        """Sums of nodes by execution, name or day."""
        if group not in _GROUPS:
            raise ConfigurationError(f"costs are grouped by execution, name or day, not {group!r}")
        if not is_text(prefix):
            return []
        parts, arguments = _with_prefix(prefix)
        statement = _COSTS.replace("{group}", _GROUPS[group])
        rows = self._read(statement.replace("{where}", " AND ".join(parts)), *arguments)
        with rows_of(f"{prefix}*"):
            return [
                CostLine(unkey(line), count, int(cost), moment(ms, "latency_ms"))
                for line, count, cost, ms in rows
            ]

    def size_bytes(self) -> int:
        """Bytes of tables, indexes, and the blobs that are there."""
        size: int = self._read(_SIZE, self._schema)[0][0]
        return size


def _checkpoint(
    execution_id: str, node_id: str, section: Sequence[Any], state: Sequence[Any]
) -> StoredCheckpoint:
    with rows_of(execution_id):
        wire_sum, packed = section
        wire = read_wire(execution_id, node_id, packed, wire_sum)
        epoch, seq, kind, raw_bytes, blob_sum, blob = state
        if kind is None:
            return StoredCheckpoint(wire, whole(epoch, "epoch"), whole(seq, "seq"), None, 0)
        raw = read_blob(execution_id, blob, blob_sum)
        name = wire[NodeField.EXECUTION_ID]
        return newest_checkpoint(name, wire, (epoch, seq), raw, kind, raw_bytes)


def _line(execution_id: str, row: Sequence[Any]) -> ExecutionInfo:
    try:
        fields = [*row[1:8], unkey(row[8]), row[9], unkey(row[10]), *row[11:]]
        return execution_line(ExecutionInfo(execution_id, *fields))
    except (LookupError, TypeError):  # an escape that livingai does not write
        return damaged_line(execution_id, "status or error was changed by another program")


def _with_prefix(prefix: str) -> tuple[list[str], list[Any]]:
    end = behind(key(prefix))
    parts, arguments = ["execution_id >= %s"], [key(prefix)]
    if end is not None:
        parts.append("execution_id < %s")
        arguments.append(end)
    return parts, arguments


def _restrictions(where: ExecutionFilter | None) -> Iterator[tuple[str, Any]]:
    if where is None:
        return
    if where.statuses:
        yield "status = ANY (%s)", [key(str(status)) for status in where.statuses]
    if where.updated_after is not None:
        yield "updated_at > %s", float(where.updated_after)
    if where.updated_before is not None:
        yield "updated_at < %s", float(where.updated_before)
    if where.metadata:
        yield _HAS_METADATA, jsonb(where.metadata)
