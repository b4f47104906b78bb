"""Two SQLite files as one tiered store, against the store contract; and a hot tier that forgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest
from hypothesis import settings

from livingai.errors import StoreUnavailableError
from livingai.stores.base import Row, RowStatus, Store
from livingai.stores.copying import copy_store, find_execution
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.tiered import TieredStore
from livingai.testing import StoreConformance, make_row, store_machine
from livingai.testing.conformance import Part
from livingai.testing.rows import commit
from tests.support.raw_sqlite import raw_get, raw_set


def make_store(directory: Path) -> TieredStore:
    return TieredStore(
        SQLiteStore(directory / "hot.db", busy_timeout_ms=100),
        SQLiteStore(directory / "cold.db", busy_timeout_ms=100),
    )


class TestTieredStore(StoreConformance):
    def make_store(self, tmp_path: Path) -> Store:
        return make_store(tmp_path)

    def raw_get(self, tmp_path: Path, part: Part, row: Row) -> bytes:
        return raw_get(tmp_path / "cold.db", part, row)

    def raw_set(self, tmp_path: Path, part: Part, row: Row, data: bytes) -> None:
        """In both: one tier alone is made good by the other. A read that has met damage in the
        hot tier has taken the row out there."""
        raw_set(tmp_path / "hot.db", part, row, data)
        assert raw_set(tmp_path / "cold.db", part, row, data)

    @contextmanager
    def unavailable(self, tmp_path: Path) -> Iterator[None]:
        with closing(apsw.Connection(str(tmp_path / "cold.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


TestTieredMachine = store_machine(make_store).TestCase
TestTieredMachine.settings = settings(max_examples=30, stateful_step_count=20)


def wipe(directory: Path, name: str) -> None:
    for path in directory.glob(f"{name}.db*"):
        path.unlink()


def test_a_hot_tier_that_lost_everything_is_filled_up_by_reading(tmp_path: Path) -> None:
    rows = [make_row(seq=seq, blob=b"\0state %d" % seq) for seq in range(1, 6)]
    with make_store(tmp_path) as store:
        assert {r.status for r in store.commit(rows)} == {RowStatus.STORED}
    wipe(tmp_path, "hot")
    with make_store(tmp_path) as store:
        found = store.latest_checkpoint(rows[0].execution_id)
        assert found is not None
        assert found.blob == rows[-1].blob
    with SQLiteStore(tmp_path / "hot.db") as hot, SQLiteStore(tmp_path / "cold.db") as cold:
        line = find_execution(hot, rows[0].execution_id)
        assert line is not None
        assert line.checkpoints == 5
        assert list(hot.nodes(rows[0].execution_id)) == list(cold.nodes(rows[0].execution_id))


def test_a_stale_hot_tier_is_not_used(tmp_path: Path) -> None:
    first, second = make_row(seq=1, blob=b"\0old"), make_row(seq=2, blob=b"\0new")
    with make_store(tmp_path) as store:
        store.commit([first])
    with SQLiteStore(tmp_path / "cold.db") as cold:
        cold.commit([second])  # as if hot had been away
    with make_store(tmp_path) as store:
        found = store.latest_checkpoint(first.execution_id)
        assert found is not None
        assert found.blob == b"\0new"


def test_what_hot_has_damaged_or_evicted_comes_from_cold(tmp_path: Path) -> None:
    row = make_row(seq=1, blob=b"\0the state")
    with make_store(tmp_path) as store:
        store.commit([row])
    with closing(apsw.Connection(str(tmp_path / "hot.db"))) as raw:
        raw.execute("DELETE FROM blobs")
        assert raw.changes() == 1
    with make_store(tmp_path) as store:
        found = store.latest_checkpoint(row.execution_id)
        assert found is not None
        assert found.blob == row.blob


def hot_line(directory: Path) -> object:
    with SQLiteStore(directory / "hot.db") as hot:
        return find_execution(hot, "run")


def hot_is_as_cold(directory: Path) -> None:
    with SQLiteStore(directory / "hot.db") as hot, SQLiteStore(directory / "cold.db") as cold:
        assert list(hot.nodes("run")) == list(cold.nodes("run"))
        assert list(hot.checkpoints("run")) == list(cold.checkpoints("run"))
        assert hot.owners("run") == cold.owners("run")


@pytest.mark.parametrize("damage", ["DELETE FROM blobs", "UPDATE blobs SET blob = x'0011'"])
def test_a_read_repairs_what_hot_has_damaged_or_evicted(tmp_path: Path, damage: str) -> None:
    """Also what belongs to an earlier owner, which hot would refuse from now on."""
    rows = [make_row(seq=1, blob=b"\0first"), make_row(seq=2, blob=b"\0second", claim="next")]
    with make_store(tmp_path) as store:
        commit(store, rows)
    with closing(apsw.Connection(str(tmp_path / "hot.db"))) as raw:
        raw.execute(damage)
    with make_store(tmp_path) as store:
        for row in rows:
            found = store.load_node(row.node_id)
            assert found is not None
            assert found.blob == row.blob
    hot_is_as_cold(tmp_path)


def test_hot_that_missed_an_earlier_owner_is_filled_up_and_not_left_out(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "cold.db") as cold:
        commit(cold, [make_row(seq=1, blob=b"\0first")])  # as if hot had been away
    with make_store(tmp_path) as store:
        commit(store, [make_row(seq=2, blob=b"\0second", claim="next")])
        assert [c.blob for c in store.checkpoints("run")] == [b"\0first", b"\0second"]
        assert sum(1 for _ in store.nodes("run")) == 2
        assert isinstance(store, TieredStore)
        assert store._hot_tier.pause_s == 0
    hot_is_as_cold(tmp_path)


def test_hot_that_missed_a_prune_is_filled_anew(tmp_path: Path) -> None:
    rows = [make_row(seq=seq, blob=b"\0%d" % seq) for seq in range(4)]
    with make_store(tmp_path) as store:
        commit(store, rows)
        with SQLiteStore(tmp_path / "cold.db") as cold:
            assert cold.drop_checkpoints("run", [(1, 0), (1, 1)]) == 4
        assert sum(1 for _ in store.nodes("run")) == 4
    with SQLiteStore(tmp_path / "hot.db") as hot:
        assert [c.seq for c in hot.checkpoints("run")] == [2, 3]


def test_what_was_deleted_while_hot_was_away_is_removed_by_the_next_read(tmp_path: Path) -> None:
    row = make_row(seq=1, blob=b"\0secret")
    with make_store(tmp_path) as store:
        commit(store, [row])
    with SQLiteStore(tmp_path / "cold.db") as cold:
        cold.delete_execution("run")
    assert hot_line(tmp_path) is not None
    with make_store(tmp_path) as store:
        assert store.latest_checkpoint("run") is None
        assert store.blob_by_hash("run", row.content_hash or b"") is None
    assert hot_line(tmp_path) is None


def test_while_cold_is_away_nothing_is_acknowledged_and_hot_answers(tmp_path: Path) -> None:
    rows = [make_row(seq=seq, blob=b"\0%d" % seq) for seq in range(1, 3)]
    with make_store(tmp_path) as store:
        store.commit(rows[:1])
        with closing(apsw.Connection(str(tmp_path / "cold.db"))) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError):
                store.commit(rows)
            other.execute("ROLLBACK")
        assert [r.status for r in store.commit(rows)] == [RowStatus.STORED] * 2


def test_a_hot_tier_in_trouble_delays_nothing(tmp_path: Path) -> None:
    with make_store(tmp_path) as store, closing(apsw.Connection(str(tmp_path / "hot.db"))) as other:
        other.execute("BEGIN IMMEDIATE")
        result = store.commit([make_row(seq=1, blob=b"\0x")])[0]
        assert result.status is RowStatus.STORED
        assert "hot" in result.reason
        other.execute("ROLLBACK")


def test_copying_to_another_store_and_again(tmp_path: Path) -> None:
    rows = [
        make_row(execution_id=f"run-{run}", node_id=f"{run}-{seq}", claim=f"c{run}", seq=seq,
                 blob=b"\0%d" % seq)
        for run in range(7)
        for seq in range(1, 5)
    ]  # fmt: skip
    with SQLiteStore(tmp_path / "a.db") as source, SQLiteStore(tmp_path / "b.db") as target:
        source.commit(rows)
        seen: list[int] = []
        first = copy_store(source, target, progress=lambda info, done: seen.append(done))
        assert (first.executions, first.nodes, first.checkpoints) == (7, 28, 28)
        assert seen == list(range(1, 8))
        assert copy_store(source, target) == first
        for run in range(7):
            name = f"run-{run}"
            assert list(target.nodes(name)) == list(source.nodes(name))
            assert list(target.checkpoints(name)) == list(source.checkpoints(name))
            assert target.owners(name) == source.owners(name)
