"""Retention and accounting on SQLite: listing and dropping checkpoints, owners, costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from livingai.errors import ConfigurationError
from livingai.stores import checked
from livingai.stores.base import CostLine, ExecutionFilter, StoredCheckpoint
from livingai.stores.checked import integer, moment, owner, rows_of, text
from livingai.stores.shared.rows import read_blob, read_wire
from livingai.stores.sqlite.file import DatabaseFile

if TYPE_CHECKING:
    import apsw

#: Checkpoints fetched at a time: with blobs, which may be large, and without.
_PAGES = {True: 16, False: 500}
_CHECKPOINTS = """
SELECT c.epoch, c.seq, c.state_kind, c.node_id, c.base_hash, c.content_hash, c.raw_bytes,
    c.stored_bytes, c.saved_at, {blob}, n.wire_sum, n.wire
FROM checkpoints AS c
{join}
LEFT JOIN nodes AS n ON n.node_id = c.node_id AND n.execution_id = c.execution_id
WHERE c.execution_id = ? AND (c.epoch, c.seq) > (?, ?) ORDER BY c.epoch, c.seq LIMIT ?
"""
_WITH_BLOBS = _CHECKPOINTS.format(
    blob="c.blob_sum, b.blob", join="LEFT JOIN blobs AS b ON b.blob_id = c.blob_id"
)
_WITHOUT_BLOBS = _CHECKPOINTS.format(blob="NULL, NULL", join="")
_ONE = """
SELECT blob_id, stored_bytes FROM checkpoints WHERE execution_id = ? AND epoch = ? AND seq = ?
"""
_DROP_BLOB = "DELETE FROM blobs WHERE blob_id = ?"
_DROP = "DELETE FROM checkpoints WHERE execution_id = ? AND epoch = ? AND seq = ?"
_COUNT = """
UPDATE executions SET checkpoints = checkpoints - ?, stored_bytes = stored_bytes - ?
WHERE execution_id = ?
"""
_OWNERS = "SELECT epoch, claim FROM owners WHERE execution_id = ? ORDER BY epoch"
_GROUPS = {
    "execution": "execution_id",
    "name": "coalesce(name, type)",
    "day": "date(created_at, 'unixepoch')",
}
_COSTS = """
SELECT coalesce({group}, '') AS line, count(*), sum(cost_tokens), coalesce(sum(latency_ms), 0.0)
FROM nodes WHERE execution_id >= ? AND (? IS NULL OR execution_id < ?)
GROUP BY line ORDER BY line
"""


def checkpoints(file: DatabaseFile, execution_id: str, blobs: bool) -> Iterator[StoredCheckpoint]:
    """All checkpoints of an execution, oldest first."""
    statement = _WITH_BLOBS if blobs else _WITHOUT_BLOBS
    after = (-1, -1)
    while rows := _page(file, statement, (execution_id, *after, _PAGES[blobs])):
        for row in rows:
            epoch, seq, kind, node_id, base, content, raw, stored, saved_at = row[:9]
            blob_sum, blob, wire_sum, wire = row[9:]
            with rows_of(execution_id):
                found = checked.checkpoint(StoredCheckpoint(
                    read_wire(execution_id, node_id, wire, wire_sum), epoch, seq,
                    read_blob(execution_id, blob, blob_sum) if blobs else b"", kind, node_id, base,
                    content, raw, stored, saved_at,
                ))  # fmt: skip
            yield found
        after = rows[-1][:2]


def _page(file: DatabaseFile, statement: str, bindings: tuple[Any, ...]) -> list[Any]:
    with rows_of(bindings[0]):
        return file.read(statement, bindings)


def drop_checkpoints(
    connection: apsw.Connection, execution_id: str, versions: Sequence[tuple[int, int]]
) -> int:
    """Inside a transaction: remove checkpoints; the number of blob bytes removed."""
    count = size = 0
    for version in versions:
        key = (execution_id, *version)
        found: Any = connection.execute(_ONE, key).fetchone()
        if found is not None:
            connection.execute(_DROP_BLOB, (found[0],))
            connection.execute(_DROP, key)
            count += 1
            size += found[1]
    connection.execute(_COUNT, (count, size, execution_id))
    return size


def owners(file: DatabaseFile, execution_id: str) -> list[tuple[int, str | None]]:
    """(epoch, claim) of all owners, oldest first."""
    with rows_of(execution_id):
        return [owner(*line) for line in file.read(_OWNERS, (execution_id,))]


def costs(file: DatabaseFile, group: str, prefix: str, end: str | None) -> list[CostLine]:
    """Sums of nodes by execution, name or day."""
    if group not in _GROUPS:
        raise ConfigurationError(f"costs are grouped by execution, name or day, not {group!r}")
    rows = file.read(_COSTS.format(group=_GROUPS[group]), (prefix, end, end))
    with rows_of(f"{prefix}*"):
        return [
            CostLine(text(line, group), nodes, integer(tokens, "cost_tokens"), moment(ms, "ms"))
            for line, nodes, tokens, ms in rows
        ]


def restriction(where: ExecutionFilter | None) -> tuple[str, list[Any]]:
    """SQL and bindings of a filter on table ``executions AS e``; begins with AND, or is empty."""
    if where is None:
        return "", []
    parts: list[str] = []
    bindings: list[Any] = []
    if where.statuses:
        parts.append(f"e.status IN ({', '.join('?' * len(where.statuses))})")
        bindings += [str(status) for status in where.statuses]
    if where.updated_after is not None:
        parts.append("e.updated_at > ?")
        bindings.append(where.updated_after)
    if where.updated_before is not None:
        parts.append("e.updated_at < ?")
        bindings.append(where.updated_before)
    for key, value in where.metadata.items():
        parts.append(
            "EXISTS (SELECT 1 FROM nodes AS n, json_each(n.metadata) AS j WHERE n.node_id = "
            "e.node_id AND n.execution_id = e.execution_id AND j.key = ? AND j.atom IS ?)"
        )
        bindings += [key, value]
    return "".join(f" AND {part}" for part in parts), bindings
