"""Ranges of nodes in PostgreSQL: how the server looks for them, and what it counts when some go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from livingai.stores.base import NodeRange
from livingai.stores.postgres import PostgresStore
from livingai.testing.rows import commit, make_row, state

pytestmark = pytest.mark.postgres


def asked_of_the_server(store: PostgresStore, asked: NodeRange) -> tuple[str, list[Any]]:
    """The statement of a range and its arguments, as they were sent."""
    session = store._connected().session
    sent: list[tuple[str, Any]] = []
    read = session.read

    def note(query: str, arguments: Any = ()) -> list[Any]:
        sent.append((query, arguments))
        return read(query, arguments)

    session.read = note  # type: ignore[method-assign]
    try:
        store.nodes_between("run-7", asked)
    finally:
        session.read = read  # type: ignore[method-assign]
    ((query, arguments),) = sent
    return query, list(arguments)


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_page_is_found_by_the_index_of_ids(
    store: PostgresStore,
    schema: str,
    admin: psycopg.Connection[Any],
    analyzed: bool,
    backwards: bool,
) -> None:
    """A page reads its own nodes and their states, however many others the execution has."""
    for number in range(10):
        name = f"run-{number}"
        commit(store, [
            make_row(name, seq, node_id=f"{name}/{seq:04}", blob=state("s") if seq % 4 else None)
            for seq in range(1000)
        ])  # fmt: skip
    if analyzed:
        for table in ("nodes", "checkpoints"):
            admin.execute(f"ANALYZE {schema}.{table}".encode())
    asked = NodeRange("run-7/0200", "run-7/0900", 5, backwards)
    query, arguments = asked_of_the_server(store, asked)
    ((plan,),) = admin.execute(f"EXPLAIN (FORMAT JSON, ANALYZE) {query}".encode(), arguments)
    steps = list(nodes_of((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))
    read = {"nodes": 0.0, "checkpoints": 0.0}
    for step in steps:
        relation = step.get("Relation Name")
        if relation in read:
            rows = step["Actual Rows"] + step.get("Rows Removed by Filter", 0)
            read[relation] += rows * step["Actual Loops"]
    assert read["nodes"] == 5, steps
    assert read["checkpoints"] <= 5, steps


def test_removed_nodes_are_no_longer_counted(
    store: PostgresStore, schema: str, admin: psycopg.Connection[Any]
) -> None:
    """Also in the column that only people read."""
    rows = [make_row(seq=seq, blob=bytes(10), cost_tokens=1 << seq) for seq in range(5)]
    commit(store, rows)
    before = admin.execute(f"SELECT created_at FROM {schema}.executions".encode()).fetchall()
    assert store.drop_nodes("run", ["run/0", "run/2", "\ud800"]).nodes == 2
    assert store.drop_nodes("\ud800", ["run/1"]).nodes == 0
    query = f"SELECT nodes, checkpoints, stored_bytes, cost_tokens FROM {schema}.executions"
    assert admin.execute(query.encode()).fetchall() == [(3, 3, 30, 2 + 8 + 16)]
    assert admin.execute(f"SELECT created_at FROM {schema}.executions".encode()).fetchall() == (
        before
    )
