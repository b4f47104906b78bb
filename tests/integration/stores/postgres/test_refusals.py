"""A PostgreSQL server or a schema that cannot be used, and a single row that is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import psycopg
import pytest

from livingai.errors import (
    ConfigurationError,
    StoreAuthenticationError,
    StoreError,
    StoreFormatError,
    StoreMissingError,
    StoreUnavailableError,
)
from livingai.node import NodeField
from livingai.stores.postgres import PostgresStore
from livingai.stores.postgres.schema import SCHEMA_VERSION
from livingai.testing import make_row
from livingai.testing.rows import REFUSED, STORED, commit, state, statuses
from tests.support.postgres_servers import PASSWORD, PostgresServer
from tests.support.postgres_stores import rows
from tests.support.waiting import joined, until

pytestmark = pytest.mark.postgres

# -- bad input --


def test_wrong_password(server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    for wrong in ("wrong%20s3cret", "wrong-s3cret"):
        store = PostgresStore(server.tcp_url(password=wrong))
        store.validate()
        with pytest.raises(StoreAuthenticationError, match="password") as caught:
            store.open()
        assert "s3cret" not in f"{caught.value}{caplog.text}{store!r}"
        assert isinstance(caught.value, PermissionError)
    with PostgresStore(server.tcp_url(), schema="by_password") as store:
        commit(store, rows(1))
        assert PASSWORD not in store.url


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_what_the_url_says_reaches_the_server(server: PostgresServer, level: str) -> None:
    """A space is %20, a plus is a plus; and any isolation level will do, two writers at once."""
    options = f"-c%20default_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
    url = f"{server.url()}&options={options}&application_name=my+own%20agent"
    name = f"level_{len(level)}"
    with PostgresStore(url, schema=name) as one, PostgresStore(url, schema=name) as other:
        assert isinstance(one, PostgresStore)
        assert one._connected().session.read(
            "SELECT current_setting('application_name'), current_setting('transaction_isolation')"
        ) == [("my+own agent", level)]

        def write(store: PostgresStore, first: int) -> None:
            for seq in range(first, 60, 2):
                batch = [make_row("shared", seq, blob=state(str(seq))), make_row(str(first), seq)]
                until(lambda b=batch: _committed(store, b), what="a batch that is stored")  # type: ignore[misc]

        thread = threading.Thread(target=write, args=(other, 1))
        thread.start()
        write(one, 0)
        joined(thread, timeout=60)
        assert [node.seq for node in one.nodes("shared")] == list(range(60))
        assert sum(1 for _ in one.checkpoints("shared")) == 60


def _committed(store: PostgresStore, batch: list[Any]) -> bool:
    try:
        return statuses(store, batch) == [STORED, STORED]
    except StoreUnavailableError:
        return False  # as the service does: again


def test_unknown_user_and_missing_database(server: PostgresServer) -> None:
    with pytest.raises(StoreAuthenticationError):
        PostgresStore(server.tcp_url(user="nobody_knows")).open()
    with pytest.raises(StoreMissingError, match="CREATE DATABASE"):
        PostgresStore(server.url("no_such_database")).open()


def test_missing_rights(server: PostgresServer, admin: psycopg.Connection[Any]) -> None:
    admin.execute("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    poor = server.tcp_url(user="poor", password="poor")
    with pytest.raises(StoreAuthenticationError, match="GRANT"):
        PostgresStore(poor, schema="not_mine").open()
    admin.execute("CREATE SCHEMA given AUTHORIZATION poor")
    with PostgresStore(poor, schema="given") as store:
        commit(store, rows())


def test_roles_with_the_rights_of_others(
    store: PostgresStore, server: PostgresServer, admin: psycopg.Connection[Any], schema: str
) -> None:
    """Who may write or read nodes may note and read that some were removed, though the table for
    that is made later, and by another role."""
    commit(store, [make_row("run", seq, node_id=f"run/{seq}") for seq in range(4)])
    for role, rights in (('"a writer"', "ALL"), ("reader", "SELECT")):
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}".encode())
        admin.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}".encode())
    with (
        PostgresStore(server.tcp_url(user="a%20writer", password="x"), schema=schema) as writer,
        PostgresStore(server.tcp_url(user="reader", password="x"), schema=schema) as reader,
    ):
        with pytest.raises(StoreAuthenticationError, match="GRANT"):
            writer.drop_nodes("run", ["run/0"])  # it may make no table
        assert store.drop_nodes("run", ["run/0"]).nodes == 1
        upto = store.dropped_upto("run")
        assert upto is not None
        assert reader.dropped_upto("run") == upto
        assert writer.drop_nodes("run", ["run/1"]).nodes == 1
        assert writer.delete_execution("run") == 2
        assert reader.dropped_upto("run") is None


def test_newer_schema(
    store: PostgresStore, server: PostgresServer, admin: psycopg.Connection[Any], schema: str
) -> None:
    admin.execute(f"UPDATE {schema}.livingai SET version = {SCHEMA_VERSION + 1}".encode())
    with pytest.raises(StoreFormatError, match="upgrade livingai"):
        PostgresStore(server.url(), schema=schema).open()


def test_foreign_tables_are_not_touched(
    server: PostgresServer, admin: psycopg.Connection[Any], schema: str
) -> None:
    admin.execute(f"CREATE SCHEMA {schema}".encode())
    admin.execute(f"CREATE TABLE {schema}.nodes (mine text)".encode())
    with pytest.raises(StoreFormatError, match="something else"):
        PostgresStore(server.url(), schema=schema).open()
    found = admin.execute("SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND "
                          "relkind = 'r'", (schema,)).fetchall()  # fmt: skip
    assert found == [("nodes",)], "half a schema was made"


def test_database_of_another_encoding(
    server: PostgresServer, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreFormatError, match="UTF8"):
        PostgresStore(server.url("latin")).open()


def test_no_server() -> None:
    store = PostgresStore("postgresql://127.0.0.1:1/db", connect_timeout_s=2)
    store.validate()
    with pytest.raises(StoreUnavailableError):
        store.commit(rows())


def test_an_agent_imports_no_driver() -> None:
    code = (
        "import sys; from livingai.stores.postgres.store import PostgresStore;"
        "s = PostgresStore('postgresql://db/x'); s.validate(); s.spec(); s.default_directory();"
        "assert not [m for m in sys.modules if 'psycopg' in m]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("psycopg", "livingai.stores.postgres.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"livingai\[postgres\]"):
        PostgresStore("postgresql://db/x").open()


# -- one row --


def test_row_that_the_server_refuses(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    admin.execute(f"ALTER TABLE {schema}.nodes ADD CHECK (status <> 'failed')".encode())
    batch = rows(3)
    batch[1].wire[NodeField.STATUS] = "failed"
    assert statuses(store, batch) == [STORED, REFUSED, STORED]
    assert "23514" in store.commit(batch)[1].reason
    assert [node.seq for node in store.nodes("run")] == [0, 2]


def test_a_row_is_stored_without_a_column_that_the_server_refuses(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    check = f"ALTER TABLE {schema}.nodes ADD CHECK (input IS DISTINCT FROM '\"odd\"'::jsonb)"
    admin.execute(check.encode())
    commit(store, [make_row(seq=0), make_row(seq=1, input="odd"), make_row(seq=2)])
    found = store.load_node("run/1")
    assert found is not None
    assert found.wire[NodeField.INPUT] == "odd"


def test_ids_beyond_the_limit(store: PostgresStore) -> None:
    long = "x" * 3000
    batch = [make_row(), make_row(seq=1, node_id=long), make_row(long), make_row(seq=2)]
    assert statuses(store, batch) == [STORED, REFUSED, REFUSED, STORED]
    with pytest.raises(StoreError):
        store.claim("a\ud800", "claim")
