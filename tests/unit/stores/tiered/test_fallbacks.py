"""A tiered store: which tier answers, which one is written, and what is done while one is away.

Both tiers are SQLite files. One that is away has a lock on it, or calls of it are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from livingai.errors import FencedError, StoreUnavailableError
from livingai.node import NodeField
from livingai.stores import hot_tier
from livingai.stores.base import DroppedNodes, NodeRange, RowStatus, Store
from livingai.stores.copying import find_execution
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.tiered import TieredStore
from livingai.testing.rows import commit, make_row, state, statuses


class CuttableStore(SQLiteStore):
    """A store whose server can be cut off; it notes which calls reach it."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, busy_timeout_ms=0, **options)
        self.away = False
        self.calls: list[str] = []

    def _reached(self, name: str) -> None:
        if self.away:
            raise StoreUnavailableError(f"{self.path} is cut off")
        self.calls.append(name)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in _CALLS:

            def call(*arguments: Any, **named: Any) -> Any:
                self._reached(name)
                return found(*arguments, **named)

            return call
        return found


_CALLS = frozenset(
    {"open", "commit", "claim", "drop_checkpoints", "drop_nodes", "delete_execution", "forget"}
    | {"latest_checkpoint", "load_node", "nodes", "packed_nodes", "blob_by_hash", "sized_blob"}
    | {"list_executions", "checkpoints", "owners", "costs", "nodes_between", "places"}
)


class Tiers:
    """Both tiers, and the store that they make up."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.hot = CuttableStore(folder / "hot.db")
        self.cold = CuttableStore(folder / "cold.db")
        self.store = TieredStore(self.hot, self.cold, **options)

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def tiers(tmp_path: Path) -> Iterator[Tiers]:
    with closing(Tiers(tmp_path)) as tiers:
        yield tiers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which a hot tier in trouble is left out; tests set it."""
    now = [1000.0]
    monkeypatch.setattr(hot_tier, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def rows(count: int = 3, *, claim: str = "claim-a", begin: int = 0) -> list[Any]:
    return [
        make_row(seq=seq, claim=claim, blob=state(f"state {seq}"))
        for seq in range(begin, begin + count)
    ]


def blobs(store: Store) -> list[bytes | None]:
    return [found.blob for found in store.checkpoints("run")]


READS: dict[str, Callable[[Store], Any]] = {
    "latest_checkpoint": lambda store: store.latest_checkpoint("run"),
    "load_node": lambda store: store.load_node("run/2"),
    "nodes": lambda store: list(store.nodes("run")),
    "packed_nodes": lambda store: list(store.packed_nodes("run")),
    "nodes_between": lambda store: store.nodes_between("run", NodeRange("run/1")),
    "blob_by_hash": lambda store: store.blob_by_hash("run", rows()[1].content_hash),
    "sized_blob": lambda store: store.sized_blob("run", rows()[1].content_hash),
}


@pytest.mark.parametrize("name", READS)
def test_what_hot_has_completely_comes_from_hot(tiers: Tiers, name: str) -> None:
    commit(tiers.store, rows())
    expected = READS[name](tiers.cold)
    tiers.cold.calls.clear()
    assert READS[name](tiers.store) == expected
    assert name not in tiers.cold.calls
    assert name in tiers.hot.calls


@pytest.mark.parametrize("name", READS)
def test_while_hot_is_away_cold_answers(tiers: Tiers, name: str) -> None:
    commit(tiers.store, rows())
    expected = READS[name](tiers.cold)
    tiers.hot.away = True
    for _ in range(2):  # when it is noticed, and while it is left out
        assert READS[name](tiers.store) == expected


@pytest.mark.parametrize("name", READS)
def test_what_hot_lacks_comes_from_cold(tiers: Tiers, name: str) -> None:
    commit(tiers.cold, rows())
    tiers.store.open()
    assert READS[name](tiers.store) == READS[name](tiers.cold)


@pytest.mark.parametrize("name", ["latest_checkpoint", "nodes", "packed_nodes", "load_node"])
def test_what_hot_has_in_an_older_version_comes_from_cold(tiers: Tiers, name: str) -> None:
    commit(tiers.store, rows())
    newer = [make_row(seq=3, node_id="run/2", blob=state("newer"), output="newer")]
    commit(tiers.cold, newer)
    assert READS[name](tiers.store) == READS[name](tiers.cold)
    assert READS[name](tiers.store) == READS[name](tiers.hot), "and it was filled up"


@pytest.mark.parametrize("name", ["latest_checkpoint", "nodes", "packed_nodes", "load_node"])
def test_a_read_fills_hot_up(tiers: Tiers, name: str) -> None:
    commit(tiers.cold, rows())
    READS[name](tiers.store)
    assert blobs(tiers.hot) == blobs(tiers.cold)


@pytest.mark.parametrize("name", ["latest_checkpoint", "nodes", "packed_nodes", "load_node"])
def test_while_cold_is_away_hot_answers(tiers: Tiers, name: str) -> None:
    commit(tiers.store, rows())
    expected = READS[name](tiers.hot)
    tiers.cold.away = True
    assert READS[name](tiers.store) == expected


def test_a_write_that_cold_did_not_take_is_not_in_hot(tiers: Tiers) -> None:
    commit(tiers.store, rows(1))
    tiers.cold.away = True
    with pytest.raises(StoreUnavailableError):
        tiers.store.commit(rows(1, begin=1))
    with pytest.raises(StoreUnavailableError):
        tiers.store.claim("run", "another")
    assert len(blobs(tiers.hot)) == 1


def test_hot_gets_what_cold_has_stored_and_under_its_epoch(tiers: Tiers) -> None:
    commit(tiers.cold, rows(1, claim="before"))
    assert tiers.cold.claim("run", "claim-a") == 2
    given = [*rows(2, begin=1), make_row(seq=9, claim="before", blob=state("fenced"))]
    assert statuses(tiers.store, given) == [RowStatus.STORED] * 2 + [RowStatus.FENCED]
    assert [(found.epoch, found.seq) for found in tiers.hot.checkpoints("run")] == [(2, 1), (2, 2)]
    assert tiers.store.owners("run") == tiers.cold.owners("run")


def test_hot_that_has_forgotten_gets_nothing_that_cold_fenced(tiers: Tiers) -> None:
    """It has no owners to compare with, so it would take the row."""
    commit(tiers.cold, [*rows(1, claim="before"), *rows(1, begin=1)])
    (result,) = tiers.store.commit([make_row(seq=9, claim="before", blob=state("fenced"))])
    assert (result.status, result.epoch) == (RowStatus.FENCED, 1)
    assert "hot tier" not in result.reason
    assert find_execution(tiers.hot, "run") is None


def test_claims_are_colds(tiers: Tiers) -> None:
    commit(tiers.cold, rows(1, claim="before"))
    assert tiers.store.claim("run", "claim-a") == 2
    assert tiers.store.claim("run", "claim-a") == 2
    assert tiers.cold.owners("run") == [(1, "before"), (2, "claim-a")]
    with pytest.raises(FencedError):
        tiers.store.claim("run", "before")


def test_a_write_that_hot_missed_is_told_and_read_from_cold(tiers: Tiers) -> None:
    tiers.hot.away = True
    tiers.store.open()
    results = tiers.store.commit(rows())
    assert {(found.status, found.reason) for found in results} == {
        (RowStatus.STORED, "not in the hot tier yet")
    }
    assert tiers.store.latest_checkpoint("run") == tiers.cold.latest_checkpoint("run")


def test_what_is_removed_is_removed_from_both(tiers: Tiers) -> None:
    commit(tiers.store, rows())
    tiers.store.drop_checkpoints("run", [(1, 0)])
    assert len(blobs(tiers.hot)) == len(blobs(tiers.cold)) == 2
    tiers.store.delete_execution("run")
    assert find_execution(tiers.hot, "run") is None
    assert find_execution(tiers.cold, "run") is None
    assert statuses(tiers.store, rows(1)) == [RowStatus.FENCED]


def test_what_was_removed_while_hot_was_away_is_not_read(tiers: Tiers, clock: list[float]) -> None:
    commit(tiers.store, rows())
    tiers.hot.away = True
    tiers.store.delete_execution("run")
    tiers.hot.away = False
    clock[0] += 60
    assert tiers.store.latest_checkpoint("run") is None
    assert find_execution(tiers.hot, "run") is None


def test_lists_sums_and_checkpoints_are_colds(tiers: Tiers) -> None:
    commit(tiers.cold, rows())
    commit(tiers.store, rows(1, begin=3))
    commit(tiers.hot, [make_row("only hot", 0)])
    assert [info.execution_id for info in tiers.store.list_executions()] == ["run"]
    assert len(blobs(tiers.store)) == 4
    assert [line.group for line in tiers.store.costs()] == ["run"]


def test_places_and_capabilities(tmp_path: Path) -> None:
    hot = SQLiteStore(tmp_path / "hot.db", synchronous="normal")
    cold = SQLiteStore(tmp_path / "cold.db")
    with TieredStore(hot, cold) as store:
        assert store.places() == hot.places() | cold.places()
        assert store.capabilities.durable
        assert store.capabilities.max_writers == 1
    with TieredStore(cold, hot) as store:
        assert not store.capabilities.durable


@pytest.mark.parametrize("many_in_front", [True, False])
def test_as_many_writers_as_both_tiers_take(tmp_path: Path, many_in_front: bool) -> None:
    one, many = SQLiteStore(tmp_path / "one.db"), RedisStore("redis://nowhere")
    assert many.capabilities.max_writers > one.capabilities.max_writers == 1
    hot, cold = (many, one) if many_in_front else (one, many)
    assert TieredStore(hot, cold).capabilities.max_writers == 1


@contextmanager
def cut(store: CuttableStore) -> Iterator[None]:
    store.away = True
    yield
    store.away = False


def test_hot_is_left_out_for_a_while_that_doubles_and_has_an_end(
    tiers: Tiers, clock: list[float]
) -> None:
    commit(tiers.store, rows(1))
    pauses = []
    for _ in range(9):
        tiers.hot.away = True
        assert tiers.store.latest_checkpoint("run") is not None
        tiers.hot.away = False
        pauses.append(tiers.store._hot_tier.pause_s)
        clock[0] += pauses[-1] - 0.01
        tiers.hot.calls.clear()
        assert tiers.store.latest_checkpoint("run") is not None
        assert tiers.hot.calls == [], "it was asked during its pause"
        clock[0] += 0.02
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert tiers.store.latest_checkpoint("run") is not None
    assert tiers.hot.calls, "its pause is over"
    with cut(tiers.hot):
        tiers.store.latest_checkpoint("run")
    assert tiers.store._hot_tier.pause_s == 0.5, "it begins anew"


def damage(folder: Path) -> None:
    with closing(apsw.Connection(str(folder / "hot.db"))) as raw:
        raw.execute("DELETE FROM blobs")
        assert raw.changes()


def test_a_damaged_row_is_no_reason_to_leave_hot_out(tiers: Tiers, tmp_path: Path) -> None:
    commit(tiers.store, rows())
    damage(tmp_path)
    found = tiers.store.load_node("run/2")
    assert found is not None
    assert found.blob == rows()[2].blob
    assert tiers.store._hot_tier.pause_s == 0
    assert blobs(tiers.hot) == blobs(tiers.cold), "it was made anew"


@pytest.mark.parametrize("name", ["latest_checkpoint", "load_node"])
def test_a_damaged_row_is_made_anew(tiers: Tiers, tmp_path: Path, name: str) -> None:
    """Whichever read comes upon it: the line of the execution says that hot is complete."""
    commit(tiers.store, rows())
    damage(tmp_path)
    assert READS[name](tiers.store) == READS[name](tiers.cold)
    assert READS[name](tiers.hot) == READS[name](tiers.cold)
    assert blobs(tiers.hot) == blobs(tiers.cold)


def test_a_large_execution_is_not_copied(tmp_path: Path) -> None:
    with closing(Tiers(tmp_path, fill_bytes=100)) as tiers:
        commit(tiers.cold, [make_row(seq=0, blob=state("x" * 200)), make_row("small", 0)])
        tiers.store.open()
        assert tiers.store.latest_checkpoint("run") is not None
        assert tiers.store.latest_checkpoint("small") is not None
        assert find_execution(tiers.hot, "run") is None
        assert find_execution(tiers.hot, "small") is not None


def test_hot_that_differs_in_numbers_alone_is_filled_up(tiers: Tiers) -> None:
    """Its newest version is cold's, and something before that is missing."""
    commit(tiers.cold, rows(2))
    commit(tiers.store, rows(1, begin=2))
    assert [node.seq for node in tiers.store.nodes("run")] == [0, 1, 2]
    assert blobs(tiers.hot) == blobs(tiers.cold)


def test_hot_that_lacks_an_earlier_claim_is_made_anew(tiers: Tiers) -> None:
    commit(tiers.cold, rows(2, claim="before"))
    commit(tiers.store, rows(1, begin=2))
    assert len(list(tiers.store.nodes("run"))) == 3
    assert blobs(tiers.hot) == blobs(tiers.cold)
    assert tiers.hot.owners("run") == tiers.cold.owners("run")


def test_a_tier_that_is_away_when_it_is_opened(tiers: Tiers) -> None:
    tiers.hot.away = True
    tiers.store.open()
    assert tiers.store.latest_checkpoint("run") is None
    tiers.hot.away, tiers.cold.away = False, True
    with pytest.raises(StoreUnavailableError):
        tiers.store.open()


def test_cold_that_goes_away_while_hot_is_filled_takes_nothing_from_hot(
    tiers: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tiers.store, rows(2))
    commit(tiers.cold, rows(1, begin=2))  # hot missed it

    def cut_off(execution_id: str) -> Any:
        tiers.cold.away = True
        raise StoreUnavailableError("cut off")

    monkeypatch.setattr(tiers.cold, "nodes", cut_off)
    with pytest.raises(StoreUnavailableError):
        tiers.store.latest_checkpoint("run")
    assert blobs(tiers.hot) == [state("state 0"), state("state 1")]
    found = tiers.store.latest_checkpoint("run")
    assert found is not None
    assert found.blob == state("state 1")


@pytest.mark.parametrize("claim", ["claim-a", "claim-b"])
def test_a_newer_version_of_a_node_is_not_missed_for_equal_numbers(
    tiers: Tiers, claim: str
) -> None:
    """Neither a node nor a checkpoint more: only the newest version says that hot is behind."""
    commit(tiers.store, [make_row(seq=0, node_id="n", output="old", blob=state("s"))])
    commit(tiers.cold, [make_row(seq=1, node_id="n", output="new", claim=claim)])
    (node,) = tiers.store.nodes("run")
    assert node.wire[NodeField.OUTPUT] == "new"
    (node,) = tiers.hot.nodes("run")
    assert node.wire[NodeField.OUTPUT] == "new"


# -- nodes that are removed ------------------------------------------------------------------------


def ids(store: Store) -> list[str]:
    return [str(node.wire[NodeField.ID]) for node in store.nodes("run")]


def test_nodes_go_from_hot_alone(tiers: Tiers) -> None:
    """What hot has besides stays: an execution that is too large to be filled up, too."""
    commit(tiers.store, rows(5))
    assert tiers.store.drop_nodes("run", ["run/1", "run/3", "run/4"]) == DroppedNodes(
        2, 2 * len(state("state 1")), ("run/4",)
    )
    assert "forget" not in tiers.hot.calls
    for store in (tiers.hot, tiers.cold, tiers.store):
        assert ids(store) == ["run/0", "run/2", "run/4"]
    tiers.cold.calls.clear()
    assert tiers.store.nodes_between("run", NodeRange())
    assert "nodes_between" not in tiers.cold.calls, "hot is as cold"


def test_a_node_that_hot_alone_cannot_spare_goes_with_its_execution(tiers: Tiers) -> None:
    commit(tiers.store, rows(3))
    commit(tiers.cold, rows(1, begin=3))  # hot missed it: there run/2 is the newest one
    assert tiers.store.drop_nodes("run", ["run/2"]).nodes == 1
    assert ids(tiers.hot) == []
    assert ids(tiers.store) == ids(tiers.hot) == ["run/0", "run/1", "run/3"]


def test_without_hot_no_node_is_removed(tiers: Tiers, clock: list[float]) -> None:
    """Hot would have a node that is gone, and lack the one that it misses now: as many as cold,
    none of them with a state, and the newest one is the same."""
    plain = [make_row(seq=seq) for seq in range(6)]
    commit(tiers.store, plain[:3])
    tiers.hot.away = True
    for _ in range(2):  # when it is noticed, and while it is left out
        with pytest.raises(StoreUnavailableError, match="try again when it is back"):
            tiers.store.drop_nodes("run", ["run/1"])
    commit(tiers.store, plain[3:5])
    tiers.hot.away = False
    clock[0] += 60
    commit(tiers.store, plain[5:])
    assert ids(tiers.store) == ids(tiers.cold) == [f"run/{seq}" for seq in range(6)]
    assert tiers.store.drop_nodes("run", ["run/1"]).nodes == 1
    assert ids(tiers.store) == ids(tiers.cold) == [f"run/{seq}" for seq in (0, 2, 3, 4, 5)]


def test_hot_that_goes_meanwhile_is_told_by_the_next_try(
    tiers: Tiers, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tiers.store, rows(4))
    drop = tiers.cold.drop_nodes

    def drop_and_part(*arguments: Any) -> DroppedNodes:
        dropped = drop(*arguments)
        tiers.hot.away = True
        return dropped

    with monkeypatch.context() as patched:
        patched.setattr(tiers.cold, "drop_nodes", drop_and_part)
        with pytest.raises(StoreUnavailableError, match="does not know which nodes were removed"):
            tiers.store.drop_nodes("run", ["run/1", "run/3"])
    assert ids(tiers.cold) == ["run/0", "run/2", "run/3"]
    tiers.hot.away = False
    clock[0] += 60
    assert tiers.store.drop_nodes("run", ["run/1", "run/3"]) == DroppedNodes(0, 0, ("run/3",))
    assert ids(tiers.hot) == ["run/0", "run/2", "run/3"]
