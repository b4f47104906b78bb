"""What changes a PostgreSQL store: batches, claims, deletes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from livingai.errors import RecordRefusedError
from livingai.stores.base import Row, RowResult, RowStatus
from livingai.stores.postgres.arrays import bigint_array, text_array
from livingai.stores.postgres.batch import calls
from livingai.stores.postgres.connection import Run, Session
from livingai.stores.postgres.drops import PostgresDrops
from livingai.stores.postgres.rows import is_text, key, prepare
from livingai.stores.shared.rows import Write, owned


class PostgresWrites:
    """The functions of one schema (quoted) over one session."""

    def __init__(self, session: Session, schema: str) -> None:
        self._session = session
        self._schema = schema

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch in one transaction; one result per row, in order."""
        prepared = [prepare(row) for row in rows]
        writes = [item for item in prepared if not isinstance(item, str)]
        try:
            done = iter(self._write(writes) if writes else ())
        except RecordRefusedError:
            done = iter(self._write_singly(writes))
        return [
            RowResult(RowStatus.REFUSED, row.epoch, item) if isinstance(item, str) else next(done)
            for row, item in zip(rows, prepared, strict=True)
        ]

    def _write(self, writes: list[Write]) -> list[RowResult]:
        sent = list(calls(writes))
        answers = self._session.run(*(call.statement(self._schema) for call in sent))
        results: dict[int, RowResult] = {}
        for call, rows in zip(sent, answers, strict=True):
            results.update(call.results(rows[0]))
        return [results[at] for at in range(len(writes))]

    def _write_singly(self, writes: list[Write]) -> list[RowResult]:
        """As :meth:`_write`, slowly: each row that the server refuses is refused alone."""
        results: dict[int, RowResult] = {}
        in_order = sorted(range(len(writes)), key=lambda at: key(writes[at].row.execution_id))
        with self._session.transaction() as run:
            for at in in_order:
                try:
                    results[at] = self._write_one(run, writes[at], human=True)
                except RecordRefusedError:
                    results[at] = self._write_exact(run, writes[at])
        return [results[at] for at in range(len(writes))]

    def _write_exact(self, run: Run, write: Write) -> RowResult:
        """Without the columns that only people read: what cannot be shown can still be stored."""
        try:
            return self._write_one(run, write, human=False)
        except RecordRefusedError as error:
            return RowResult(RowStatus.REFUSED, write.row.epoch, str(error))

    def _write_one(self, run: Run, write: Write, *, human: bool) -> RowResult:
        (call,) = calls([write], human=human)
        with self._session.savepoint(run):
            answer: list[Any] = run(*call.statement(self._schema))
        return next(call.results(answer[0]))[1]

    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same one again.

        Raises:
            FencedError: a newer claim has come since, or the execution was deleted.
            RecordRefusedError: an id that cannot be stored.
        """
        if not execution_id or not claim or not is_text(execution_id, claim):
            raise RecordRefusedError("an execution's id and claim must be valid, non-empty text")
        statement = f"SELECT x_owned[1], x_newest[1] FROM {self._schema}.take_owners(%b, %b, %b)"
        arguments = (text_array([key(execution_id)]), text_array([key(claim)]), bigint_array([0]))
        epoch, newest = self._session.read(statement, arguments)[0]
        return owned(execution_id, int(epoch), int(newest))

    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution and fence all that wrote to it; the number of nodes."""
        if not is_text(execution_id):
            return 0
        statement = f"SELECT {self._schema}.delete_execution(%s)"
        nodes = int(self._session.read(statement, (key(execution_id),))[0][0])
        PostgresDrops(self._session, self._schema).forget(key(execution_id))
        return nodes

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints; the number of blob bytes removed."""
        if not versions or not is_text(execution_id):
            return 0
        epochs, seqs = zip(*versions, strict=True)
        statement = f"SELECT {self._schema}.drop_checkpoints(%s, %b, %b)"
        arguments = (key(execution_id), bigint_array(epochs), bigint_array(seqs))
        return int(self._session.read(statement, arguments)[0][0])
