"""Databases of LangGraph's ``SqliteSaver`` and ``AsyncSqliteSaver``."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from urllib.parse import quote

from livingai.adapters.versions import require
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ImportSourceError
from livingai.importing.kinds import ImportOptions, ImportSummary, Progress

require("langgraph-checkpoint", at_least="4.3", below="5", extra="langgraph-sqlite")
require("langgraph-checkpoint-sqlite", at_least="3.1", below="4", extra="langgraph-sqlite")

from langgraph.checkpoint.sqlite import SqliteSaver  # noqa: E402 - behind the checks

from livingai.importing.checkpoints import StoredWrite, import_checkpoints  # noqa: E402
from livingai.importing.verbatim import VerbatimSerializer  # noqa: E402

#: What the saver needs of each table; it adds ``task_path`` itself, and reads tables without.
_COLUMNS = {
    "checkpoints": {"thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "type",
                    "checkpoint", "metadata"},
    "writes": {"thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", "channel", "type",
               "value"},
}  # fmt: skip


def run(
    where: str, engine: CheckpointEngine | None, options: ImportOptions, progress: Progress
) -> ImportSummary:
    """Import the file ``where``; see :class:`livingai.importing.kinds.ImportRun`."""
    serializer = VerbatimSerializer(strict=options.strict)
    try:
        with _opened(where) as connection:
            source = SqliteSource(connection, serializer)
            return import_checkpoints(source, serializer, engine, options, progress)
    except sqlite3.Error as error:
        raise ImportSourceError(f"{where} cannot be read: {error}") from error


class _SnapshotConnection(sqlite3.Connection):
    """A connection that stays in one transaction, whatever a saver does with it: so all reads see
    the database as it was at the first one."""

    def commit(self) -> None:
        """Nothing: there is nothing to commit."""


@contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    """A connection to a database that can only read."""
    if not os.path.isfile(path):
        raise ImportSourceError(f"there is no file {path}")
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, factory=_SnapshotConnection
    )
    with closing(connection):
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            tables = {
                table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for table in _COLUMNS
            }
        except sqlite3.DatabaseError as error:
            raise ImportSourceError(
                f"{path} cannot be read as an SQLite database: {error}"
            ) from error
        if not all(tables.values()):
            raise ImportSourceError(
                f"{path} is no database of LangGraph's SQLite saver: it lacks the table "
                + " and ".join(table for table in tables if not tables[table])
            )
        for table, columns in _COLUMNS.items():
            if missing := columns - tables[table]:
                raise ImportSourceError(
                    f"{path} was made by an older saver: its table {table} lacks "
                    f"{', '.join(sorted(missing))}. Bring a copy of it to the schema of "
                    "langgraph-checkpoint-sqlite 3 first, and import that"
                )
        yield connection


class SqliteSource:
    """The threads of an open database; see
    :class:`livingai.importing.checkpoints.CheckpointSource`."""

    def __init__(self, connection: sqlite3.Connection, serializer: VerbatimSerializer) -> None:
        self._connection = connection
        columns = {row[1] for row in connection.execute("PRAGMA table_info(writes)")}
        self.saver = SqliteSaver(connection, serde=serializer)
        self.saver._has_task_path = "task_path" in columns
        self.saver.is_setup = True  # it would write
        self._task_path = "task_path" if "task_path" in columns else "''"

    def threads(self) -> Sequence[str]:
        """All thread ids, in order."""
        query = "SELECT DISTINCT thread_id FROM checkpoints ORDER BY thread_id"
        return [thread_id for (thread_id,) in self._connection.execute(query)]

    def namespaces(self, thread_id: str) -> Sequence[str]:
        """The namespaces of a thread, the root first."""
        query = "SELECT DISTINCT checkpoint_ns FROM checkpoints WHERE thread_id = ? ORDER BY 1"
        return [namespace for (namespace,) in self._connection.execute(query, (thread_id,))]

    def parents(self, thread_id: str, namespace: str) -> dict[str, str | None]:
        """The ids of a namespace's checkpoints, each with its parent's."""
        query = (
            "SELECT checkpoint_id, parent_checkpoint_id FROM checkpoints "
            "WHERE thread_id = ? AND checkpoint_ns = ?"
        )
        return dict(self._connection.execute(query, (thread_id, namespace)))

    def writes(self, thread_id: str, namespace: str, checkpoint_id: str) -> Sequence[StoredWrite]:
        """The writes of a checkpoint, in order of task path, task and index."""
        query = (
            f"SELECT task_id, {self._task_path}, idx, channel, type, value FROM writes "
            "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ? ORDER BY 2, 1, 3"
        )
        rows = self._connection.execute(query, (thread_id, namespace, checkpoint_id))
        return [
            StoredWrite(task_id, task_path, index, channel, (kind, bytes(value)))
            for task_id, task_path, index, channel, kind, value in rows
        ]

    def writes_without_checkpoint(self, threads: Sequence[str]) -> int:
        """How many writes have no checkpoint; of these threads, of all if there are none named."""
        query = (
            "SELECT thread_id, count(*) FROM writes AS w WHERE NOT EXISTS (SELECT 1 FROM "
            "checkpoints AS c WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = "
            "w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id) GROUP BY thread_id"
        )
        found = self._connection.execute(query)
        return sum(count for thread_id, count in found if not threads or thread_id in threads)
