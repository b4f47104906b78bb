"""The store in a PostgreSQL database (13 or newer), through psycopg 3.

Tables and example queries are in ``docs/STORES.md``. The parts beside this file: ``schema``
(tables, versions), ``functions`` (what a batch does, inside the server), ``writes``, ``batch``
(rows as calls), ``arrays``, ``rows`` (columns), ``reads`` and ``ranges`` (queries), ``connection``,
``address`` (the URL), ``errors``. Any number of services on any hosts may use the same schema; rows
of ``executions`` order them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from livingai.errors import ConfigurationError
from livingai.names_04 import had_other_keywords
from livingai.stores.base import (
    Capabilities,
    CostLine,
    DroppedNodes,
    ExecutionFilter,
    ExecutionInfo,
    NodeRange,
    Row,
    RowResult,
    SizedBlob,
    Store,
    StoredCheckpoint,
    StoredNode,
    StoreSpec,
)
from livingai.stores.postgres import marks
from livingai.stores.postgres.address import parse
from livingai.stores.postgres.schema import prepare, quoted
from livingai.stores.shared.urls import state_directory

if TYPE_CHECKING:
    from livingai.stores.postgres.connection import Session
    from livingai.stores.postgres.ranges import PostgresRanges
    from livingai.stores.postgres.reads import PostgresReads
    from livingai.stores.postgres.writes import PostgresWrites

SynchronousCommit = Literal["off", "local", "remote_write", "on", "remote_apply"]
_SYNCHRONOUS: Final = (None, "off", "local", "remote_write", "on", "remote_apply")


class _Parts(NamedTuple):
    """What needs the driver."""

    session: Session
    writes: PostgresWrites
    reads: PostgresReads
    ranges: PostgresRanges


@had_other_keywords
class PostgresStore(Store):
    """Checkpoints in one schema of a PostgreSQL database. Cheap to build: nothing is connected to.

    ``url`` is libpq's ``postgresql://user:password@host:port/database?sslmode=...``; in addition
    ``?schema=`` names the schema. ``connect_timeout_s`` (at least 2) and ``statement_timeout_ms``
    bound every wait. ``synchronous_commit`` is the server's own setting unless given: it says what
    STORE level survives (``docs/STORES.md``); with "off" a crash of the server may take back what
    was reported as stored.

    Raises:
        ConfigurationError: the URL, schema or a limit cannot be used. It does not repeat the URL.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        connect_timeout_s: float = 5.0,
        statement_timeout_ms: int = 30_000,
        synchronous_commit: SynchronousCommit | None = None,
    ) -> None:
        self._address = parse(url, schema)
        quoted(self._address.schema)
        if not 2 <= connect_timeout_s <= 300 or not 10 <= statement_timeout_ms <= 3_600_000:
            raise ConfigurationError(
                "PostgresStore: connect_timeout_s must be 2 to 300, statement_timeout_ms 10 to "
                "3600000"
            )
        if synchronous_commit not in _SYNCHRONOUS:
            raise ConfigurationError(
                "PostgresStore: synchronous_commit must be None or one of "
                f"{', '.join(filter(None, _SYNCHRONOUS))}"
            )
        self.capabilities = Capabilities(max_writers=4, durable=synchronous_commit != "off")
        self._options: dict[str, Any] = {
            "connect_timeout_s": connect_timeout_s,
            "statement_timeout_ms": statement_timeout_ms,
            "synchronous_commit": synchronous_commit,
        }
        self._parts: _Parts | None = None

    def __repr__(self) -> str:
        return f"PostgresStore({self.url!r})"

    # -- identity --

    def spec(self) -> StoreSpec:
        """How another process builds the same store; holds the password."""
        return StoreSpec(
            "livingai.stores.postgres:PostgresStore",
            {"url": self._address.conninfo, "schema": self._address.schema, **self._options},
        )

    @property
    def url(self) -> str:
        """The database's address and, unless it is the usual one, its schema; no credentials."""
        return self._address.shown

    def places(self) -> frozenset[str]:
        """The server (by the moment of its start, whatever host names lead to it), database and
        schema."""
        return frozenset({self._connected().reads.place()})

    def default_directory(self) -> str:
        """A directory for this user, named by the database."""
        return state_directory("postgresql", self.url)

    def validate(self) -> None:
        """Check that the driver is there. The server is not asked: that is the service's work.

        Raises:
            ConfigurationError: psycopg is not installed.
        """
        if importlib.util.find_spec("psycopg") is None:
            raise _no_driver()

    # -- life --

    def open(self) -> None:
        """Connect, and create or migrate the schema. Every other call does it too.

        Raises:
            ConfigurationError: psycopg is not installed.
            StoreAuthenticationError: wrong user or password, or rights are missing.
            StoreMissingError: there is no such database.
            StoreFormatError: a schema of a newer version, a server too old, not UTF8.
            StoreUnavailableError: the server cannot be reached for now.
        """
        self._connected().session.open()

    def close(self) -> None:
        """Disconnect. Idempotent; a later call connects again."""
        if self._parts is not None:
            self._parts.session.close()

    def _connected(self) -> _Parts:
        if self._parts is None:
            try:
                from livingai.stores.postgres.connection import Session  # noqa: PLC0415
                from livingai.stores.postgres.ranges import PostgresRanges  # noqa: PLC0415
                from livingai.stores.postgres.reads import PostgresReads  # noqa: PLC0415
                from livingai.stores.postgres.writes import PostgresWrites  # noqa: PLC0415
            except ImportError as error:
                raise _no_driver() from error
            schema = self._address.schema
            session = Session(
                self._address, prepare=lambda new: prepare(new, schema), **self._options
            )
            name = quoted(schema)
            self._parts = _Parts(
                session,
                PostgresWrites(session, name),
                PostgresReads(session, name),
                PostgresRanges(session, name),
            )
        return self._parts

    # -- marks --

    def marks(self) -> dict[str, str]:
        """Notes about the schema itself.

        Raises:
            StoreUnavailableError: try again.
        """
        return marks.marks(self._connected().session, self._address.schema)

    def mark(self, name: str, value: str | None, *, keep: bool = False) -> None:
        """Set a note, or remove it; ``keep``: the value that is there stays.

        Raises:
            StoreUnavailableError: nothing was changed, or it is not known; try again.
            StoreError: this user may not make the table.
        """
        session = self._connected().session
        marks.mark(session, self._address.schema, name, value, keep=keep)

    # -- writing --

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch in one transaction and one round trip; one result per row, in order.

        Raises:
            StoreUnavailableError: nothing was written, or (the connection broke during COMMIT) it
                is not known; send the same batch again.
            StoreError: the server refuses us altogether.
        """
        return self._connected().writes.commit(rows)

    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same one again.

        Raises:
            FencedError: a newer claim has come since, or the execution was deleted.
            RecordRefusedError: an id that cannot be stored.
            StoreUnavailableError: try again.
        """
        return self._connected().writes.claim(execution_id, claim)

    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution and fence all that wrote to it; the number of nodes.

        Raises:
            StoreUnavailableError: nothing was deleted, or it is not known; try again.
        """
        return self._connected().writes.delete_execution(execution_id)

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints; the number of blob bytes removed. Autovacuum makes their space free
        for other blobs.

        Raises:
            StoreUnavailableError: nothing was removed, or it is not known; try again.
        """
        return self._connected().writes.drop_checkpoints(execution_id, versions)

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with their checkpoints, in one transaction; what was removed.

        Raises:
            StoreUnavailableError: nothing was removed, or it is not known; try again.
        """
        return self._connected().ranges.drop_nodes(execution_id, node_ids)

    # -- reading: each raises StoreUnavailableError (try again), and CorruptRecordError where what
    # -- the database has is not what was written

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state; else the newest node, with blob None."""
        return self._connected().reads.latest_checkpoint(execution_id)

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node with the newest state that it was saved with."""
        return self._connected().reads.load_node(node_id)

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""
        return self._connected().reads.nodes(execution_id)

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range, each with the newest state that it was saved with."""
        return self._connected().ranges.nodes_between(execution_id, asked)

    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        """The encoded checkpoint of this execution whose raw content has that hash."""
        found = self._connected().reads.sized_blob(execution_id, content_hash)
        return found.blob if found else None

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """As :meth:`blob_by_hash`, with the size of the state by its row."""
        return self._connected().reads.sized_blob(execution_id, content_hash)

    def list_executions(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str = "",
        where: ExecutionFilter | None = None,
    ) -> list[ExecutionInfo]:
        """A page of executions in order of id (by code point), starting behind ``after``."""
        return self._connected().reads.list_executions(after, limit, prefix, where)

    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        """All checkpoints of an execution, oldest first."""
        return self._connected().reads.checkpoints(execution_id, blobs)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """(epoch, claim) of all that ever owned the execution, oldest first."""
        return self._connected().reads.owners(execution_id)

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed from an execution."""
        return self._connected().ranges.dropped_upto(execution_id)

    def costs(self, *, group: str = "execution", prefix: str = "") -> list[CostLine]:
        """Sums of nodes by execution, name or day."""
        return self._connected().reads.costs(group, prefix)

    def size_bytes(self) -> int:
        """Bytes of tables and indexes, and of the blobs that are there (not of what is free)."""
        return self._connected().reads.size_bytes()


def _no_driver() -> ConfigurationError:
    return ConfigurationError(
        "PostgresStore needs psycopg 3, which is not installed: pip install 'livingai[postgres]'"
    )
