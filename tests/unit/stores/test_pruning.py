"""Which executions and checkpoints :func:`prune` takes out of a store: by which time, up to which
limit, by whose hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.stores import retention
from livingai.stores.retention import Retention, prune
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, state

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "a.db", synchronous="normal") as store:
        yield store


def save(store: SQLiteStore, name: str, *ages: float) -> None:
    """An execution with one checkpoint for each age in seconds, the oldest first."""
    rows = [make_row(name, seq, blob=state(f"{name} {seq}")) for seq in range(len(ages))]
    for row, age in zip(rows, ages, strict=True):
        row.saved_at = NOW - age
    commit(store, rows)


def kept(store: SQLiteStore) -> dict[str, list[int]]:
    """The seqs of the checkpoints that are there, by execution."""
    return {
        info.execution_id: [c.seq for c in store.checkpoints(info.execution_id)]
        for info in store.list_executions()
    }


def test_an_execution_expires_by_its_last_write(store: SQLiteStore) -> None:
    save(store, "begun long ago", 100, 1)
    save(store, "left long ago", 100, 99)
    save(store, "at the limit", 10)
    assert prune(store, Retention(expire_s=10), now=NOW).executions == 1
    assert kept(store) == {"begun long ago": [0, 1], "at the limit": [0]}


def test_old_checkpoints_go_and_the_newest_stays(store: SQLiteStore) -> None:
    save(store, "one", 100)
    save(store, "two", 100, 99)
    save(store, "three", 100, 10, 9)
    assert prune(store, Retention(max_age_s=10), now=NOW).checkpoints == 2
    assert kept(store) == {"one": [0], "two": [1], "three": [1, 2]}


def test_the_last_ones_are_kept(store: SQLiteStore) -> None:
    save(store, "two", 2, 1)
    save(store, "three", 3, 2, 1)
    assert prune(store, Retention(keep_last=2), now=NOW).checkpoints == 1
    assert kept(store) == {"three": [1, 2], "two": [0, 1]}


def test_what_has_expired_is_removed_by_whoever_was_given(store: SQLiteStore) -> None:
    save(store, "old", 100)
    save(store, "young", 1)
    asked: list[str] = []
    policy = Retention(expire_s=10)
    assert prune(store, policy, now=NOW, delete=asked.append, dry_run=True).executions == 1
    assert asked == []
    assert prune(store, policy, now=NOW, delete=asked.append).executions == 1
    assert asked == ["old"]
    assert kept(store) == {"old": [0], "young": [0]}


@pytest.mark.parametrize("expired", [range(0), range(1), range(5), range(0, 5, 2)])
def test_all_pages_are_gone_through(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, expired: range
) -> None:
    """What is removed on the way is not missed when the next page is asked for."""
    monkeypatch.setattr(retention, "_PAGE", 2)
    for number in range(5):
        save(store, f"run {number}", 100 if number in expired else 1)
    assert prune(store, Retention(expire_s=10), now=NOW).executions == len(expired)
    assert set(kept(store)) == {f"run {number}" for number in range(5) if number not in expired}
