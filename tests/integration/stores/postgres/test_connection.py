"""Connections to PostgreSQL that break, block or time out: the batch can be committed again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from livingai.errors import (
    FencedError,
    StoreError,
    StoreUnavailableError,
)
from livingai.stores.postgres import PostgresStore
from livingai.stores.postgres import connection as postgres_connection
from livingai.testing import make_row
from livingai.testing.rows import commit, contents
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres_servers import PostgresServer
from tests.support.postgres_stores import rows
from tests.support.waiting import joined, until

pytestmark = pytest.mark.postgres


@contextmanager
def locked(server: PostgresServer, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session that holds a lock."""
    with psycopg.connect(server.url()) as other:
        other.execute(statement.encode())
        yield other
        other.rollback()


class Background(threading.Thread):
    """A commit in a thread of its own; :meth:`result` gives its results or raises its error."""

    def __init__(self, store: PostgresStore, batch: list[Any]) -> None:
        super().__init__()
        self._store, self._batch = store, batch
        self._error: BaseException | None = None
        self._results: list[Any] = []
        self.start()

    def run(self) -> None:
        try:
            self._results = self._store.commit(self._batch)
        except BaseException as error:
            self._error = error

    def result(self) -> list[Any]:
        joined(self, timeout=60)
        assert not self.is_alive(), "the commit is stuck"
        if self._error is not None:
            raise self._error
        return self._results


def waiting_backend(admin: psycopg.Connection[Any]) -> int:
    """The process id of a backend of ours that waits for a lock."""

    def look() -> int:
        found = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
            "application_name = 'livingai'"
        ).fetchone()
        return found[0] if found else 0

    return until(look, what="a backend that waits for a lock")


def test_terminated_in_mid_batch(
    store: PostgresStore, server: PostgresServer, admin: psycopg.Connection[Any], schema: str
) -> None:
    commit(store, rows(2))
    before = contents(store)
    with locked(server, f"SELECT 1 FROM {schema}.executions FOR UPDATE"):
        commits = Background(store, rows())
        admin.execute("SELECT pg_terminate_backend(%s)", (waiting_backend(admin),))
        with pytest.raises(StoreUnavailableError):
            commits.result()
    assert contents(store) == before
    commit(store, rows())
    assert len(list(store.nodes("run"))) == 5


def test_terminated_in_mid_commit(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    """The server is inside COMMIT (a deferred trigger waits there) when the session ends."""
    admin.execute(
        f"CREATE FUNCTION {schema}.hold() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$".encode()
    )
    admin.execute(
        f"CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON {schema}.nodes DEFERRABLE "
        f"INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.hold()".encode()
    )
    admin.execute("SELECT pg_advisory_lock(4711)")
    commits = Background(store, rows())
    admin.execute("SELECT pg_terminate_backend(%s)", (waiting_backend(admin),))
    with pytest.raises(StoreUnavailableError):
        commits.result()
    admin.execute("SELECT pg_advisory_unlock(4711)")
    assert store.list_executions() == []
    commit(store, rows())


def test_answer_to_commit_is_lost(server: PostgresServer, schema: str) -> None:
    """The batch is stored, and its answer is lost: committed again it changes nothing."""
    with CuttingProxy(server.port) as proxy:
        url = server.tcp_url().replace(str(server.port), str(proxy.port))
        with PostgresStore(url, schema=schema) as store:
            commit(store, rows(1))
            proxy.lose(b"SELECT 1\0")  # the answer to a commit or claim
            with pytest.raises(StoreUnavailableError):
                store.commit(rows())
            assert proxy.lost.is_set()
            before = contents(store)
            assert len(before["nodes run"]) == 5, "it was not stored"
            assert commit(store, rows()) == [1] * 5
            assert contents(store) == before
            # And a claim: the same one again.
            proxy.lose(b"SELECT 1\0")  # the answer to a commit or claim
            with pytest.raises(StoreUnavailableError):
                store.claim("run", "next")
            assert store.claim("run", "next") == 2
            with pytest.raises(FencedError):
                store.claim("run", "claim-a")


def test_deadlock(
    store: PostgresStore, server: PostgresServer, admin: psycopg.Connection[Any], schema: str
) -> None:
    commit(store, [make_row("a"), make_row("b")])
    line = f"SELECT 1 FROM {schema}.executions WHERE execution_id = %s FOR UPDATE".encode()
    batch = [make_row("a", 1), make_row("b", 1)]
    with psycopg.connect(server.url()) as other:
        other.execute("SET deadlock_timeout = '1min'")  # so that ours is the one that is ended
        other.execute(line, ("b",))
        commits = Background(store, batch)
        waiting_backend(admin)
        other.execute(line, ("a",))
        with pytest.raises(StoreUnavailableError, match="deadlock"):
            commits.result()
        other.rollback()
    commit(store, batch)


def test_statement_timeout(server: PostgresServer, store: PostgresStore, schema: str) -> None:
    commit(store, rows(1))
    short = PostgresStore(server.url(), schema=schema, statement_timeout_ms=100)
    with short, locked(server, f"LOCK TABLE {schema}.nodes"):
        for work in (lambda: short.commit(rows()), lambda: list(short.nodes("run"))):
            with pytest.raises(StoreUnavailableError, match="statement_timeout"):
                work()
    with short:
        commit(short, rows())


def test_too_many_connections(schema: str) -> None:
    with PostgresServer(max_connections=6, max_wal_senders=0) as server:
        taken = [psycopg.connect(server.url()) for _ in range(6)]
        with pytest.raises(StoreUnavailableError, match=r"too many|reserved"):
            PostgresStore(server.url()).open()
        for connection in taken:
            connection.close()
        store = PostgresStore(server.url())
        until(lambda: _opens(store), what="a free connection")
        commit(store, rows())
        store.close()


def _opens(store: PostgresStore) -> bool:
    try:
        store.open()
    except StoreUnavailableError:
        return False
    return True


def test_silent_server(
    store: PostgresStore, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch,
    server: PostgresServer, schema: str,
) -> None:  # fmt: skip
    """A server that is stopped (or cut off) and cannot even cancel is given up, too."""
    monkeypatch.setattr(postgres_connection, "GRACE_S", 0.2)
    hasty = PostgresStore(server.url(), schema=schema, statement_timeout_ms=100)
    hasty.open()
    (backend,) = admin.execute(
        "SELECT max(pid) FROM pg_stat_activity WHERE application_name = 'livingai' AND "
        "backend_start = (SELECT max(backend_start) FROM pg_stat_activity WHERE "
        "application_name = 'livingai')"
    ).fetchone() or (0,)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError, match="not answered in time"):
            hasty.commit(rows())
        commit(hasty, rows())  # on a new connection
    finally:
        os.kill(backend, signal.SIGCONT)
        hasty.close()


def test_the_server_looks_whether_our_machine_is_still_there(server: PostgresServer) -> None:
    """What that is for: tests/integration/stores/test_dead_host.py."""
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    with PostgresStore(server.tcp_url(), schema="looked_after") as store:
        session = store._connected().session
        found = [session.read(f"SHOW {name}")[0][0] for name in names]
    assert found == ["10", "5", "3"]


def test_crash_restart(postgres: PostgresServer) -> None:
    """kill -9 of a backend: the server throws everyone out, recovers, and has what it promised."""
    with PostgresStore(postgres.url()) as store:
        commit(store, rows())
        before = contents(store)
        with psycopg.connect(postgres.url(), autocommit=True) as other:
            backend = other.info.backend_pid
            os.kill(backend, signal.SIGKILL)
            until(lambda: _is_cut_off(store), what="the crash restart")
        until(lambda: _reads(store), what="recovery", timeout=30)
        assert contents(store) == before
        postgres.kill()
        with pytest.raises(StoreUnavailableError):
            store.commit(rows(7))
        postgres.start()
        assert contents(store) == before
        commit(store, rows(7))


def _is_cut_off(store: PostgresStore) -> bool:
    return not _reads(store)


def _reads(store: PostgresStore) -> bool:
    try:
        store.list_executions()
    except StoreUnavailableError:
        return False
    return True


def test_schema_that_was_dropped_is_made_again(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    commit(store, rows())
    admin.execute(f"DROP SCHEMA {schema} CASCADE".encode())
    with pytest.raises(StoreUnavailableError, match="made again"):
        store.commit(rows())
    commit(store, rows())


def test_fork(store: PostgresStore) -> None:
    commit(store, rows(1))
    pid = os.fork()
    if pid == 0:
        try:
            store.list_executions()
        except StoreError as error:
            store.close()
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    commit(store, rows())
