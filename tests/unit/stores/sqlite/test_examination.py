"""A database that was found damaged is examined: nothing is written to it, and it can pass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai.errors import StoreDamagedError, StoreUnavailableError
from livingai.stores.base import Store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.tiered import TieredStore
from livingai.testing.rows import commit, make_row
from tests.support.sqlite import python

#: In another process: ours would drop SQLite's locks as it closes the file.
OVERWRITE = """
import os, sys
with open(sys.argv[1], "r+b", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    file.seek(int(sys.argv[2]))
    file.write(os.urandom(size - int(sys.argv[2])))
"""


@pytest.fixture
def writer(path: Path) -> Iterator[SQLiteStore]:
    """A store with 200 nodes in the file and 50 in its log, all of them in memory, too."""
    with SQLiteStore(path) as store:
        commit(store, [make_row(seq=seq, output="x" * 3000) for seq in range(200)])
        store._file.fold_log()
        commit(store, [make_row(seq=seq, output="y" * 3000) for seq in range(200, 250)])
        assert len(list(store.nodes("run"))) == 250
        yield store


def sums(*paths: Path | str) -> str:
    """Sums of the contents, from another process: ours has the files open."""
    return python(
        "import hashlib, sys\n"
        "for each in sys.argv[1:]: print(hashlib.sha256(open(each, 'rb').read()).hexdigest())",
        *paths,
    )


@pytest.mark.parametrize("what", ["", "-wal"])
def test_nothing_is_written_to_a_damaged_file(path: Path, writer: SQLiteStore, what: str) -> None:
    python(OVERWRITE, f"{path}{what}", 32 if what else 16384)
    before = sums(path, f"{path}-wal")
    for _ in range(3):  # it is still so, however often it is looked at
        with pytest.raises(StoreDamagedError, match="damaged"):
            writer.examine()
    writer.let_go()
    assert sums(path, f"{path}-wal") == before
    writer.close()
    assert sums(path, f"{path}-wal") == before


def test_a_log_that_was_removed_is_not_copied_into_a_damaged_file(
    path: Path, writer: SQLiteStore
) -> None:
    python(OVERWRITE, path, 16384)
    with pytest.raises(StoreDamagedError):
        writer.examine()
    before = sums(path)
    os.unlink(f"{path}-wal")
    writer.let_go()
    with pytest.raises(StoreDamagedError):
        writer.examine()
    writer.close()
    assert sums(path) == before


def test_a_sound_file_passes_with_tables_of_others(path: Path, writer: SQLiteStore) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.create_scalar_function("theirs", lambda *values: True, deterministic=True)
        other.create_collation("backwards", lambda a, b: (a < b) - (a > b))
        other.execute("CREATE TABLE theirs (x TEXT COLLATE backwards UNIQUE, CHECK (theirs(x)))")
        other.execute("INSERT INTO theirs VALUES ('a'), ('b')")
    writer.examine()
    commit(writer, [make_row(seq=500)])
    python(OVERWRITE, f"{path}-wal", 32)
    with pytest.raises(StoreDamagedError):
        writer.examine()


def test_a_copy_in_its_place_passes(path: Path, writer: SQLiteStore) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("VACUUM INTO ?", (f"{path}.copy",))
    commit(writer, [make_row(seq=500)])
    python(OVERWRITE, path, 16384)
    with pytest.raises(StoreDamagedError):
        writer.examine()
    os.rename(path, f"{path}.away")  # its log stays behind
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="put a copy in its place"):
            writer.examine()
    assert not path.exists(), "an empty one was made"
    shutil.copyfile(f"{path}.copy", path)
    writer.examine()
    assert [node.seq for node in writer.nodes("run")] == list(range(250))
    commit(writer, [make_row(seq=501)])
    writer.close()
    with SQLiteStore(path) as again:
        again.examine()
        assert len(list(again.nodes("run"))) == 251


def test_which_stores_can_be_examined(tmp_path: Path) -> None:
    sqlite = SQLiteStore(tmp_path / "agent.db")
    redis, postgres = RedisStore("redis://nowhere"), PostgresStore("postgresql://nowhere/x")
    assert sqlite.capabilities.examines
    assert TieredStore(redis, sqlite).capabilities.examines
    servers: list[Store] = [redis, postgres, TieredStore(sqlite, postgres)]
    for store in servers:
        assert not store.capabilities.examines
