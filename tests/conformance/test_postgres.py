"""PostgreSQL against the store contract, on the oldest and newest version that the wheel has, and
on the server of ``LIVINGAI_TEST_POSTGRES_URL`` if there is one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from livingai.stores.base import Row, Store
from livingai.stores.postgres import PostgresStore
from livingai.stores.postgres.rows import key
from livingai.testing import StoreConformance, store_machine
from livingai.testing.conformance import Part
from tests.support import postgres_servers
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres_servers import shared_server, shared_url

pytestmark = pytest.mark.postgres

GET = {
    "node": "SELECT wire FROM {s}.nodes WHERE execution_id = %s AND node_id = %s",
    "blob": "SELECT blob FROM {s}.checkpoints WHERE execution_id = %s AND node_id = %s",
}
SET = {
    "node": "UPDATE {s}.nodes SET wire = %s WHERE execution_id = %s AND node_id = %s",
    "blob": "UPDATE {s}.checkpoints SET blob = %s WHERE execution_id = %s AND node_id = %s",
}


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """A machine without PostgreSQL skips here, once and visibly."""
    shared_url()


def schema(directory: Path) -> str:
    return f"t{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"


class Conformance(StoreConformance):
    def server_url(self) -> str:
        return shared_url()

    def make_store(self, tmp_path: Path) -> Store:
        return PostgresStore(self.server_url(), schema=schema(tmp_path), statement_timeout_ms=2000)

    @contextmanager
    def raw(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.raw_url(), autocommit=True) as connection:
            yield connection

    def raw_url(self) -> str:
        return self.server_url()

    @pytest.fixture(autouse=True)
    def _raw_connection(self) -> Iterator[None]:
        with self.raw() as self.connection:
            yield

    def raw_get(self, tmp_path: Path, part: Part, row: Row) -> bytes:
        names = (key(row.execution_id), key(row.node_id))
        query = GET[part].format(s=schema(tmp_path)).encode()
        ((data,),) = self.connection.execute(query, names).fetchall()
        assert isinstance(data, bytes)
        return data

    def raw_set(self, tmp_path: Path, part: Part, row: Row, data: bytes) -> None:
        names = (key(row.execution_id), key(row.node_id))
        query = SET[part].format(s=schema(tmp_path)).encode()
        assert self.connection.execute(query, (data, *names)).rowcount == 1

    @contextmanager
    def unavailable(self, tmp_path: Path) -> Iterator[None]:
        with self.raw() as other, other.transaction():
            other.execute(f"LOCK TABLE {schema(tmp_path)}.executions".encode())
            yield


class TestPostgres18(Conformance):
    pass


class TestPostgres16(Conformance):
    def server_url(self) -> str:
        return shared_url(16)


class TestPostgresThroughPgBouncer(Conformance):
    """In transaction mode: whatever one session left behind, another one meets."""

    bouncer: PgBouncer

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _bouncer(cls) -> Iterator[None]:
        with PgBouncer(shared_server()) as cls.bouncer:
            yield

    def server_url(self) -> str:
        return self.bouncer.url()

    def raw_url(self) -> str:
        return shared_url()


if postgres_servers.URL:

    class TestPostgresElsewhere(Conformance):
        def server_url(self) -> str:
            assert postgres_servers.URL
            return postgres_servers.URL

        @pytest.fixture(autouse=True)
        def _leave_nothing(self, tmp_path: Path) -> Iterator[None]:
            yield
            with self.raw() as connection:
                connection.execute(f"DROP SCHEMA IF EXISTS {schema(tmp_path)} CASCADE".encode())


def make_store(directory: Path) -> PostgresStore:
    return PostgresStore(shared_url(), schema=schema(directory))


TestPostgresMachine = store_machine(make_store).TestCase
TestPostgresMachine.settings = settings(max_examples=15, stateful_step_count=25)
