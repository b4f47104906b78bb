"""Nodes of a PostgreSQL store by their ids: reading a range of them, removing single ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from livingai.stores.base import DroppedNodes, NodeRange, StoredCheckpoint
from livingai.stores.checked import newest_checkpoint, rows_of, whole
from livingai.stores.postgres.arrays import bigint_array, text_array
from livingai.stores.postgres.connection import Session
from livingai.stores.postgres.drops import PostgresDrops
from livingai.stores.postgres.rows import is_text, key, read_blob, read_wire, unkey
from livingai.stores.retention import plan_node_drops

#: The page is cut by the index of ids before anything is joined to it.
_BETWEEN: Final = """
SELECT n.node_id, n.first_epoch, n.first_seq, n.epoch, n.seq, n.wire_sum, n.wire, {state}
FROM (
    SELECT * FROM {s}.nodes WHERE execution_id = %s AND node_id >= %s {bounds}
    ORDER BY node_id {direction} LIMIT %s
) AS n {join} ORDER BY n.node_id {direction}
"""
_STATE: Final = ", ".join(
    f"coalesce(c.{name}, o.{name})"
    for name in ("state_kind", "raw_bytes", "blob_sum", "blob", "content_hash")
)
_NO_STATE: Final = "NULL, NULL, NULL, NULL, NULL"
#: The newest state of a node; only where that was dropped, an older one: the server looks through
#: all older checkpoints of the execution for it.
_JOIN: Final = """
LEFT JOIN {s}.checkpoints AS c
    ON c.execution_id = n.execution_id AND c.epoch = n.state_epoch AND c.seq = n.state_seq
LEFT JOIN LATERAL (
    SELECT * FROM {s}.checkpoints AS older
    WHERE c.epoch IS NULL AND older.execution_id = n.execution_id AND older.node_id = n.node_id
        AND (older.epoch, older.seq) < (n.state_epoch, n.state_seq)
    ORDER BY older.epoch DESC, older.seq DESC LIMIT 1
) AS o ON true"""
_LINE: Final = """
SELECT node_id, life_epoch, life_seq FROM {s}.executions WHERE execution_id = %s AND nodes > 0
FOR UPDATE
"""
_THERE: Final = """
SELECT node_id, epoch, seq FROM {s}.nodes WHERE execution_id = %s AND node_id = ANY (%b)
"""
_CHECKPOINTS: Final = """
SELECT epoch, seq, node_id, base_hash, content_hash FROM {s}.checkpoints
WHERE execution_id = %s ORDER BY epoch, seq
"""
_DROP: Final = """
WITH gone AS (
    DELETE FROM {s}.nodes WHERE execution_id = %s AND node_id = ANY (%b) RETURNING cost_tokens
)
UPDATE {s}.executions SET nodes = nodes - (SELECT count(*) FROM gone),
    cost_tokens = cost_tokens - (SELECT coalesce(sum(cost_tokens), 0) FROM gone)
WHERE execution_id = %s
"""
_DROP_STATES: Final = "SELECT {s}.drop_checkpoints(%s, %b, %b)"


class PostgresRanges:
    """Ranges of nodes of one schema (quoted) over one session."""

    def __init__(self, session: Session, schema: str) -> None:
        self._session = session
        self._schema = schema
        self._drops = PostgresDrops(session, schema)

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range, each with the newest state that it was saved with."""
        if not is_text(execution_id):
            return []
        stored = key(execution_id)
        arguments: list[Any] = [stored, key(asked.first)]
        bounds = []
        if asked.behind is not None:
            bounds.append("AND node_id < %s")
            arguments.append(key(asked.behind))
        for sign, version in ((">", asked.after), ("<=", asked.upto)):
            if version is not None:
                bounds.append(f"AND (first_epoch, first_seq) {sign} (%s, %s)")
                arguments += version
        statement = _BETWEEN.format(
            s=self._schema,
            state=_STATE if asked.states else _NO_STATE,
            bounds=" ".join(bounds),
            direction="DESC" if asked.backwards else "ASC",
            join=_JOIN.format(s=self._schema) if asked.states else "",
        )
        rows = self._session.read(statement, (*arguments, asked.limit))
        with rows_of(execution_id):
            return [self._found(stored, row) for row in rows]

    @staticmethod
    def _found(stored: str, row: Sequence[Any]) -> StoredCheckpoint:
        node_id, first_epoch, first_seq, epoch, seq, wire_sum, wire, *state = row
        fields = read_wire(stored, node_id, wire, wire_sum)
        kind, raw_bytes, blob_sum, blob, content_hash = state
        found = StoredCheckpoint(fields, whole(epoch, "epoch"), whole(seq, "seq"), None, 0)
        if kind is not None:
            raw = read_blob(stored, blob, blob_sum)
            found = newest_checkpoint(unkey(stored), fields, (epoch, seq), raw, kind, raw_bytes)
        return StoredCheckpoint(
            found.wire, found.epoch, found.seq, found.blob, found.state_kind, unkey(node_id),
            content_hash=content_hash, raw_bytes=found.raw_bytes,
            first=(whole(first_epoch, "first_epoch"), whole(first_seq, "first_seq")),
        )  # fmt: skip

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with their checkpoints. The execution's line is locked, as commits lock it:
        they come before or behind."""
        asked = [key(node_id) for node_id in node_ids if is_text(node_id)]
        if not asked or not is_text(execution_id):
            return DroppedNodes(0, 0, ())
        stored = key(execution_id)
        self._drops.prepare()
        with self._session.transaction() as ask:

            def run(statement: str, *arguments: Any) -> list[Any]:
                return ask(statement.replace("{s}", self._schema), arguments)

            line = run(_LINE, stored)
            if not line:
                return DroppedNodes(0, 0, ())
            newest_node, *life = line[0]
            there = run(_THERE, stored, text_array(asked))
            newest = {node_id: (epoch, seq) for node_id, epoch, seq in there}
            ended = {node_id for node_id, version in newest.items() if [*version] == life}
            checkpoints = [
                StoredCheckpoint([], epoch, seq, b"", 0, node_id, base_hash, content_hash)
                for epoch, seq, node_id, base_hash, content_hash in run(_CHECKPOINTS, stored)
            ]
            going, versions = plan_node_drops(checkpoints, set(newest) - ended, newest_node)
            blob_bytes = 0
            if versions:
                epochs, seqs = zip(*versions, strict=True)
                arrays = (bigint_array(epochs), bigint_array(seqs))
                blob_bytes = int(run(_DROP_STATES, stored, *arrays)[0][0])
            if going:
                run(_DROP, stored, text_array(going), stored)
                self._drops.note(ask, stored, max(newest[node_id] for node_id in going))
        kept = sorted(unkey(node_id) for node_id in set(newest) - set(going))
        return DroppedNodes(len(going), blob_bytes, tuple(kept))

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed."""
        return self._drops.upto(execution_id, key(execution_id)) if is_text(execution_id) else None
