"""What is SQLite's own: bad files, locks, permissions, the log's size, the documented schema."""

import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from livingai.errors import (
    ConfigurationError,
    RecordRefusedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.stores import sqlite_file, sqlite_schema
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite_rows import JSON_BYTES, human_json
from livingai.testing.rows import (
    FENCED,
    REFUSED,
    STORED,
    commit,
    contents,
    make_row,
    state,
    statuses,
)

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "STORES.md").read_text()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(path, busy_timeout_ms=100) as store:
        yield store  # type: ignore[misc]


def raw(path: Path, sql: str, *bindings: Any) -> list[Any]:
    """Run SQL past the store. Through apsw: the standard library's SQLite, in this process, would
    drop the store's locks."""
    with closing(apsw.Connection(str(path))) as connection:
        return connection.execute(sql, bindings).fetchall()


def python(code: str, *arguments: object) -> str:
    """Run ``code`` in another process; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- identity ------------------------------------------------------------------------------------


def test_path_is_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("agent.db")
    monkeypatch.chdir("/")
    assert store.path == str(tmp_path / "agent.db")
    assert store.url == f"sqlite:///{tmp_path}/agent.db"
    assert store.url.startswith("sqlite:////")
    assert store.default_directory() == f"{tmp_path}/agent.db-livingai"
    with store:
        commit(store, [make_row()])
    assert (tmp_path / "agent.db").exists()
    assert store.spec().path == "livingai.stores.sqlite:SQLiteStore"


@pytest.mark.parametrize("bad", ["", ":memory:", "a\0b", b"bytes", "\ud800.db"])
def test_path_must_be_that_of_a_file(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        SQLiteStore(bad)


@pytest.mark.parametrize(
    "bad", [{"busy_timeout_ms": -1}, {"wal_limit_bytes": 0}, {"synchronous": "off"}]
)
def test_settings_are_checked(path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        SQLiteStore(path, **bad)


def test_building_and_importing_a_store_is_inert(path: Path) -> None:
    code = """
import sys
from livingai.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
store.spec(), store.url, store.default_directory(), store.close(), store.size_bytes()
print("apsw" in sys.modules)
"""
    assert python(code, path) == "False\n"
    assert not path.exists()


def test_what_power_loss_may_take_is_declared(path: Path) -> None:
    for synchronous, durable, value in (("normal", False, 1), ("full", True, 2)):
        store = SQLiteStore(path, synchronous=synchronous)  # type: ignore[arg-type]
        assert store.capabilities.durable is durable
        with store:
            assert store._file.read("PRAGMA synchronous", ()) == [(value,)]
            assert store._file.read("PRAGMA journal_mode", ()) == [("wal",)]


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
    """As another user if we are root, for whom nothing is read-only."""
    path = tmp_path / "db" / "agent.db"
    path.parent.mkdir()
    with SQLiteStore(path) as store:
        commit(store, [make_row()])
    os.chmod(path.parent, 0o555 if what == "directory" else 0o777)
    os.chmod(path, 0o666 if what == "directory" else 0o444)
    for parent in path.parents[1:]:
        if os.geteuid() == 0 and parent.is_relative_to(tmp_path.parents[1]):
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
            start = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="locked"):
                use()
            assert 0.09 < time.monotonic() - start < 2
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
        assert worker.communicate(timeout=60)[1] == ""
        assert worker.returncode == 0
    with SQLiteStore(path) as store:
        assert [info.nodes for info in store.list_executions()] == [20] * 9


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
    assert reader.wait(30) == 0
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


# -- the write-ahead log -------------------------------------------------------------------------


def fill(store: SQLiteStore, megabytes: int, first: int) -> int:
    for seq in range(first, first + megabytes):
        commit(store, [make_row(seq=seq, blob=os.urandom(1 << 20))])
    return first + megabytes


def test_log_stays_small(store: SQLiteStore, path: Path) -> None:
    log = Path(f"{path}-wal")
    largest = at = 0
    for _ in range(20):
        at = fill(store, 2, at)
        largest = max(largest, log.stat().st_size)
    assert largest < 2 * sqlite_file.CHECKPOINT_BYTES


def test_log_is_cut_down_after_a_long_reader(path: Path) -> None:
    log = Path(f"{path}-wal")
    limit = 8 << 20
    with (
        SQLiteStore(path, wal_limit_bytes=limit) as store,
        closing(apsw.Connection(str(path))) as reader,
    ):
        at = fill(store, 2, 0)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM nodes").fetchall() == [(2,)]
        start = time.monotonic()
        at = fill(store, 30, at)
        grown = log.stat().st_size
        assert grown > 30 << 20, "the reader's snapshot needs the log"
        assert reader.execute("SELECT count(*) FROM nodes").fetchall() == [(2,)]
        assert time.monotonic() - start < 20, "a stuck reader must not stop the writer"
        reader.execute("COMMIT")
        at = fill(store, 4, at)
        assert log.stat().st_size <= limit
        fill(store, 20, at)
        assert log.stat().st_size <= limit


def test_overlapping_readers_cannot_keep_the_log_growing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every moment some reader has a snapshot; each is short. Without waiting for readers the
    log would never start over."""
    monkeypatch.setattr(sqlite_file, "TRUNCATE_INTERVAL_S", 0.0)
    monkeypatch.setattr(sqlite_file, "TRUNCATE_WAIT_MS", 5000)
    limit = 8 << 20
    done = threading.Event()

    def read() -> None:
        with closing(apsw.Connection(str(path))) as one, closing(apsw.Connection(str(path))) as two:
            old, new = one, two
            old.set_busy_timeout(10_000)
            new.set_busy_timeout(10_000)
            old.execute("BEGIN; SELECT count(*) FROM nodes").fetchall()
            while not done.wait(0.01):
                new.execute("BEGIN; SELECT count(*) FROM nodes").fetchall()
                old.execute("COMMIT")
                old, new = new, old

    with SQLiteStore(path, wal_limit_bytes=limit) as store:
        commit(store, [make_row("other")])
        thread = threading.Thread(target=read)
        thread.start()
        try:
            fill(store, 60, 0)
        finally:
            done.set()
            thread.join(30)
        assert Path(f"{path}-wal").stat().st_size < 4 * limit


def test_close_leaves_one_file(path: Path) -> None:
    with SQLiteStore(path) as store:
        fill(store, 3, 0)
    assert [file.name for file in path.parent.iterdir()] == ["agent.db"]


# -- rows ----------------------------------------------------------------------------------------


def test_row_that_sqlite_refuses_is_found_and_taken_back_alone(
    store: SQLiteStore, path: Path
) -> None:
    rows = [make_row("a", 0, blob=state("0")), make_row("b", 0, blob=b"x" * 5000), make_row("a", 1)]
    rows.append(make_row("b", 1))
    connection = store._file._connection
    assert connection is not None
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, 4000)
    results = store.commit(rows)
    assert [result.status for result in results] == [STORED, REFUSED, STORED, STORED]
    assert "TOOBIG" in results[1].reason
    assert raw(path, "SELECT execution_id, nodes, checkpoints FROM executions") == [
        ("a", 2, 1),
        ("b", 1, 0),
    ]
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, 1 << 30)
    assert statuses(store, rows) == [STORED] * 4


def test_two_nodes_under_one_seq(store: SQLiteStore) -> None:
    """A broken client; the first one counts."""
    rows = [make_row(seq=0, node_id="a"), make_row(seq=0, node_id="b"), make_row(seq=1)]
    assert statuses(store, rows) == [STORED, REFUSED, STORED]


def test_failing_batch_leaves_nothing_behind(store: SQLiteStore) -> None:
    commit(store, [make_row(seq=0)])
    before = contents(store)

    def fail(connection: apsw.Connection) -> None:
        connection.execute("DELETE FROM nodes")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._file.transaction(fail)
    assert contents(store) == before
    commit(store, [make_row(seq=1)])


def test_replay_writes_nothing_at_all(store: SQLiteStore, path: Path) -> None:
    rows = [make_row(seq=seq, blob=state(str(seq))) for seq in range(9)]
    commit(store, rows)
    log = Path(f"{path}-wal").read_bytes()
    commit(store, rows)
    assert Path(f"{path}-wal").read_bytes() == log


def test_summary_counts_the_newest_version_of_each_node(store: SQLiteStore, path: Path) -> None:
    commit(store, [make_row(seq=0, node_id="n", cost_tokens=5), make_row(seq=1, cost_tokens=2)])
    commit(store, [make_row(seq=3, node_id="n", cost_tokens=7), make_row(seq=2, node_id="n")])
    summary = raw(path, "SELECT cost_tokens, node_id, nodes FROM executions")
    assert summary == [(9, "n", 2)]
    commit(store, [make_row(seq=4, node_id="n", cost_tokens=1 << 80)])  # shown as 0
    assert raw(path, "SELECT cost_tokens FROM executions") == [(2,)]


def test_deleted_execution_keeps_only_its_owners(store: SQLiteStore, path: Path) -> None:
    commit(store, [make_row(seq=seq, blob=state(str(seq))) for seq in range(5)])
    store.delete_execution("run")
    for table in ("executions", "nodes", "checkpoints", "blobs"):
        assert raw(path, f"SELECT count(*) FROM {table}") == [(0,)]
    owners = raw(path, "SELECT epoch, claim, last_seq FROM owners ORDER BY epoch")
    assert owners == [(1, "claim-a", -1), (2, None, -1)]
    assert statuses(store, [make_row(seq=4)]) == [FENCED]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"q": "漢\0"}, {"q": "漢\0"}),
        ({"a": math.nan, 1: b"ab", (1, 2): None}, {"a": "nan", "1": "<2 bytes>", "(1, 2)": None}),
        ("\ud800x", "\\ud800x"),
        (1 << 64, 1 << 64),
        (1 << 20_000, "<integer of 20001 bits>"),
        ([b"", True, (1, {2})], ["<0 bytes>", True, [1, [2]]]),
    ],
    ids=["text", "odd dict", "lone surrogate", "large int", "huge int", "sequences"],
)
def test_json_columns(store: SQLiteStore, path: Path, value: Any, shown: Any) -> None:
    commit(store, [make_row(output=value)])
    ((text,),) = raw(path, "SELECT output FROM nodes")
    assert json.loads(text) == shown
    assert raw(path, "SELECT json_valid(output) FROM nodes") == [(1,)]


def test_json_columns_of_deep_and_large_values(store: SQLiteStore, path: Path) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    large = {"text": "x" * JSON_BYTES}
    commit(store, [make_row(input=deep, output=large, metadata={"name": "n"})])
    ((shown, hidden, metadata),) = raw(path, "SELECT input, output, metadata FROM nodes")
    assert json.loads(shown)
    assert hidden is None
    assert metadata == '{"name":"n"}'
    endless: list[Any] = []
    endless.append(endless)
    assert human_json(endless) is not None, "not even this makes a write fail"


def test_refusal_is_a_typed_error(path: Path) -> None:
    with SQLiteStore(path) as store, pytest.raises(RecordRefusedError):
        store._file.transaction(lambda c: c.execute("INSERT INTO blobs VALUES (1, NULL)"))


# -- reading with other tools --------------------------------------------------------------------


def test_standard_library_reads_while_the_store_writes(store: SQLiteStore, path: Path) -> None:
    """In another process: see docs/STORES.md."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
counts = []
while not counts or counts[-1] < 400:
    (count,) = connection.execute("SELECT count(*) FROM nodes").fetchone()
    (blobs,) = connection.execute("SELECT count(*) FROM states").fetchone()
    assert count % 4 == 0 and blobs >= count, (count, blobs)
    counts.append(count)
assert counts == sorted(counts)
print(connection.execute("SELECT nodes, checkpoints FROM runs").fetchall())
"""
    reader = subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for at in range(0, 400, 4):
        commit(store, [make_row(seq=at + n, blob=b"x" * 10_000) for n in range(4)])
    out, error = reader.communicate(timeout=60)
    assert (out, error) == ("[(400, 400)]\n", "")


def documented_tables() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for section in re.split(r"^#### ", DOCS, flags=re.MULTILINE)[1:]:
        name = re.match(r"`(\w+)`", section)
        assert name is not None
        found[name[1]] = re.findall(r"^\| `(\w+)` \| ([A-Z]+) \|", section, flags=re.MULTILINE)
    return found


def test_documented_schema_is_the_schema(store: SQLiteStore, path: Path) -> None:
    tables = [name for (name,) in raw(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    actual = {
        table: [(name, kind) for _, name, kind, *_ in raw(path, f"PRAGMA table_info({table})")]
        for table in tables
    }
    assert documented_tables() == actual
    (version,) = re.findall(r"`PRAGMA user_version` is the version of the schema:\n\*\*(\d+)", DOCS)
    assert raw(path, "PRAGMA user_version") == [(int(version),)]
    (application,) = re.findall(r"`PRAGMA application_id` is `(0x\w+)`", DOCS)
    assert raw(path, "PRAGMA application_id") == [(int(application, 16),)]
    names = {
        name for (name,) in raw(path, "SELECT name FROM sqlite_master") if "autoindex" not in name
    }
    assert names == sqlite_schema.NAMES


def test_documented_settings_are_the_settings(path: Path) -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (\S+) \| .*$", DOCS, flags=re.MULTILINE))
    for name, value in SQLiteStore(path).spec().kwargs.items():
        if name != "path":
            assert documented[name] in (str(value), f'`"{value}"`')


def test_documented_queries_run(path: Path) -> None:
    with SQLiteStore(path) as store:
        commit(store, [make_row("run-1", 0, input={"city": "Oslo"}, metadata={"name": "weather"})])
        commit(store, [make_row("run-1", 1, blob=state("s"))])
    queries = re.findall(r"```sql\n(.*?)```", DOCS, flags=re.DOTALL)
    assert len(queries) >= 6
    with closing(sqlite3.connect(path)) as connection:
        answers = [connection.execute(query).fetchall() for query in queries]
    assert answers[0][0][:4] == ("run-1", "success", 2, 1)
    assert answers[3] == [("Oslo", 1)]
