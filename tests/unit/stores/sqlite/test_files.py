"""SQLite files that cannot be used, that others use, too, or that change under us."""

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai.errors import (
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite import schema as sqlite_schema
from livingai.stores.sqlite.file import connect
from livingai.testing.rows import (
    commit,
    make_row,
)
from tests.support.agents import ROOT
from tests.support.patience import Deadline, patience
from tests.support.sqlite import python, raw
from tests.support.waiting import ended

# -- files that cannot be used -------------------------------------------------------------------


def each_way(store: SQLiteStore) -> list[Callable[[], object]]:
    return [store.validate, store.open, lambda: store.commit([make_row()])]


@pytest.mark.parametrize("content", [b"not a database", b"x" * 70_000, b"SQLite format 3\0" * 9])
def test_not_a_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for use in each_way(SQLiteStore(path)):
        with pytest.raises(StoreFormatError, match=re.escape(str(path))):
            use()
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_empty_file_is_a_fresh_database(path: Path) -> None:
    path.touch()
    store = SQLiteStore(path)
    store.validate()
    with store:
        commit(store, [make_row()])


def test_newer_schema(path: Path) -> None:
    with SQLiteStore(path) as store:
        commit(store, [make_row()])
    raw(path, f"PRAGMA user_version = {sqlite_schema.SCHEMA_VERSION + 1}")
    for use in each_way(SQLiteStore(path)):
        with pytest.raises(StoreFormatError, match="upgrade livingai"):
            use()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE nodes (x)",
        "CREATE VIEW runs AS SELECT 1",
        "CREATE TABLE mine (x); PRAGMA user_version = 3",
        "CREATE TABLE mine (x); PRAGMA application_id = 17",
    ],
)
def test_foreign_database_is_refused_and_left_as_it_is(path: Path, sql: str) -> None:
    raw(path, sql)
    before = path.read_bytes()
    for use in each_way(SQLiteStore(path)):
        with pytest.raises(StoreFormatError, match="a file of its own"):
            use()
    assert path.read_bytes() == before


def test_foreign_tables_that_do_not_clash_are_kept(path: Path) -> None:
    raw(path, "CREATE TABLE mine (x); INSERT INTO mine VALUES (5)")
    with SQLiteStore(path) as store:
        commit(store, [make_row()])
    assert raw(path, "SELECT x, (SELECT count(*) FROM nodes) FROM mine") == [(5, 1)]


def test_damaged_file_says_so(path: Path) -> None:
    with SQLiteStore(path) as store:
        commit(store, [make_row(seq=seq, output="x" * 3000) for seq in range(200)])
    content = bytearray(path.read_bytes())
    size = sqlite_schema.PAGE_BYTES
    content[size : 12 * size] = os.urandom(11 * size)
    path.write_bytes(content)
    with SQLiteStore(path) as store, pytest.raises(StoreFormatError, match="damaged"):
        store.commit([make_row(seq=500)])


def test_a_writer_finds_damage_behind_its_back(path: Path) -> None:
    with SQLiteStore(path) as store, SQLiteStore(path) as other:
        store.examine()
        commit(store, [make_row(seq=seq, output="x" * 3000) for seq in range(200)])
        with open(f"{path}-wal", "r+b", buffering=0) as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(32)
            log.write(os.urandom(size - 32))
        commit(store, [make_row(seq=500)])  # it has the pages in memory
        with pytest.raises(StoreFormatError, match="damaged"):
            store.examine()
        with pytest.raises(StoreFormatError, match="damaged"):
            list(other.nodes("run"))


def test_missing_directory(tmp_path: Path) -> None:
    for use in each_way(SQLiteStore(tmp_path / "no" / "agent.db"))[:2]:
        with pytest.raises(StoreError, match="does not exist"):
            use()
    with pytest.raises(StoreUnavailableError, match="does not exist"):
        SQLiteStore(tmp_path / "no" / "agent.db").commit([make_row()])


def test_directory_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a regular file"):
        SQLiteStore(tmp_path).open()


@pytest.mark.parametrize("what", ["directory", "file"])
def test_read_only(tmp_path: Path, what: str) -> None:
    """As another user if we are root, because for root nothing is read-only."""
    path = tmp_path / "db" / "agent.db"
    path.parent.mkdir()
    with SQLiteStore(path) as store:
        commit(store, [make_row()])
    os.chmod(path.parent, 0o555 if what == "directory" else 0o777)
    os.chmod(path, 0o666 if what == "directory" else 0o444)
    for parent in path.parents[1:]:
        if os.geteuid() == 0 and Path(tempfile.gettempdir()) in parent.parents:
            os.chmod(parent, 0o755)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            for use in each_way(SQLiteStore(path))[:2]:
                try:
                    use()
                except StoreError as error:
                    code = 0 if "not writable" in str(error) else 2
                else:
                    code = 3
                    break
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    os.chmod(path.parent, 0o755)
    assert os.waitstatus_to_exitcode(status) == 0


# -- locks and connections -----------------------------------------------------------------------


def test_foreign_lock_is_waited_for_within_the_busy_timeout(store: SQLiteStore, path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        for use in (
            lambda: store.commit([make_row()]),
            lambda: store.claim("run", "claim"),
            lambda: store.delete_execution("run"),
        ):
            start, deadline = time.monotonic(), Deadline(2)
            with pytest.raises(StoreUnavailableError, match="locked"):
                use()
            assert time.monotonic() - start > 0.09
            assert deadline.left()
        assert store.list_executions() == [], "reading needs no lock"
        store.validate()
        other.execute("COMMIT")
    commit(store, [make_row()])


def test_lock_released_in_time(path: Path) -> None:
    with (
        SQLiteStore(path, busy_timeout_ms=30_000) as store,
        closing(apsw.Connection(str(path))) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.1, other.execute, ["COMMIT"])
        timer.start()
        commit(store, [make_row()])
        timer.join()


def test_exclusively_locked_file_at_open(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("CREATE TABLE mine (x); BEGIN EXCLUSIVE")
        store = SQLiteStore(path, busy_timeout_ms=50)
        store.validate()  # nothing is known against it
        with pytest.raises(StoreUnavailableError):
            store.open()


@pytest.mark.parametrize("moment", ["user_version", "sqlite_master"])
def test_a_schema_that_is_made_while_it_is_looked_for(path: Path, moment: str) -> None:
    """What is looked at is one snapshot: half of a schema would be another application's."""
    connection = connect(str(path), 1000)
    connection.pragma("journal_mode", "wal")
    made = False

    def meanwhile(_cursor: object, sql: str, _bindings: object) -> bool:
        nonlocal made
        if moment in sql and not made:
            made = True
            with SQLiteStore(path):
                pass
        return True

    connection.exec_trace = meanwhile
    try:
        assert sqlite_schema.schema_version(connection, str(path)) == 0
        assert made
        assert sqlite_schema.schema_version(connection, str(path)) == sqlite_schema.SCHEMA_VERSION
    finally:
        connection.close()


def test_many_processes_create_one_database(path: Path) -> None:
    code = """
import sys
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row
sys.stdin.readline()
with SQLiteStore(sys.argv[1], busy_timeout_ms=30_000) as store:
    for seq in range(20):
        commit(store, [make_row("run-" + sys.argv[2], seq), make_row("all", seq, claim="c")])
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, str(number)],
            cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(8)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        assert worker.communicate(timeout=patience(60))[1] == ""
        assert worker.returncode == 0
    with SQLiteStore(path) as store:
        assert [info.nodes for info in store.list_executions()] == [20] * 9


def test_schema_that_another_process_makes_at_the_same_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = sqlite_schema.schema_version
    looks: list[int] = []

    def look_before_it_is_there(connection: apsw.Connection, at: str) -> int:
        looks.append(look(connection, at))
        if len(looks) == 1:  # before the lock is taken
            with monkeypatch.context() as context:
                context.setattr(sqlite_schema, "schema_version", look)
                with SQLiteStore(path) as first:
                    commit(first, [make_row()])
        return looks[-1]

    monkeypatch.setattr(sqlite_schema, "schema_version", look_before_it_is_there)
    with SQLiteStore(path) as second:
        assert looks == [0, sqlite_schema.SCHEMA_VERSION]
        assert len(second.list_executions()) == 1


def test_connection_is_not_used_after_a_fork(store: SQLiteStore) -> None:
    commit(store, [make_row()])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                store.commit([make_row(seq=1)])
            except StoreError as error:
                code = 0 if "fork" in str(error) else 2
            store.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    commit(store, [make_row(seq=2)])
    assert sum(1 for _ in store.nodes("run")) == 2


def test_validate_leaves_a_file_alone_that_this_process_has_open(path: Path) -> None:
    """The standard library's connection would lose its lock, and two could write at once."""
    with SQLiteStore(path) as store:
        commit(store, [make_row()])
    with closing(sqlite3.connect(path)) as mine:
        mine.execute("BEGIN IMMEDIATE")
        SQLiteStore(path).validate()
        code = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""
        assert "locked" in python(code, path)


# -- files that change under us ------------------------------------------------------------------


@pytest.mark.parametrize("gone", [["-wal", "-shm"], ["-wal"], ["-shm"]])
def test_log_removed_under_two_connections(path: Path, gone: list[str]) -> None:
    reader_code = """
import sys
from livingai.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
for _ in sys.stdin:
    print(sum(1 for _ in store.nodes("run")), flush=True)
"""
    reader = subprocess.Popen(
        [sys.executable, "-c", reader_code, path],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def ask() -> int:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("?\n")
        reader.stdin.flush()
        return int(reader.stdout.readline())

    with SQLiteStore(path) as store:
        commit(store, [make_row(seq=seq) for seq in range(10)])
        assert ask() == 10
        for suffix in gone:
            os.unlink(f"{path}{suffix}")
        commit(store, [make_row(seq=10)])
        assert ask() == 11
        for suffix in gone:
            os.unlink(f"{path}{suffix}")
        assert ask() == 11, "the reader noticed first"
        commit(store, [make_row(seq=11)])
        assert ask() == sum(1 for _ in store.nodes("run")) == 12
    assert reader.stdin is not None
    reader.stdin.close()
    assert ended(reader) == 0
    assert reader.stdout is not None
    reader.stdout.close()
    assert raw(path, "PRAGMA integrity_check") == [("ok",)]


def test_database_removed_under_a_connection(store: SQLiteStore, path: Path) -> None:
    commit(store, [make_row(seq=0)])
    path.unlink()
    commit(store, [make_row("new", seq=1)])
    store.close()
    with SQLiteStore(path) as again:
        assert [info.execution_id for info in again.list_executions()] == ["new"]


def test_io_error_is_transient_and_the_file_is_opened_anew(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, [make_row(seq=0)])
    connection = store._file._connection

    def fail(_: object) -> None:
        raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR_FSYNC"):
        store._file.transaction(fail)
    with pytest.raises(StoreUnavailableError, match="full"):
        store._file.transaction(lambda _: (_ for _ in ()).throw(apsw.FullError("disk full")))
    commit(store, [make_row(seq=1)])
    assert store._file._connection is not connection
    assert sum(1 for _ in store.nodes("run")) == 2
