"""PostgreSQL behind a real PgBouncer in transaction mode, with fewer connections than clients."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from livingai.errors import StoreUnavailableError
from livingai.stores.postgres import PostgresStore
from livingai.testing import make_row
from livingai.testing.rows import STORED, commit, contents, state, statuses
from tests.support.patience import patience
from tests.support.pgbouncer import PgBouncer
from tests.support.place import Place
from tests.support.postgres_servers import PostgresServer, shared_url
from tests.support.waiting import until

pytestmark = pytest.mark.postgres
CLIENTS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    shared_url()  # skips where there is no PostgreSQL
    with PostgresServer() as server:
        yield server


@pytest.fixture
def bouncer(server: PostgresServer) -> Iterator[PgBouncer]:
    with PgBouncer(server) as bouncer:
        yield bouncer


def test_clients_race_for_a_new_schema_and_write_more_than_there_are_connections(
    bouncer: PgBouncer, server: PostgresServer
) -> None:
    """The lock of the migration belongs to a transaction, so the session that gets its
    connection next is not blocked by it."""

    def client(number: int) -> None:
        with PostgresStore(bouncer.url(), schema="raced") as store:
            for seq in range(20):
                batch = [make_row(f"run-{number}", seq, blob=state(str(seq)))]
                batch.append(make_row("shared", number * 100 + seq))
                assert statuses(store, batch) == [STORED, STORED]

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    with PostgresStore(server.url(), schema="raced") as store:
        found = {info.execution_id: info for info in store.list_executions()}
        assert found["shared"].nodes == CLIENTS * 20
        assert all(found[f"run-{n}"].checkpoints == 20 for n in range(CLIENTS))


def test_settings_do_not_leak_into_other_sessions(server: PostgresServer) -> None:
    with (
        PgBouncer(server, default_pool_size=1) as bouncer,
        PostgresStore(
            bouncer.url(), schema="leak", synchronous_commit="off", statement_timeout_ms=1234
        ) as store,
        psycopg.connect(bouncer.url(), autocommit=True, prepare_threshold=None) as other,
    ):
        ours = [make_row(f"run-{number}", blob=state("x")) for number in range(3)]
        bad = make_row("run-9", seq=-1)
        store.commit([*ours, bad])
        store.claim("run-1", "next")
        assert store.delete_execution("run-2") == 1
        for name in ("synchronous_commit", "statement_timeout"):
            ((found,),) = other.execute(f"SHOW {name}".encode()).fetchall()
            assert found not in ("off", "1234ms"), name
        set_here = "SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE 'tcp%'"
        assert other.execute(set_here).fetchall() == []
        assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                             ).fetchone() == (0,)  # fmt: skip


def test_a_statement_that_waits_is_given_up_and_its_connection_is_free(
    bouncer: PgBouncer, server: PostgresServer
) -> None:
    with PostgresStore(bouncer.url(), schema="slow", statement_timeout_ms=500) as store:
        commit(store, [make_row()])
        with psycopg.connect(server.url()) as other:
            other.execute("LOCK TABLE slow.executions")
            for _ in range(5):  # more than the pool has
                with pytest.raises(StoreUnavailableError):
                    store.commit([make_row(seq=1)])
            other.rollback()
        commit(store, [make_row(seq=1)])


def test_a_bouncer_killed_under_its_clients(bouncer: PgBouncer, server: PostgresServer) -> None:
    with PostgresStore(bouncer.url(), schema="killed") as store:
        commit(store, [make_row(blob=state("0"))])
        bouncer.kill()
        with pytest.raises(StoreUnavailableError):
            store.commit([make_row(seq=1, blob=state("1"))])
        with pytest.raises(StoreUnavailableError):
            contents(store)
        bouncer.start()
        commit(store, [make_row(seq=number, blob=state(str(number))) for number in range(2)])
        with PostgresStore(server.url(), schema="killed") as direct:
            assert contents(store) == contents(direct)


def test_a_whole_service_behind_it(bouncer: PgBouncer, state_dir: Place) -> None:
    """Engine, dispatcher, writers and reader."""
    from livingai import CheckpointEngine, ExecutionNode
    from livingai.errors import ExecutionNotFoundError

    store = PostgresStore(bouncer.url(), schema="service")
    with CheckpointEngine(store, directory=str(state_dir.folder / "state"), idle_s=0.2) as engine:
        receipts = [
            engine.save_sync(ExecutionNode(f"run-{number % 4}"), b"%d" % number * 500)
            for number in range(100)
        ]
        assert all(receipt.result(patience(60)).stored for receipt in receipts)
        assert engine.latest_sync("run-3")[1] == b"99" * 500
        assert engine.delete_sync("run-0") == 25
        with pytest.raises(ExecutionNotFoundError):
            engine.latest_sync("run-0")
    until(lambda: not state_dir.service_processes(), what="the end of the service", timeout=30)
