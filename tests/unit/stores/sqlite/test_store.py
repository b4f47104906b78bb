"""What is SQLite's own: identity, rows, the documented schema, reading with other tools."""

import json
import math
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from livingai.errors import (
    ConfigurationError,
    RecordRefusedError,
)
from livingai.stores.shared.human import JSON_BYTES, human_json
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite import schema as sqlite_schema
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
from tests.support.agents import ROOT
from tests.support.patience import patience
from tests.support.sqlite import python, raw

DOCS = (ROOT / "docs" / "STORES.md").read_text()


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
    assert raw(path, "SELECT node_id FROM nodes ORDER BY 1") == [("a/0",), ("a/1",), ("b/1",)]
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
    out, error = reader.communicate(timeout=patience(60))
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
