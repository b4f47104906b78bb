"""What changes a SQLite store: batches, claims, deletes; each is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from livingai.errors import RecordRefusedError, StoreError
from livingai.stores.base import DroppedNodes, Row, RowResult, RowStatus
from livingai.stores.shared.rows import Write, owned, prepare
from livingai.stores.sqlite import keeping, ranges
from livingai.stores.sqlite.batch import Batch
from livingai.stores.sqlite.drops import forget_drops
from livingai.stores.sqlite.errors import translate
from livingai.stores.sqlite.file import DatabaseFile
from livingai.stores.sqlite.owners import Owners
from livingai.stores.sqlite.space import give_back

if TYPE_CHECKING:
    import apsw

_DELETE_BLOBS = (
    "DELETE FROM blobs WHERE blob_id IN (SELECT blob_id FROM checkpoints WHERE execution_id = ?)"
)


class SQLiteWrites:
    """The transactions of one file."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch in one transaction; one result per row, in order."""
        prepared = [prepare(row) for row in rows]
        writes = [item for item in prepared if not isinstance(item, str)]
        try:
            done = iter(self._file.transaction(lambda c: _write(c, writes)) if writes else ())
        except RecordRefusedError:
            done = iter(self._file.transaction(lambda c: _write_singly(c, writes)))
        return [
            RowResult(RowStatus.REFUSED, row.epoch, item) if isinstance(item, str) else next(done)
            for row, item in zip(rows, prepared, strict=True)
        ]

    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same one again."""

        def work(connection: apsw.Connection) -> tuple[int, int]:
            owners = Owners(connection)
            owner = owners.find(execution_id, claim)
            newest = owners.newest(execution_id)
            assert owner is not None
            assert newest is not None
            owners.flush()
            return owner.epoch, newest.epoch

        epoch, newest = self._file.transaction(work)
        return owned(execution_id, epoch, newest)

    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution and fence all that wrote to it; the number of nodes."""

        def work(connection: apsw.Connection) -> int:
            owners = Owners(connection)
            owners.delete(execution_id)
            owners.flush()
            return _remove(connection, execution_id, "checkpoints", "executions", "nodes")

        nodes = self._file.transaction(work)
        self._give_back()
        return nodes

    def forget(self, execution_id: str) -> bool:
        """Remove all of an execution, its owners too."""
        tables = ("checkpoints", "executions", "nodes", "owners")
        self._file.transaction(lambda connection: _remove(connection, execution_id, *tables))
        self._give_back()
        return True

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints; the number of blob bytes removed."""
        size = self._file.transaction(
            lambda connection: keeping.drop_checkpoints(connection, execution_id, versions)
        )
        self._give_back()
        return size

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with their checkpoints; what was removed."""
        dropped = self._file.transaction(
            lambda connection: ranges.drop_nodes(connection, execution_id, node_ids)
        )
        self._give_back()
        return dropped

    def _give_back(self) -> None:
        with suppress(StoreError):  # what was removed is removed; the space can wait
            give_back(self._file.read)
            self._file.fold_log()


def _remove(connection: apsw.Connection, execution_id: str, *tables: str) -> int:
    """Remove an execution's blobs and rows; the number of rows of the last table."""
    connection.execute(_DELETE_BLOBS, (execution_id,))
    forget_drops(connection, execution_id)
    for table in tables:
        connection.execute(f"DELETE FROM {table} WHERE execution_id = ?", (execution_id,))
    return connection.changes()


def _write(connection: apsw.Connection, writes: list[Write]) -> list[RowResult]:
    batch = Batch(connection)
    results = [batch.add(write) for write in writes]
    batch.flush()
    return results


def _write_singly(connection: apsw.Connection, writes: list[Write]) -> list[RowResult]:
    """As :func:`_write`, slowly: a row that SQLite refuses is taken back alone."""
    results = []
    for write in writes:
        connection.execute("SAVEPOINT one")
        try:
            results += _write(connection, [write])
        except Exception as error:
            refusal = translate(error, "")
            if not isinstance(refusal, RecordRefusedError):
                raise
            connection.execute("ROLLBACK TO one")
            results.append(RowResult(RowStatus.REFUSED, write.row.epoch, str(refusal)))
        connection.execute("RELEASE one")
    return results
