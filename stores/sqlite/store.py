"""The embedded store: one SQLite file, through apsw, written by one process at a time.

Tables and example queries are in ``docs/STORES.md``. The parts beside this file: ``schema``
(tables, versions), ``file`` (connection), ``space`` (its size), ``leftovers`` (logs of other
databases), ``errors``, ``owners`` (fencing), ``writes``, ``batch`` (what a batch changes),
``reads`` and ``keeping`` (queries), ``marks``; columns are made in ``stores/shared``.

Several services, or other programs, may use the same file; SQLite's write lock orders them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal

from livingai.errors import (
    ConfigurationError,
    StoreError,
    StoreUnavailableError,
)
from livingai.places import real_path
from livingai.stores.base import (
    IDENTITY,
    Capabilities,
    CostLine,
    DroppedNodes,
    ExecutionFilter,
    ExecutionInfo,
    NodeRange,
    PackedNode,
    Row,
    RowResult,
    SizedBlob,
    Store,
    StoredCheckpoint,
    StoredNode,
    StoreSpec,
)
from livingai.stores.shared.prefixes import behind
from livingai.stores.sqlite import drops, keeping, marks, ranges, reads
from livingai.stores.sqlite.errors import check_place, is_open_here, translated
from livingai.stores.sqlite.file import DatabaseFile, connect
from livingai.stores.sqlite.leftovers import has_foreign_log
from livingai.stores.sqlite.schema import schema_version
from livingai.stores.sqlite.writes import SQLiteWrites


class SQLiteStore(Store):
    """Checkpoints in one SQLite file. Cheap to build: nothing is opened before it is used.

    ``path`` is resolved at once (``~``, symbolic links, the working directory), so a later
    ``os.chdir`` does not matter and every name of the file is the same store. ``busy_timeout_ms``
    is how long a write waits for another process's lock before it raises
    :class:`~livingai.errors.StoreUnavailableError`. ``wal_limit_bytes`` is the size of the
    write-ahead log from which on readers of old snapshots are waited for (briefly).
    ``synchronous="normal"`` commits without waiting for the disk: faster where an fsync is slow,
    but a power loss may then take back what was reported as stored.

    Raises:
        ConfigurationError: the path is not one of a file, or a limit is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout_ms: int = 1000,
        wal_limit_bytes: int = 64 << 20,
        synchronous: Literal["full", "normal"] = "full",
    ) -> None:
        self._path = _absolute(path)
        self._given = os.path.abspath(path)
        if not 0 <= busy_timeout_ms <= 60_000 or wal_limit_bytes < 1 << 20:
            raise ConfigurationError(
                "SQLiteStore: busy_timeout_ms must be 0 to 60000, wal_limit_bytes at least 1 MB"
            )
        if synchronous not in ("full", "normal"):
            raise ConfigurationError('SQLiteStore: synchronous must be "full" or "normal"')
        self.capabilities = Capabilities(
            max_writers=1, durable=synchronous == "full", embedded=True, examines=True
        )
        self._options: dict[str, Any] = {
            "busy_timeout_ms": busy_timeout_ms,
            "wal_limit_bytes": wal_limit_bytes,
            "synchronous": synchronous,
        }
        self._file = DatabaseFile(self._path, **self._options)
        #: The identity that :meth:`validate` saw; None: it has not looked, or could not.
        self._seen: str | None = None
        self._writes = SQLiteWrites(self._file)

    def __repr__(self) -> str:
        return f"SQLiteStore({self._path!r})"

    # -- identity --

    @property
    def path(self) -> str:
        """The real path of the database."""
        return self._path

    @property
    def replacements(self) -> int:
        """How many times the file was opened again: another one may be there."""
        return self._file.replacements

    @property
    def place(self) -> str:
        """The same: the file is the database."""
        return self._path

    def spec(self) -> StoreSpec:
        """How another process builds the same store."""
        return StoreSpec(
            "livingai.stores.sqlite:SQLiteStore", {"path": self._path, **self._options}
        )

    @property
    def url(self) -> str:
        """``sqlite:///`` and the absolute path."""
        return f"sqlite:///{self._path}"

    def places(self) -> frozenset[str]:
        """The file itself: links to it are other names of the same place."""
        self._file.open()
        return frozenset({self._file.place()})

    def default_directory(self) -> str:
        """A directory beside the file."""
        return f"{self._path}-livingai"

    def former_directories(self) -> list[str]:
        """Beside the name that was given, where that is a symbolic link to the file."""
        return [] if self._given == self._path else [f"{self._given}-livingai"]

    def validate(self) -> None:
        """Check place, permissions and format without creating or changing anything.

        A file that this process has open by other means is only looked at from outside: opening
        and closing it here would drop that other connection's locks.

        Raises:
            StoreFormatError: no database, a newer schema, or another application's.
            StoreError: no such directory, or it is read-only.
        """
        self._seen = None
        check_place(self._path)
        if not os.path.exists(self._path) or is_open_here(self._path):
            return
        # Locked right now says nothing against it.
        with suppress(StoreUnavailableError), translated(self._path):
            connection = connect(
                self._path,
                self._options["busy_timeout_ms"],
                create=False,
                alone=has_foreign_log(self._path),
            )
            try:
                schema_version(connection, self._path)
                self._seen = marks.peek(connection, IDENTITY)
            finally:
                connection.close(True)

    def glance(self) -> str | None:
        """The identity that the last :meth:`validate` saw; a look now if there was none."""
        if self._seen is None:
            with suppress(StoreError):
                self.validate()
        return self._seen

    # -- life --

    def open(self) -> None:
        """Open the file, creating or migrating the schema. Every other call does it too.

        Raises:
            StoreFormatError: no database, a newer schema, or another application's.
            StoreUnavailableError: another process keeps it locked.
            StoreError: no such directory, or it is read-only.
        """
        self._file.open()

    def examine(self) -> None:
        """Look through all pages of our tables, and open the file anew if they are sound.

        Raises:
            StoreDamagedError: it is damaged, or no database any more.
            StoreUnavailableError: it cannot be looked at now.
        """
        self._file.examine()

    def let_go(self) -> None:
        """Close the file if it, or its log, was removed or replaced."""
        self._file.let_go()

    def close(self) -> None:
        """Close the file. Idempotent; a later call opens it again."""
        self._file.close()

    # -- marks --

    def marks(self) -> dict[str, str]:
        """Notes about the database itself.

        Raises:
            StoreUnavailableError: try again.
        """
        return marks.marks(self._file)

    def mark(self, name: str, value: str | None, *, keep: bool = False) -> None:
        """Set a note, or remove it; ``keep``: the value that is there stays.

        Raises:
            StoreUnavailableError: nothing was changed; try again.
        """
        marks.mark(self._file, name, value, keep=keep)

    # -- writing --

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch in one transaction; one result per row, in order.

        Raises:
            StoreUnavailableError: nothing was written (or, after an I/O error, it is not known);
                send the same batch again.
            StoreFormatError: the file is damaged or no longer ours.
        """
        return self._writes.commit(rows)

    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same one again.

        Raises:
            FencedError: a newer claim has come since, or the execution was deleted.
            StoreUnavailableError: try again.
        """
        return self._writes.claim(execution_id, claim)

    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution and fence all that wrote to it; the number of nodes.

        Its ``owners`` stay, with the deletion as the newest: rows that were queued before it are
        :attr:`RowStatus.FENCED`. A new claim starts the execution afresh.

        Raises:
            StoreUnavailableError: nothing was deleted; try again.
        """
        return self._writes.delete_execution(execution_id)

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints; the number of blob bytes removed.

        Raises:
            StoreUnavailableError: nothing was removed; try again.
        """
        return self._writes.drop_checkpoints(execution_id, versions)

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with their checkpoints, in one transaction; what was removed.

        Raises:
            StoreUnavailableError: nothing was removed; try again.
        """
        return self._writes.drop_nodes(execution_id, node_ids)

    def forget(self, execution_id: str) -> bool:
        """Remove all of an execution, its owners too, as if it had never been here.

        Raises:
            StoreUnavailableError: nothing was removed; try again.
        """
        return self._writes.forget(execution_id)

    # -- reading: each raises StoreUnavailableError (try again), and CorruptRecordError where the
    # -- file is damaged

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state; else the newest node, with blob None."""
        return reads.latest_checkpoint(self._file, execution_id)

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node with the newest state that it was saved with."""
        return reads.load_node(self._file, node_id)

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""
        return reads.nodes(self._file, execution_id)

    def packed_nodes(self, execution_id: str) -> Iterator[PackedNode]:
        """As :meth:`nodes`, with the wires as they are stored."""
        return reads.packed_nodes(self._file, execution_id)

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range, each with the newest state that it was saved with."""
        return ranges.nodes_between(self._file, execution_id, asked)

    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        """The encoded checkpoint of this execution whose raw content has that hash."""
        found = reads.sized_blob(self._file, execution_id, content_hash)
        return found.blob if found else None

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """As :meth:`blob_by_hash`, with the size of the state by its row."""
        return reads.sized_blob(self._file, execution_id, content_hash)

    def list_executions(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str = "",
        where: ExecutionFilter | None = None,
    ) -> list[ExecutionInfo]:
        """A page of executions in order of id (by code point), starting behind ``after``."""
        return reads.list_executions(self._file, after, limit, prefix, where)

    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        """All checkpoints of an execution, oldest first."""
        return keeping.checkpoints(self._file, execution_id, blobs)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """(epoch, claim) of all that ever owned the execution, oldest first."""
        return keeping.owners(self._file, execution_id)

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed from an execution."""
        return drops.dropped_upto(self._file, execution_id)

    def costs(self, *, group: str = "execution", prefix: str = "") -> list[CostLine]:
        """Sums of nodes by execution, name or day."""
        return keeping.costs(self._file, group, prefix, behind(prefix))

    def size_bytes(self) -> int:
        """Bytes of the database, its write-ahead log and the log's index on disk."""
        return self._file.size_bytes()


def _absolute(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text or text.startswith(":memory:"):
        raise ConfigurationError(
            f"SQLiteStore needs the path of a file that other processes can open, not {text!r}"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"SQLiteStore: the path {text!r} is not valid UTF-8") from None
    return real_path(text)
