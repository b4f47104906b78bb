"""Ranges of nodes in SQLite: which index leads to them, what is counted when some go, and rows that
another program changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livingai.errors import CorruptRecordError, StoreError
from livingai.stores.base import NodeRange
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, contents, make_row, state
from tests.support.sqlite import raw


def plan(store: SQLiteStore, asked: NodeRange) -> list[str]:
    """How SQLite answers a range."""
    sent: list[tuple[str, Any]] = []
    read = store._file.read

    def note(sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        sent.append((sql, bindings))
        return read(sql, bindings)

    store._file.read = note  # type: ignore[method-assign]
    try:
        store.nodes_between("run", asked)
    finally:
        store._file.read = read  # type: ignore[method-assign]
    ((sql, bindings),) = sent
    return [row[3] for row in read(f"EXPLAIN QUERY PLAN {sql}", bindings)]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("states", [False, True])
def test_a_range_with_two_ends_is_a_walk_along_the_index_of_ids(
    store: SQLiteStore, backwards: bool, states: bool
) -> None:
    for bounds in ((), ((0, 1), (9, 9))):
        steps = plan(store, NodeRange("run/", "run0", 5, backwards, states, *bounds))
        (found,) = [step for step in steps if "nodes_by_id" in step]
        assert found.startswith("SEARCH")
        assert "(node_id>? AND node_id<?)" in found, "both ends bound it"
        assert not [step for step in steps if "TEMP B-TREE" in step], steps
        assert not [step for step in steps if step.startswith("SCAN") and step != "SCAN page"]


@pytest.mark.parametrize("asked", [NodeRange(), NodeRange("run/"), NodeRange("", "s", 3, True)])
def test_a_range_without_an_end_stays_in_its_execution(
    store: SQLiteStore, asked: NodeRange
) -> None:
    """And only ids are sorted: the page is cut before its states are joined to it."""
    steps = plan(store, asked)
    at = {step.split(" (")[0]: number for number, step in enumerate(steps)}
    assert "SEARCH nodes USING INDEX nodes_in_order" in at
    assert at["USE TEMP B-TREE FOR ORDER BY"] < at["SCAN page"]
    assert sum("TEMP B-TREE" in step for step in steps) == 1


def test_removed_nodes_are_no_longer_counted(store: SQLiteStore) -> None:
    """Also in the column that only people read."""
    rows = [make_row(seq=seq, blob=bytes(10), cost_tokens=1 << seq) for seq in range(5)]
    commit(store, rows)
    assert store.drop_nodes("run", ["run/0", "run/2"]).nodes == 2
    query = (
        "SELECT nodes, checkpoints, stored_bytes, cost_tokens, created_at = ? FROM executions",
        (rows[0].saved_at,),
    )
    assert store._file.read(*query) == [(3, 3, 30, 2 + 8 + 16, 1)]
    assert store._file.read("SELECT count(*) FROM blobs", ()) == [(3,)]


def test_the_file_gets_smaller(store: SQLiteStore) -> None:
    commit(store, [make_row(seq=seq, blob=bytes([seq]) * (1 << 20)) for seq in range(16)])
    before = store.size_bytes()
    store.drop_nodes("run", [f"run/{seq}" for seq in range(15)])
    assert store.size_bytes() < before - (5 << 20)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE nodes SET first_seq = 'x'",
        "UPDATE nodes SET seq = -1",
        "UPDATE nodes SET wire = x'00'",
        "UPDATE checkpoints SET state_kind = 'x'",
        "UPDATE checkpoints SET content_hash = 'x'",
        "UPDATE checkpoints SET raw_bytes = 'x'",
        "UPDATE blobs SET blob = x'00'",
    ],
)
def test_what_another_program_changed_is_not_answered(
    store: SQLiteStore, path: Path, change: str
) -> None:
    commit(store, [make_row(seq=2, blob=state("s"))])
    for asked in (NodeRange("run/", "run0"), NodeRange()):
        assert store.nodes_between("run", asked)
    raw(path, change)
    for asked in (NodeRange("run/", "run0"), NodeRange()):
        with pytest.raises(CorruptRecordError, match="run") as caught:
            store.nodes_between("run", asked)
        assert isinstance(caught.value, StoreError)


def test_nothing_is_removed_where_a_row_makes_no_sense(store: SQLiteStore, path: Path) -> None:
    commit(store, [make_row(seq=seq, cost_tokens=1) for seq in range(3)])
    before = contents(store)
    raw(path, "UPDATE nodes SET cost_tokens = 'many' WHERE node_id = 'run/1'")
    with pytest.raises(CorruptRecordError, match="cost_tokens"):
        store.drop_nodes("run", ["run/0", "run/1"])
    assert contents(store) == before
