"""Several processes that write to one PostgreSQL schema."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from livingai.stores.base import RowStatus
from livingai.stores.postgres import PostgresStore
from livingai.stores.sqlite import SQLiteStore
from livingai.testing import make_row
from livingai.testing.rows import commit, state
from tests.support.postgres_servers import PostgresServer
from tests.support.postgres_stores import rows
from tests.support.waiting import joined

pytestmark = pytest.mark.postgres


def test_connections_leave_no_state_behind(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    """What PgBouncer in transaction mode asks for: each transaction could be on another session."""
    commit(store, rows())
    connection = store._connected().session._connection
    assert connection is not None
    for name in ("statement_timeout", "idle_in_transaction_session_timeout", "synchronous_commit"):
        ((value, reset),) = connection.execute(
            "SELECT setting, reset_val FROM pg_settings WHERE name = %s", (name,)
        ).fetchall()
        assert value == reset
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    held = connection.execute(
        "SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
    ).fetchall()
    assert held == []
    connection.execute("DISCARD ALL")
    commit(store, rows(7))


def test_epochs_that_a_claim_brings_in_one_batch(store: PostgresStore, tmp_path: Path) -> None:
    """Each row is decided by its own, as in any store: the first one is too old."""
    before = [make_row(seq=0, claim="one", epoch=5)]
    batch = [make_row(seq=seq, claim="two", epoch=epoch) for seq, epoch in enumerate((3, 9, 0))]
    with SQLiteStore(tmp_path / "other.db") as other:
        told = []
        for each in (store, other):
            commit(each, before)
            told.append([(result.status, result.epoch) for result in each.commit(batch)])
    assert told[0] == told[1]
    assert told[0] == [(RowStatus.FENCED, 3), (RowStatus.STORED, 9), (RowStatus.STORED, 9)]


def test_many_openings_at_once(server: PostgresServer, schema: str) -> None:
    stores = [PostgresStore(server.url(), schema=schema) for _ in range(6)]
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with stores[number]:
                commit(stores[number], rows(3, f"run-{number}"))
        except BaseException as error:
            errors.append(error)

    _together(run, 6)
    assert not errors
    with stores[0]:
        assert len(stores[0].list_executions()) == 6


@pytest.mark.parametrize("seed", [1, 2])
def test_two_hosts_and_many_writers(
    server: PostgresServer, admin: psycopg.Connection[Any], schema: str, seed: int
) -> None:
    """Writers with overlapping executions in any order: no deadlock, one owner at a time."""
    names = [f"run-{number}" for number in range(12)]
    told: list[tuple[int, Any, Any]] = []
    errors: list[BaseException] = []

    def run(writer: int) -> None:
        rng = random.Random(seed * 100 + writer)
        try:
            with PostgresStore(server.url(), schema=schema) as store:
                for turn in range(25):
                    batch = [
                        make_row(name, turn * 3 + part, claim=f"{writer}-{turn // 5}",
                                 node_id=f"{name}/{writer}-{turn}-{part}", blob=state(name))
                        for name in rng.sample(names, 6) for part in range(3)
                    ]  # fmt: skip
                    rng.shuffle(batch)
                    results = store.commit(batch)
                    told.extend((writer, *pair) for pair in zip(batch, results, strict=True))
        except BaseException as error:
            errors.append(error)

    before = _deadlocks(admin)
    _together(run, 5)
    assert not errors, errors
    assert _deadlocks(admin) == before
    with PostgresStore(server.url(), schema=schema) as store:
        for name in names:
            stored = {(c.epoch, c.seq): c.node_id for c in store.checkpoints(name)}
            said = {
                (result.epoch, row.seq): row.node_id
                for _, row, result in told
                if row.execution_id == name and result.status == RowStatus.STORED
            }
            assert stored == said
            epochs = [epoch for epoch, _ in store.owners(name)]
            assert epochs == list(range(1, len(epochs) + 1))


def _deadlocks(admin: psycopg.Connection[Any]) -> Any:
    return admin.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()


def _together(run: Any, count: int) -> None:
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        joined(thread, timeout=100)
        assert not thread.is_alive()
