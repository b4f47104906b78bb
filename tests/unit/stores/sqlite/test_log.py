"""The size of an SQLite store: its write-ahead log, and its file after a delete."""

import os
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite import file as sqlite_file
from livingai.stores.sqlite import space as sqlite_space
from livingai.testing.rows import (
    commit,
    make_row,
)
from tests.support.patience import Deadline
from tests.support.sqlite import raw
from tests.support.waiting import joined

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
        deadline = Deadline(20)
        at = fill(store, 30, at)
        grown = log.stat().st_size
        assert grown > 30 << 20, "the reader's snapshot needs the log"
        assert reader.execute("SELECT count(*) FROM nodes").fetchall() == [(2,)]
        assert deadline.left(), "a stuck reader must not stop the writer"
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
    monkeypatch.setattr(sqlite_space, "TRUNCATE_INTERVAL_S", 0.0)
    monkeypatch.setattr(sqlite_space, "TRUNCATE_WAIT_MS", 5000)
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
            joined(thread)
        assert Path(f"{path}-wal").stat().st_size < 4 * limit


def test_close_leaves_one_file(path: Path) -> None:
    with SQLiteStore(path) as store:
        fill(store, 3, 0)
    assert [file.name for file in path.parent.iterdir()] == ["agent.db"]


# -- the file ------------------------------------------------------------------------------------


def test_file_is_cut_down_after_a_delete(store: SQLiteStore, path: Path) -> None:
    fill(store, 24, 0)
    commit(store, [make_row("other", blob=b"x")])
    full = store.size_bytes()
    store.delete_execution("run")
    store.close()
    assert path.stat().st_size < min(full, 2 * sqlite_space.SPARE_BYTES)


def test_file_is_cut_down_after_a_drop(store: SQLiteStore, path: Path) -> None:
    fill(store, 24, 0)
    full = store.size_bytes()
    store.drop_checkpoints("run", [(1, seq) for seq in range(23)])
    store.close()
    assert path.stat().st_size < min(full, 3 * sqlite_space.SPARE_BYTES)


def test_foreign_database_without_auto_vacuum_keeps_its_size(path: Path) -> None:
    raw(path, "CREATE TABLE mine (x)")
    with SQLiteStore(path) as store:
        fill(store, 8, 0)
        assert store.delete_execution("run") == 8
        commit(store, [make_row("next")])
