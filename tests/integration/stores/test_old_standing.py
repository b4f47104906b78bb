"""A database of a livingai that gave an execution the status of its newest node: once it is opened,
the status of each run is derived from its nodes, and it is written to like any other database."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from livingai.node import ErrorInfo, NodeField, NodeType, Status
from livingai.stores.base import ExecutionFilter, Row, Store
from livingai.stores.opening import open_store
from livingai.stores.redis.keys import Keys
from livingai.testing.rows import EPOCH_S, commit, make_row
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import shared_server

COLUMNS = ("error", "life_epoch", "life_seq", "entered_at", "ended_at")
TROUBLE = ErrorInfo("Trouble", "no luck", "x" * 100)


def life(name: str, seq: int, status: Status, **fields: Any) -> Row:
    metadata = {"name": "run", "role": "run", "host": "h", "pid": 1}
    return make_row(
        name, seq, node_id=f"{name}/life {fields.get('claim')}", status=status, metadata=metadata,
        type=NodeType.MEMORY, **fields,
    )  # fmt: skip


#: What was written, and how it has to read: status, error, whether it is a run.
RUNS: dict[str, tuple[list[Row], tuple[str, str, bool]]] = {
    "ended": (
        [life("ended", 0, Status.RUNNING), make_row("ended", 1),
         life("ended", 2, Status.SUCCESS, completed_at=EPOCH_S + 5)],
        ("success", "", True),
    ),
    "failed": (
        [life("failed", 0, Status.RUNNING), life("failed", 1, Status.FAILED, error=TROUBLE),
         make_row("failed", 2)],
        ("failed", "Trouble: no luck", True),
    ),
    "killed": (
        [life("killed", 0, Status.RUNNING, claim="a"), life("killed", 1, Status.FAILED, claim="a"),
         life("killed", 0, Status.RUNNING, claim="b"), make_row("killed", 1, claim="b")],
        ("running", "", True),
    ),
    "plain": ([make_row("plain", 0, status=Status.RUNNING), make_row("plain", 1)],
              ("success", "", False)),
    "plain failure": (
        [make_row("plain failure", 0, status=Status.FAILED, error=TROUBLE)],
        ("failed", "Trouble: no luck", False),
    ),
    "recovered": (
        [make_row("recovered", 0),
         make_row("recovered", 1, type=NodeType.MEMORY,
                  metadata={"name": "recovery", "role": "run"}),
         make_row("recovered", 2, status=Status.RUNNING)],
        ("running", "", False),
    ),
}  # fmt: skip


def _sqlite(path: Path) -> tuple[str, Callable[[], None]]:
    def make_old() -> None:
        connection = apsw.Connection(str(path / "agent.db"))
        connection.execute("DROP VIEW runs; DROP VIEW steps; DROP VIEW states")
        connection.execute(_NEWEST_NODES.format(s=""))
        # Another program has written to it.
        connection.execute(
            "UPDATE nodes SET metadata = '{no', error = 'no' WHERE node_id = 'plain/0'"
        )
        for name in COLUMNS:
            connection.execute(f"ALTER TABLE executions DROP COLUMN {name}")
        connection.pragma("user_version", 1)
        connection.close()

    return f"sqlite:///{path / 'agent.db'}", make_old


def _postgres(path: Path) -> tuple[str, Callable[[], None]]:
    schema = f"t{secrets.token_hex(6)}"

    def make_old() -> None:
        with psycopg.connect(shared_url(), autocommit=True) as connection:
            connection.execute(f"DROP VIEW {schema}.runs, {schema}.steps, {schema}.states".encode())
            connection.execute(_NEWEST_NODES.format(s=f"{schema}.").encode())
            for name in COLUMNS:
                connection.execute(f"ALTER TABLE {schema}.executions DROP {name}".encode())
            connection.execute(f"UPDATE {schema}.livingai SET version = 1".encode())

    return f"{shared_url()}&schema={schema}", make_old


def _redis(path: Path) -> tuple[str, Callable[[], None]]:
    prefix = f"t{secrets.token_hex(6)}"

    def make_old() -> None:
        client = shared_server().client()
        for name, (rows, _) in RUNS.items():
            run = Keys(prefix).of(name).run
            client.hdel(run, "life", "told", "error", "entered", "ended")
            client.hset(run, "status", rows[-1].wire[NodeField.STATUS])

    return f"{shared_server().url}?prefix={prefix}", make_old


#: What an earlier livingai keeps: the status of the newest node.
_NEWEST_NODES = """
UPDATE {s}executions SET status = (SELECT n.status FROM {s}nodes AS n
    WHERE n.node_id = executions.node_id AND n.execution_id = executions.execution_id)
"""
STORES = [
    pytest.param(_sqlite, id="sqlite"),
    pytest.param(_redis, id="redis", marks=pytest.mark.redis),
    pytest.param(_postgres, id="postgres", marks=pytest.mark.postgres),
]


def standings(store: Store) -> dict[str, tuple[str, str, bool]]:
    page = store.list_executions(limit=100)
    return {info.execution_id: (info.status, info.error, info.is_run) for info in page}


@pytest.mark.parametrize("make", STORES)
def test_an_old_database_reads_rightly(
    make: Callable[[Path], tuple[str, Callable[[], None]]], tmp_path: Path
) -> None:
    url, make_old = make(tmp_path)
    with open_store(url) as store:
        for rows, _ in RUNS.values():
            commit(store, rows)
    make_old()
    expected = {name: stands for name, (_, stands) in RUNS.items()}
    with open_store(url) as store:
        if make is _redis:  # its newest node's error is not looked for
            expected["plain failure"] = ("failed", "", False)
        assert standings(store) == expected
        page = store.list_executions(where=ExecutionFilter(statuses=("success",)))
        assert [info.execution_id for info in page] == ["ended", "plain"]
        (ended,) = store.list_executions(prefix="ended")
        assert (ended.entered_at, ended.ended_at) == (EPOCH_S, EPOCH_S + 5)
    with open_store(url) as store:
        assert standings(store) == expected, "and again"
        commit(store, [life("killed", 2, Status.SUCCESS, claim="b"), make_row("plain", 2)])
        commit(store, [make_row("killed", 3, claim="b", status=Status.RUNNING)])
        assert standings(store)["killed"] == ("success", "", True)
        assert standings(store)["plain"] == ("success", "", False)


@pytest.mark.redis
def test_redis_an_old_service_that_still_writes(tmp_path: Path) -> None:
    """It keeps the newest node's status; listing the run derives its status again."""
    url, _ = _redis(tmp_path)
    with open_store(url) as store:
        commit(store, [life("r", 0, Status.RUNNING), life("r", 1, Status.SUCCESS)])
        commit(store, [life("r", 0, Status.RUNNING, claim="b"), make_row("r", 1, claim="b")])
        client = shared_server().client()
        run = Keys(url.rpartition("=")[2]).of("r").run
        client.hset(run, mapping={"status": "success", "life": "a1a1", "told": "a1a1"})
        assert standings(store) == {"r": ("running", "", True)}
        assert client.hget(run, "status") == b"running", "noted for the next time"
