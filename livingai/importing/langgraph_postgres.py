"""Databases of LangGraph's ``PostgresSaver`` and ``AsyncPostgresSaver``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from livingai.adapters.versions import require
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ImportSourceError
from livingai.importing.kinds import ImportOptions, ImportSummary, Progress

require("langgraph-checkpoint", at_least="4.3", below="5", extra="langgraph-postgres")
require("langgraph-checkpoint-postgres", at_least="3.2", below="4", extra="langgraph-postgres")

import psycopg  # noqa: E402 - behind the checks
from langgraph.checkpoint.postgres import PostgresSaver  # noqa: E402
from psycopg.conninfo import conninfo_to_dict  # noqa: E402
from psycopg.rows import dict_row  # noqa: E402

from livingai.importing.checkpoints import StoredWrite, import_checkpoints  # noqa: E402
from livingai.importing.verbatim import VerbatimSerializer  # noqa: E402


def run(
    where: str, engine: CheckpointEngine | None, options: ImportOptions, progress: Progress
) -> ImportSummary:
    """Import the database at the DSN ``where``; see :class:`livingai.importing.kinds.ImportRun`."""
    serializer = VerbatimSerializer(strict=options.strict)
    try:
        with _opened(where) as connection:
            source = PostgresSource(connection, serializer)
            return import_checkpoints(source, serializer, engine, options, progress)
    except psycopg.Error as error:
        raise ImportSourceError(f"the PostgreSQL database cannot be read: {error}") from error


@contextmanager
def _opened(dsn: str) -> Iterator[Any]:
    """A connection in one transaction, which cannot write and sees the database as it was at its
    first read."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # it quotes what it could not read, which may be a password
        raise ImportSourceError(
            "the DSN cannot be read. It is postgresql://user:password@host:port/database (special "
            "characters percent-encoded, @ is %40), or key=value pairs"
        ) from None
    with psycopg.connect(dsn, row_factory=dict_row, prepare_threshold=0) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            rows = connection.execute("SELECT max(v) AS version FROM checkpoint_migrations")
            version = rows.fetchone()
        except psycopg.errors.UndefinedTable as error:
            raise ImportSourceError(
                "this is no database of LangGraph's PostgreSQL saver: it has no table "
                "checkpoint_migrations in the search path of the connection"
            ) from error
        known = len(PostgresSaver.MIGRATIONS) - 1
        found = -1 if version is None or version["version"] is None else version["version"]
        if found < known:
            raise ImportSourceError(
                f"the database has the schema {found} of an older saver, and {known} is needed; "
                "call setup() of a PostgresSaver of langgraph-checkpoint-postgres 3.2 on it once"
            )
        yield connection
        connection.rollback()


class PostgresSource:
    """The threads of an open database; see
    :class:`livingai.importing.checkpoints.CheckpointSource`."""

    def __init__(self, connection: Any, serializer: VerbatimSerializer) -> None:
        self._connection = connection
        self.saver = PostgresSaver(connection, serde=serializer)

    def threads(self) -> Sequence[str]:
        """All thread ids, in order."""
        # With the collation of bytes, so that the order is the same in every database.
        rows = self._connection.execute(
            'SELECT thread_id FROM checkpoints GROUP BY 1 ORDER BY thread_id COLLATE "C"'
        )
        return [row["thread_id"] for row in rows]

    def namespaces(self, thread_id: str) -> Sequence[str]:
        """The namespaces of a thread, the root first."""
        rows = self._connection.execute(
            "SELECT checkpoint_ns FROM checkpoints WHERE thread_id = %s GROUP BY 1 "
            'ORDER BY checkpoint_ns COLLATE "C"',
            (thread_id,),
        )
        return [row["checkpoint_ns"] for row in rows]

    def parents(self, thread_id: str, namespace: str) -> dict[str, str | None]:
        """The ids of a namespace's checkpoints, each with its parent's."""
        rows = self._connection.execute(
            "SELECT checkpoint_id, parent_checkpoint_id FROM checkpoints "
            "WHERE thread_id = %s AND checkpoint_ns = %s",
            (thread_id, namespace),
        )
        return {row["checkpoint_id"]: row["parent_checkpoint_id"] for row in rows}

    def writes(self, thread_id: str, namespace: str, checkpoint_id: str) -> Sequence[StoredWrite]:
        """The writes of a checkpoint, in order of task path, task and index."""
        rows = self._connection.execute(
            "SELECT task_id, task_path, idx, channel, type, blob FROM checkpoint_writes "
            "WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s "
            'ORDER BY task_path COLLATE "C", task_id COLLATE "C", idx',
            (thread_id, namespace, checkpoint_id),
        )
        return [
            StoredWrite(
                row["task_id"], row["task_path"], row["idx"], row["channel"],
                (row["type"], bytes(row["blob"])),
            )
            for row in rows
        ]  # fmt: skip

    def writes_without_checkpoint(self, threads: Sequence[str]) -> int:
        """How many writes have no checkpoint; of these threads, of all if there are none named."""
        rows = self._connection.execute(
            "SELECT count(*) AS count FROM checkpoint_writes AS w WHERE NOT EXISTS (SELECT 1 FROM "
            "checkpoints AS c WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = "
            "w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id) "
            "AND (%s::text[] = '{}' OR thread_id = ANY(%s::text[]))",
            (list(threads), list(threads)),
        )
        return int(rows.fetchone()["count"])
