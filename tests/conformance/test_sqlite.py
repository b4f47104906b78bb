"""SQLite against the store contract.

The hooks below use apsw, too: a second copy of SQLite in one process (the standard library's) would
drop the store's locks when it closes the file.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
from hypothesis import settings

from livingai.stores.base import Row, Store
from livingai.stores.sqlite import SQLiteStore
from livingai.testing import StoreConformance, store_machine
from livingai.testing.conformance import Part

BLOB_ID = "SELECT blob_id FROM checkpoints WHERE execution_id = ? AND node_id = ?"
GET = {
    "node": "SELECT wire FROM nodes WHERE execution_id = ? AND node_id = ?",
    "blob": f"SELECT blob FROM blobs WHERE blob_id = ({BLOB_ID})",
}
SET = {
    "node": "UPDATE nodes SET wire = ? WHERE execution_id = ? AND node_id = ?",
    "blob": f"UPDATE blobs SET blob = ? WHERE blob_id = ({BLOB_ID})",
}


def make_store(directory: Path) -> SQLiteStore:
    return SQLiteStore(directory / "agent.db", busy_timeout_ms=100)


class TestSQLiteStore(StoreConformance):
    def make_store(self, tmp_path: Path) -> Store:
        return make_store(tmp_path)

    def raw_get(self, tmp_path: Path, part: Part, row: Row) -> bytes:
        with closing(apsw.Connection(str(tmp_path / "agent.db"))) as raw:
            ((data,),) = raw.execute(GET[part], (row.execution_id, row.node_id))
        assert isinstance(data, bytes)
        return data

    def raw_set(self, tmp_path: Path, part: Part, row: Row, data: bytes) -> None:
        with closing(apsw.Connection(str(tmp_path / "agent.db"))) as raw:
            raw.pragma("synchronous", "off")  # thousands of damages
            raw.execute(SET[part], (data, row.execution_id, row.node_id))
            assert raw.changes() == 1

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
