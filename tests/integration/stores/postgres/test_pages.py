"""A page of executions is found by the index of ids: PostgreSQL reads no row outside of it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from livingai.stores.base import ExecutionFilter
from livingai.stores.postgres import PostgresStore
from livingai.testing import make_row


@pytest.mark.parametrize(
    ("page", "first"),
    [
        ({}, "a-0000"),
        ({"after": "a-0999"}, "b-0000"),
        ({"prefix": "b"}, "b-0000"),
        ({"prefix": "b", "after": "b-0700"}, "b-0701"),
        ({"prefix": "b", "after": "a-0100"}, "b-0000"),
        ({"prefix": "b", "where": ExecutionFilter(updated_after=1.0)}, "b-0000"),
    ],
)
def test_a_page_is_read_from_the_index(
    store: PostgresStore,
    admin: psycopg.Connection[Any],
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
    page: dict[str, Any],
    first: str,
) -> None:
    store.commit([make_row(f"{letter}-{n:04}") for letter in "abc" for n in range(1000)])
    admin.execute(f"ANALYZE {schema}.executions".encode())
    session = store._connected().reads._session
    asked: list[tuple[str, Any]] = []
    read = session.read

    def noting(statement: str, arguments: Any) -> Any:
        asked.append((statement, arguments))
        return read(statement, arguments)

    monkeypatch.setattr(session, "read", noting)
    found = store.list_executions(limit=10, **page)
    assert (found[0].execution_id, len(found)) == (first, 10)
    ((statement, arguments),) = asked
    explained = admin.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), arguments)
    top = explained.fetchall()[0][0][0]["Plan"]
    assert top["Node Type"] == "Limit"
    (scan,) = top["Plans"]  # no sort between
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "executions_pkey"), scan
    assert "execution_id" in scan.get("Index Cond", "execution_id")
    assert scan["Actual Rows"] == 10
    assert scan.get("Rows Removed by Filter", 0) == 0, "it walked over rows before the page"
