"""Removal of nodes from Redis, with a commit exactly between its plan and its script."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livingai.errors import StoreUnavailableError
from livingai.node import Status
from livingai.stores.base import DroppedNodes, NodeRange
from livingai.stores.redis import RedisStore
from livingai.stores.redis.drops import RedisDrops
from livingai.stores.redis.keys import Keys
from livingai.testing import make_row
from livingai.testing.dropping import check_counts
from livingai.testing.ranging import delta, ids
from livingai.testing.rows import commit, listing, state
from livingai.testing.standing import life
from tests.support.redis_servers import RedisServer, prefix_for

pytestmark = pytest.mark.redis


@pytest.fixture
def behind_plans(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What is in it is done once each, behind one plan after the other."""
    waiting: list[Callable[[], object]] = []
    plan = RedisDrops._plan

    def planned(drops: RedisDrops, execution_id: str, asked: list[str]) -> Any:
        found = plan(drops, execution_id, asked)
        if waiting:
            waiting.pop(0)()
        return found

    monkeypatch.setattr(RedisDrops, "_plan", planned)
    return waiting


def start(store: RedisStore) -> None:
    """Nodes a, b, c, d with states 0 to 3, of which only c is needed, by d."""
    commit(store, [
        delta(0, None, node_id="a"), delta(1, None, node_id="b"), delta(2, None, node_id="c"),
        delta(3, 2, node_id="d"),
    ])  # fmt: skip


def test_delta_on_what_was_to_go(
    store: RedisStore, behind_plans: list[Callable[[], object]]
) -> None:
    start(store)
    behind_plans.append(lambda: commit(store, [delta(4, 0, node_id="e")]))
    assert store.drop_nodes("run", "abc") == DroppedNodes(1, 3, ("a", "c"))
    assert ids(store, NodeRange()) == ["a", "c", "d", "e"]
    check_counts(store)


@pytest.mark.parametrize("blob", [None, state("again")])
def test_save_of_what_was_to_go(
    store: RedisStore, behind_plans: list[Callable[[], object]], blob: bytes | None
) -> None:
    start(store)
    behind_plans.append(lambda: commit(store, [make_row(seq=4, node_id="a", blob=blob)]))
    assert store.drop_nodes("run", "ab") == DroppedNodes(1, 3, ("a",))
    check_counts(store)


def test_older_state_of_what_was_to_go(
    store: RedisStore, behind_plans: list[Callable[[], object]]
) -> None:
    """A row that comes late: it changes neither the newest version of its node nor the newest
    state."""
    commit(store, [make_row(seq=9, node_id="a"), make_row(seq=12, blob=state("12"))])
    behind_plans.append(lambda: commit(store, [make_row(seq=4, node_id="a", blob=state("4"))]))
    assert store.drop_nodes("run", ["a"]) == DroppedNodes(1, 2, ())
    check_counts(store)
    commit(store, [make_row(seq=29, node_id="a"), make_row(seq=32)])
    behind_plans.append(lambda: commit(store, [make_row(seq=24, node_id="a", blob=state("24"))]))
    assert store.drop_nodes("run", ["a"]) == DroppedNodes(0, 0, ("a",)), "it has the newest state"
    check_counts(store)


def test_content_of_what_was_to_go_comes_again(
    store: RedisStore, behind_plans: list[Callable[[], object]]
) -> None:
    """A later row answers for its content then, whether it is full or a delta."""
    start(store)
    again = [
        make_row(seq=4, blob=b"delta", base_hash=b"%16d" % 3, content_hash=b"%16d" % 0),
        make_row(seq=5, blob=b"full", content_hash=b"%16d" % 1),
    ]
    behind_plans.append(lambda: commit(store, again))
    assert store.drop_nodes("run", "ab") == DroppedNodes(2, 6, ())
    assert store.blob_by_hash("run", b"%16d" % 0) == b"delta"
    assert store.blob_by_hash("run", b"%16d" % 1) == b"full"
    check_counts(store)


def test_other_removals_meanwhile(
    store: RedisStore, behind_plans: list[Callable[[], object]]
) -> None:
    start(store)
    behind_plans += [
        lambda: store.drop_checkpoints("run", [(1, 1)]),
        lambda: store.drop_nodes("run", ["a"]),
    ]
    assert store.drop_nodes("run", "ab") == DroppedNodes(1, 0, ()), "what is left for it"
    assert ids(store, NodeRange()) == ["c", "d"]
    check_counts(store)
    behind_plans[:] = [lambda: store.delete_execution("run")]
    commit(store, [delta(4, None, node_id="e")])
    assert store.drop_nodes("run", "cd") == DroppedNodes(0, 0, ())
    assert listing(store) == {}


def test_execution_that_never_keeps_still(
    store: RedisStore, behind_plans: list[Callable[[], object]]
) -> None:
    start(store)
    seqs = itertools.count(10)

    def save() -> None:
        commit(store, [make_row(seq=next(seqs), node_id="a"), make_row(seq=next(seqs))])

    behind_plans += [save] * 100
    with pytest.raises(StoreUnavailableError, match="try again"):
        store.drop_nodes("run", ["a", "b"])
    assert len(behind_plans) == 80
    behind_plans.clear()
    check_counts(store)
    assert store.drop_nodes("run", ["a", "b"]) == DroppedNodes(2, 6, ())


def test_each_part_leaves_an_execution_that_is_whole(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains of deltas over several nodes, in parts of one node; and nodes that are deltas on each
    other, which go in one."""
    monkeypatch.setattr("livingai.stores.redis.drops._PART", 1)
    carry_out, parts = RedisDrops._carry_out, []

    def looked_at(*arguments: Any) -> Any:
        for done in carry_out(*arguments):
            check_counts(store)
            parts.append(done[0])
            yield done

    monkeypatch.setattr(RedisDrops, "_carry_out", looked_at)
    bases = [None, 0, 1, 2, 1, 4, None]
    commit(store, [delta(seq, base, node_id=f"{9 - seq}") for seq, base in enumerate(bases)])
    assert store.drop_nodes("run", [str(number) for number in range(10)]).nodes == 6
    assert parts == [1] * 6
    parts.clear()
    turns = [delta(20 + seq, 19 + seq if seq else None, node_id="xy"[seq % 2]) for seq in range(4)]
    commit(store, [*turns, delta(30, None)])
    assert store.drop_nodes("run", "xy") == DroppedNodes(2, 16, ())
    assert parts == [2]
    check_counts(store)


def test_last_life_that_an_earlier_livingai_did_not_note(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    commit(store, [life(0, Status.FAILED), make_row(seq=1, node_id="a"), make_row(seq=2)])
    run = Keys(prefix_for(tmp_path)).of("run").run
    server.client().hdel(run, "life", "told", "entered", "ended")
    assert store.drop_nodes("run", ["a", "life"]) == DroppedNodes(1, 0, ("life",))
    assert listing(store)["run"][7:9] == ("failed", True)


def test_other_keys_are_as_if_the_nodes_had_never_been(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    kept = [make_row(seq=seq, node_id=f"k{seq}", blob=state(f"{seq}")) for seq in (4, 5)]
    commit(store, kept)
    client, keys = server.client(), Keys(prefix_for(tmp_path))
    before = image(client, tmp_path)
    gone = [make_row(seq=seq, node_id=f"g{seq}", blob=state(f"{seq}")) for seq in range(3)]
    commit(store, [*gone, make_row(seq=3, node_id="g3")])
    assert store.drop_nodes("run", ["g0", "g1", "g2", "g3"]).nodes == 4
    after = image(client, tmp_path)
    assert after[keys.of("run").run].pop(b"dropped") == b"a1a3"
    assert after == before
    assert not any(client.hexists(keys.of("run").nodes, row.node_id) for row in gone)


def image(client: Any, tmp_path: Path) -> dict[bytes, Any]:
    """All keys of a store with what they hold."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(f"{{{prefix_for(tmp_path)}:*", count=1000):
        kind = client.type(key)
        if kind == b"hash":
            found[key] = client.hgetall(key)
        elif kind == b"zset":
            found[key] = client.zrange(key, 0, -1)
        else:
            found[key] = client.get(key)
    return found
