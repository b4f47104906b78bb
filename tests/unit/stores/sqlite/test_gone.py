"""A database, its log or its index that is removed or replaced while others have it open."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from livingai.errors import StoreUnavailableError
from livingai.stores.base import RowStatus
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row
from tests.support.agents import ROOT
from tests.support.waiting import ended

READER = """
import sys
from livingai.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
for line in sys.stdin:
    if line == "idle\\n":
        store.let_go()
        print("idle", flush=True)
    else:
        print(*[info.execution_id for info in store.list_executions()], flush=True)
"""


@contextmanager
def reader(path: Path) -> Iterator[Callable[[str], str]]:
    """Another process that has the database open; it does what it is asked."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, path],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip

        def ask(what: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{what}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield ask
        assert process.stdin is not None
        process.stdin.close()
        assert ended(process) == 0


def remove(*suffixes: str) -> Callable[[Path], None]:
    def deed(path: Path) -> None:
        for suffix in suffixes:
            os.unlink(f"{path}{suffix}")

    return deed


def move(path: Path) -> None:
    path.rename(f"{path}.away")


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    with SQLiteStore(other) as store:
        commit(store, [make_row("backup", 1, blob=b"\0b")])
    other.rename(path)


def truncate(path: Path) -> None:
    path.unlink()
    path.touch()


DEEDS = {
    "database": remove(""), "all": remove("", "-wal", "-shm"), "but the index": remove("", "-wal"),
    "but the log": remove("", "-shm"), "moved": move, "replaced": replace, "emptied": truncate,
}  # fmt: skip


@pytest.mark.parametrize("knows", [True, False], ids=["writer knew it", "writer comes anew"])
@pytest.mark.parametrize("deed", DEEDS)
def test_another_database_while_a_reader_is_idle(path: Path, deed: str, knows: bool) -> None:
    store = SQLiteStore(path)
    for seq in range(1, 20):
        commit(store, [make_row("old", seq, blob=os.urandom(20_000))])
    with reader(path) as ask:
        assert ask("list") == "old"
        if not knows:
            store.close()
            store = SQLiteStore(path)
        DEEDS[deed](path)
        store.validate()
        for seq in range(1, 5):
            commit(store, [make_row("new", seq, blob=os.urandom(20_000))])
        expected = "backup new" if deed == "replaced" else "new"
        assert ask("list") == expected
        commit(store, [make_row("new", 5, blob=b"\0last")])
        # A look from outside, as after the death of all processes, finds it all.
        with closing(apsw.Connection(str(path))) as raw:
            assert raw.pragma("integrity_check") == "ok"
            assert list(
                raw.execute("SELECT count(*) FROM checkpoints WHERE execution_id = 'new'")
            ) == [(5,)]
        store.close()
        assert ask("list") == expected
    kept = [name for name in os.listdir(path.parent) if ".left-" in name]
    assert len(kept) == (deed in {"database", "but the log", "moved", "replaced", "emptied"})


@pytest.mark.parametrize("deed", DEEDS)
def test_another_database_that_nobody_else_has_open(path: Path, deed: str) -> None:
    """No lock on the log says whose it is; but we know that we had it open with another one."""
    store = SQLiteStore(path)
    for seq in range(1, 20):
        commit(store, [make_row("old", seq, blob=os.urandom(20_000))])
    DEEDS[deed](path)
    store.let_go()
    commit(store, [make_row("new", 1, blob=b"\0new")])
    expected = ["backup", "new"] if deed == "replaced" else ["new"]
    assert [info.execution_id for info in store.list_executions()] == expected
    store.close()
    with closing(apsw.Connection(str(path))) as raw:
        assert raw.pragma("integrity_check") == "ok"
        assert list(raw.execute("SELECT execution_id FROM executions ORDER BY 1")) == [
            (name,) for name in expected
        ]


def test_a_moved_database_and_its_log_can_be_brought_together_again(path: Path) -> None:
    with SQLiteStore(path) as store, reader(path) as ask:
        commit(store, [make_row("old", 1, blob=b"\0one")])
        assert ask("list") == "old"
        move(path)
        commit(store, [make_row("new", 1, blob=b"\0two")])
    (log,) = path.parent.glob("*.left-*")
    log.rename(f"{path}.away-wal")
    with SQLiteStore(f"{path}.away") as store:
        latest = store.latest_checkpoint("old")
        assert latest is not None
        assert latest.blob == b"\0one"


def test_an_idle_reader_saves_what_only_its_log_has(path: Path) -> None:
    """The log was removed and a new writer came: until the reader lets go, it cannot write."""
    with SQLiteStore(path) as first:
        commit(first, [make_row("old", 1, blob=b"\0one")])
        with reader(path) as ask:
            assert ask("list") == "old"
            first.close()
            os.unlink(f"{path}-wal")
            store = SQLiteStore(path)
            with pytest.raises(StoreUnavailableError):
                store.commit([make_row("new", 1, blob=b"\0two")])
            assert ask("idle") == "idle"
            commit(store, [make_row("new", 1, blob=b"\0two")])
            assert ask("list") == "new old"
            store.close()


@pytest.mark.parametrize("deed", ["database", "all", "replaced", "moved"])
def test_nothing_is_called_stored_that_went_into_a_file_without_a_name(
    path: Path, deed: str
) -> None:
    """The deed falls between the look before a batch and its end."""
    with SQLiteStore(path) as store:
        commit(store, [make_row("old", 1, blob=b"\0one")])
        row = make_row("new", 1, blob=b"\0two")

        def work(connection: apsw.Connection) -> None:
            connection.execute("UPDATE executions SET nodes = nodes")
            DEEDS[deed](path)

        with pytest.raises(StoreUnavailableError, match="removed or replaced while it was written"):
            store._file.transaction(work)
        assert [result.status for result in store.commit([row])] == [RowStatus.STORED]
        with SQLiteStore(path) as again:
            assert again.latest_checkpoint("new") is not None


def test_each_file_that_may_be_another_database_is_counted(path: Path, store: SQLiteStore) -> None:
    """Whoever compares databases by what is in them has to compare again."""
    commit(store, [make_row("run", 1)])
    assert store.replacements == 0
    for count in (1, 2):
        replace(path)
        assert [info.execution_id for info in store.list_executions()] == ["backup"]
        assert store.replacements == count
    store.close()
    store.open()
    assert store.replacements == 3
