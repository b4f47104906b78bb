"""PostgreSQL when things go wrong: each trouble has its class, and the batch can be sent again."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from livingai.errors import (
    ConfigurationError,
    FencedError,
    StoreAuthenticationError,
    StoreError,
    StoreFormatError,
    StoreMissingError,
    StoreUnavailableError,
)
from livingai.stores.base import RowStatus
from livingai.stores.postgres import PostgresStore
from livingai.stores.postgres import connection as postgres_connection
from livingai.stores.postgres.schema import SCHEMA_VERSION
from livingai.testing import make_row
from livingai.testing.rows import REFUSED, STORED, commit, contents, state, statuses
from tests.support.agents import ROOT
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres_servers import PASSWORD, PostgresServer, shared_url
from tests.support.waiting import until

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    shared_url()  # skips where there is no PostgreSQL
    with PostgresServer(log_statement="none") as server:
        yield server


@pytest.fixture
def admin(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def schema(request: pytest.FixtureRequest, admin: psycopg.Connection[Any]) -> Iterator[str]:
    name = f"s_{abs(hash(request.node.name)) % 10**12}"
    yield name
    admin.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


@pytest.fixture
def store(server: PostgresServer, schema: str) -> Iterator[PostgresStore]:
    with PostgresStore(server.url(), schema=schema) as store:
        assert isinstance(store, PostgresStore)
        yield store


def rows(count: int = 5, execution_id: str = "run", **more: Any) -> list[Any]:
    return [
        make_row(execution_id, seq, blob=state(f"{execution_id} {seq}"), **more)
        for seq in range(count)
    ]


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
        self.join(60)
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
        thread.join(60)
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
        if name.startswith(("psycopg", "livingai.stores.postgres_")):
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
    batch[1].wire[3] = "failed"
    assert statuses(store, batch) == [STORED, REFUSED, STORED]
    assert "23514" in store.commit(batch)[1].reason
    assert [node.seq for node in store.nodes("run")] == [0, 2]


def test_what_cannot_be_shown_is_stored(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    check = f"ALTER TABLE {schema}.nodes ADD CHECK (input IS DISTINCT FROM '\"odd\"'::jsonb)"
    admin.execute(check.encode())
    commit(store, [make_row(seq=0), make_row(seq=1, input="odd"), make_row(seq=2)])
    found = store.load_node("run/1")
    assert found is not None
    assert found.wire[9] == "odd"


def test_ids_beyond_the_limit(store: PostgresStore) -> None:
    long = "x" * 3000
    batch = [make_row(), make_row(seq=1, node_id=long), make_row(long), make_row(seq=2)]
    assert statuses(store, batch) == [STORED, REFUSED, REFUSED, STORED]
    with pytest.raises(StoreError):
        store.claim("a\ud800", "claim")


# -- the connection --


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
    """The batch is stored, and nobody knows: sent again it changes nothing."""
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


# -- many writers --


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
        thread.join(100)
        assert not thread.is_alive()


# -- what is in the tables --


def test_columns_are_for_people(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    row = make_row(
        "a\0b", blob=state("x" * 5000), input={"text": "a\0b \ud800 \1"}, metadata={"name": "n\0"}
    )
    commit(store, [row])
    ((execution_id, text, name),) = admin.execute(
        f"SELECT execution_id, input->>'text', name FROM {schema}.nodes".encode()
    ).fetchall()
    assert (execution_id, name) == ("a\1\1b", "n\1\1")
    assert text == "a\1\1b \\ud800 \1\2"
    ((storage,),) = admin.execute(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'blob'",
        (f"{schema}.checkpoints",),
    ).fetchall()
    assert storage in ("e", b"e")
    for view in ("runs", "steps", "states"):
        assert len(admin.execute(f"SELECT * FROM {schema}.{view}".encode()).fetchall()) == 1


def test_odd_times_do_not_break_views(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    row = make_row()
    row.saved_at = 1e300
    row.wire[5] = -1e300
    commit(store, [row])
    assert admin.execute(f"SELECT updated FROM {schema}.runs".encode()).fetchall() == [(None,)]
    assert [line.group for line in store.costs(group="day")] == [""]


# -- docs/STORES.md --

DOCS = (ROOT / "docs" / "STORES.md").read_text()


def test_documented_queries_run(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    metadata = {"framework": "langgraph", "name": "search"}
    commit(store, [make_row("run-1", blob=state("s"), metadata=metadata, cost_tokens=7)])
    queries = re.findall(r"```postgresql\n(.*?)```", DOCS, flags=re.DOTALL)
    assert len(queries) >= 8
    admin.execute(f"SET search_path TO {schema}".encode())
    answers = [admin.execute(query.encode()).fetchall() for query in queries]
    assert answers[0][0][:4] == ("run-1", "success", 1, 1)
    assert answers[2] == [("run-1",)]
    assert answers[3][0][1:4] == ("search", 1, 7)


def test_documented_columns_and_settings(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    """The tables are SQLite's, but for what the documentation says."""
    found: dict[str, set[str]] = {}
    for table, column in admin.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
        "AND table_name IN ('executions', 'owners', 'nodes', 'checkpoints')", (schema,)
    ):  # fmt: skip
        found.setdefault(table, set()).add(column)
    documented = {
        section.split("`")[1]: set(re.findall(r"^\| `(\w+)` \| [A-Z]+ \|", section, flags=re.M))
        for section in re.split(r"^#### ", DOCS.partition("## PostgreSQL")[0], flags=re.M)[1:]
    }
    assert found["executions"] == documented["executions"] | {"owner_epoch", "owner_claim"}
    assert found["owners"] == documented["owners"]
    assert found["nodes"] == documented["nodes"]
    assert found["checkpoints"] == documented["checkpoints"] - {"blob_id"} | {"blob"}
    section = DOCS.partition("## PostgreSQL")[2].partition("### Asking")[0]
    defaults = dict(re.findall(r"^\| `(\w+)` \| `?(\S+?)`? \|", section, flags=re.M))
    plain = PostgresStore("postgresql://db/x").spec().kwargs
    assert defaults == {name: str(value) for name, value in plain.items() if name != "url"}
    assert f"schema: **{SCHEMA_VERSION}**" in DOCS.partition("## PostgreSQL")[2]
