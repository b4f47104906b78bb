"""SQLite against the store contract."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
from hypothesis import settings

from livingai.stores.base import Row, Store
from livingai.stores.sqlite import SQLiteStore
from livingai.testing import StoreConformance, store_machine
from livingai.testing.conformance import Part
from tests.support.raw_sqlite import raw_get, raw_set


def make_store(directory: Path) -> SQLiteStore:
    return SQLiteStore(directory / "agent.db", busy_timeout_ms=100)


class TestSQLiteStore(StoreConformance):
    def make_store(self, tmp_path: Path) -> Store:
        return make_store(tmp_path)

    def raw_get(self, tmp_path: Path, part: Part, row: Row) -> bytes:
        return raw_get(tmp_path / "agent.db", part, row)

    def raw_set(self, tmp_path: Path, part: Part, row: Row, data: bytes) -> None:
        assert raw_set(tmp_path / "agent.db", part, row, data)

    @contextmanager
    def unavailable(self, tmp_path: Path) -> Iterator[None]:
        with closing(apsw.Connection(str(tmp_path / "agent.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


def make_fast_store(directory: Path) -> SQLiteStore:
    """Without a sync per commit: the machine makes thousands."""
    return SQLiteStore(directory / "agent.db", busy_timeout_ms=1000, synchronous="normal")


TestSQLiteMachine = store_machine(make_fast_store).TestCase
TestSQLiteMachine.settings = settings(max_examples=60, stateful_step_count=25)
