"""Up to which version nodes of an execution were removed from a PostgreSQL store.

The table is made when it is first needed and is no part of the schema's version, so a livingai that
does not know it can use the schema as before. It may then leave a line behind when it deletes an
execution; later writes have later versions, so that line says nothing about them. Roles get the
rights on it that they have on the table of nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from livingai.stores.checked import rows_of, whole
from livingai.stores.postgres.connection import Session

Run = Callable[..., list[Any]]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {s}.livingai_drops (
    execution_id  text COLLATE "C" PRIMARY KEY,
    epoch         bigint NOT NULL,
    seq           bigint NOT NULL
)
"""
#: Who may do what with the table of nodes, its owner included.
_RIGHTS: Final = """
SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
    string_agg(DISTINCT privilege_type, ', ')
FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
WHERE pg_class.oid = to_regclass(%s) GROUP BY grantee
"""
_LACKS: Final = "SELECT to_regclass(%s) IS NULL"
_NOTE: Final = """
INSERT INTO {s}.livingai_drops AS d (execution_id, epoch, seq) VALUES (%s, %s, %s)
ON CONFLICT (execution_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
WHERE (d.epoch, d.seq) < (excluded.epoch, excluded.seq)
"""
_ONE: Final = "SELECT epoch, seq FROM {s}.livingai_drops WHERE execution_id = %s"
#: Not what was removed since the deletion, of what came behind it.
_FORGET: Final = """
DELETE FROM {s}.livingai_drops AS d USING {s}.owners AS o
WHERE d.execution_id = %s AND o.execution_id = d.execution_id AND o.claim IS NULL
    AND d.epoch <= o.epoch
RETURNING d.epoch
"""


class PostgresDrops:
    """The lines of one schema (quoted) over one session. Executions are named by their keys, see
    :mod:`livingai.stores.postgres.rows`."""

    def __init__(self, session: Session, schema: str) -> None:
        self._session = session
        self._schema = schema

    def _lacks_table(self) -> bool:
        return bool(self._session.read(_LACKS, (f"{self._schema}.livingai_drops",))[0][0])

    def prepare(self) -> None:
        """Make the table if it is not there: in a transaction of its own, under the lock of
        migrations, so that it never waits for one that waits for a line which we have locked."""
        if not self._lacks_table():
            return
        with self._session.transaction() as run:
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            run(lock, ("livingai " + self._schema.strip('"'),))
            run(_TABLE.replace("{s}", self._schema))
            # Whoever may delete or read nodes has to reach the lines about them, too.
            for grantee, rights in run(_RIGHTS, (f"{self._schema}.nodes",)):
                run(f"GRANT {rights} ON {self._schema}.livingai_drops TO {grantee}")

    def note(self, run: Run, execution_key: str, version: tuple[int, int]) -> None:
        """Inside a transaction (``run`` executes a statement with its arguments), with the table
        there: nodes up to this version were removed."""
        run(_NOTE.replace("{s}", self._schema), (execution_key, *version))

    def forget(self, execution_key: str) -> None:
        """The execution has gone."""
        if not self._lacks_table():
            self._session.read(_FORGET.replace("{s}", self._schema), (execution_key,))

    def upto(self, execution_id: str, execution_key: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed; None: none was."""
        if self._lacks_table():
            return None
        with rows_of(execution_id):
            for epoch, seq in self._session.read(
                _ONE.replace("{s}", self._schema), (execution_key,)
            ):
                return whole(epoch, "epoch"), whole(seq, "seq")
        return None
