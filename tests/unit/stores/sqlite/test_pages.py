"""A page of executions is found by the index of ids: SQLite walks over no row outside of it."""

from __future__ import annotations

from typing import Any

import pytest

from livingai.stores.base import ExecutionFilter
from livingai.stores.sqlite import SQLiteStore, reads
from livingai.stores.sqlite.file import DatabaseFile
from livingai.testing import make_row

ONE_END = "SEARCH e USING PRIMARY KEY (execution_id>?)"
BOTH_ENDS = "SEARCH e USING PRIMARY KEY (execution_id>? AND execution_id<?)"


class Watched:
    """A database file that notes each statement, and what SQLite plans for it."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self.plans: list[list[str]] = []

    def read(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        plan = self._file.read(f"EXPLAIN QUERY PLAN {sql}", bindings)
        self.plans.append([line[-1] for line in plan])
        return self._file.read(sql, bindings)


@pytest.mark.parametrize(
    ("page", "expected", "plan"),
    [
        ({}, ["a-000", "a-001"], ONE_END),
        ({"after": "a-299"}, ["b-000", "b-001"], ONE_END),
        ({"prefix": "b"}, ["b-000", "b-001"], BOTH_ENDS),
        ({"prefix": "b", "after": "b-200"}, ["b-201", "b-202"], BOTH_ENDS),
        ({"prefix": "b", "after": "a-100"}, ["b-000", "b-001"], BOTH_ENDS),
        ({"prefix": "b-299"}, ["b-299"], BOTH_ENDS),
        ({"prefix": "b", "after": "c-000"}, [], BOTH_ENDS),
        ({"where": ExecutionFilter(statuses=("failed",))}, [], ONE_END),
        ({"prefix": "b", "where": ExecutionFilter(updated_after=1.0)}, ["b-000", "b-001"],
         BOTH_ENDS),
    ],
)  # fmt: skip
def test_a_page_is_searched_not_scanned(
    store: SQLiteStore, page: dict[str, Any], expected: list[str], plan: str
) -> None:
    store.commit([make_row(f"{letter}-{n:03}") for letter in "abc" for n in range(300)])
    file = Watched(store._file)
    arguments = {"after": None, "prefix": "", "where": None, **page}
    found = reads.list_executions(file, limit=2, **arguments)  # type: ignore[arg-type]
    assert [info.execution_id for info in found] == expected
    assert file.plans == [[plan]], "a scan, a second search, or a sort"
