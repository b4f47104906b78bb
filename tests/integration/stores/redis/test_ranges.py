"""Ranges of nodes where the index of ids is not, or not all, what livingai wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from livingai.errors import CorruptRecordError
from livingai.stores.base import DroppedNodes, NodeRange
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import ExecutionKeys, Keys
from livingai.testing import make_row
from livingai.testing.dropping import check_counts
from livingai.testing.ranging import ids
from livingai.testing.rows import commit, contents, state
from tests.support.earlier import Earlier
from tests.support.redis_servers import RedisServer, prefix_for

pytestmark = pytest.mark.redis

IDS = [f"{number:04d}" for number in range(1300)]


def filled(store: RedisStore, tmp_path: Path, count: int) -> ExecutionKeys:
    """The keys of an execution with so many nodes, each with a state."""
    for at in range(0, count, 500):
        commit(store, [
            make_row(seq=seq, node_id=IDS[seq], blob=state(IDS[seq]))
            for seq in range(at, min(at + 500, count))
        ])  # fmt: skip
    return Keys(prefix_for(tmp_path)).of("run")


def indexed(client: Any, keys: ExecutionKeys) -> int:
    """How many nodes the index of ids has."""
    return int(client.zlexcount(keys.places, "[i", "(j"))


def scripts_of(client: Any) -> int:
    """How many scripts the server was sent by their hash."""
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def without_index(client: Any, keys: ExecutionKeys, *left: str) -> None:
    """Make an execution what an earlier livingai would have left, but for these nodes."""
    client.zremrangebylex(keys.places, "[i", "(j")
    for node_id in left:
        client.zadd(keys.places, {f"i:{node_id}": 0})


@pytest.mark.parametrize("left", [(), (IDS[7],), IDS[:1299]])
def test_what_an_earlier_livingai_wrote_is_indexed_by_the_first_range(
    server: RedisServer, store: RedisStore, tmp_path: Path, left: tuple[str, ...]
) -> None:
    keys = filled(store, tmp_path, 1300)
    client = server.client()
    before = list(store.nodes("run"))
    members = client.zrange(keys.places, 0, -1)
    without_index(client, keys, *left)
    assert list(store.nodes("run")) == before
    asked = NodeRange(IDS[1290], backwards=True, limit=20)
    (*_, found) = store.nodes_between("run", asked)
    assert (found.node_id, found.blob) == (IDS[1290], state(IDS[1290]))
    assert ids(store, asked) == IDS[:1289:-1]
    assert client.zrange(keys.places, 0, -1) == members
    calls = scripts_of(client)
    assert ids(store, asked) == IDS[:1289:-1]
    assert scripts_of(client) == calls + 1, "a range is one round trip"
    assert list(store.nodes("run")) == before


def test_index_that_cannot_be_completed(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    """All nodes are then looked at."""
    keys = filled(store, tmp_path, 20)
    client = server.client()
    without_index(client, keys, IDS[3])
    store.drop_checkpoints("run", [(1, 5)])
    with server.configured("maxmemory", "1"):  # nothing may be written
        found = store.nodes_between("run", NodeRange(IDS[4], IDS[7], backwards=True))
        assert [(one.node_id, one.blob, one.first) for one in found] == [
            (IDS[6], state(IDS[6]), (1, 6)),
            (IDS[5], None, (1, 5)),
            (IDS[4], state(IDS[4]), (1, 4)),
        ]
        asked = NodeRange(limit=2, after=(1, 9), upto=(1, 15), states=False)
        assert [(one.node_id, one.blob) for one in store.nodes_between("run", asked)] == [
            (IDS[10], None), (IDS[11], None),
        ]  # fmt: skip
    assert indexed(client, keys) == 1
    assert ids(store, asked) == IDS[10:12]
    assert indexed(client, keys) == 20


def test_index_is_kept_by_all_that_writes(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    keys = filled(store, tmp_path, 30)
    client = server.client()
    assert indexed(client, keys) == 30
    rows = [make_row(seq=40, node_id=IDS[3]), make_row(seq=2, node_id=IDS[20], claim="claim-a")]
    commit(store, rows)
    assert indexed(client, keys) == 30
    store.drop_nodes("run", IDS[:10])
    assert indexed(client, keys) == 21, "the one that was saved last stays"
    assert store.delete_execution("run") == 21
    assert not client.exists(keys.places)
    commit(store, [make_row(claim="next")])
    assert indexed(client, keys) == 1
    store.forget("run")
    assert not client.exists(keys.places)


def test_range_of_evicted_and_foreign_keys(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    keys = filled(store, tmp_path, 5)
    client = server.client()
    whole = {key: client.dump(key) for key in keys[:3]}

    def restore() -> None:
        for key, dumped in whole.items():
            client.restore(key, 0, dumped, replace=True)

    client.delete(keys.places)
    with pytest.raises(CorruptRecordError, match="evicted"):
        store.nodes_between("run", NodeRange())
    restore()
    client.delete(keys.run)
    for again in (False, True):
        if again:  # as a writer does that has not noticed
            commit(store, [make_row(seq=9, node_id=IDS[2], claim="claim-a")])
        with pytest.raises(CorruptRecordError, match="evicted"):
            store.nodes_between("run", NodeRange())
        with pytest.raises(CorruptRecordError, match="evicted"):
            list(store.nodes("run"))
    restore()
    commit(store, [make_row("lone", 1, node_id="lone")])
    client.delete(Keys(prefix_for(tmp_path)).of("lone").run)
    commit(store, [make_row("lone", 2, node_id="lone")])  # it would be there twice
    with pytest.raises(CorruptRecordError, match="evicted"):
        list(store.nodes("lone"))
    client.delete(Keys(prefix_for(tmp_path)).blob("run", "claim-a", 2))
    with pytest.raises(CorruptRecordError, match="evicted"):
        store.nodes_between("run", NodeRange())
    assert ids(store, NodeRange(states=False)) == IDS[:5]
    assert ids(store, NodeRange(IDS[3])) == IDS[3:5]
    client.hset(keys.run, f"w:{IDS[4]}", b"another's")
    with pytest.raises(CorruptRecordError, match="checksum"):
        store.nodes_between("run", NodeRange(states=False))
    for key in (keys.run, keys.places):
        restore()
        client.set(key, "another program's")
        with pytest.raises(CorruptRecordError, match="WRONGTYPE"):
            store.nodes_between("run", NodeRange())
        with pytest.raises(CorruptRecordError, match="WRONGTYPE"):
            store.drop_nodes("run", IDS[:2])
        assert client.get(key) == b"another program's"
        client.delete(key)


def test_narrow_window_of_a_large_execution(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    """A script goes through so many nodes at most; what follows is asked for."""
    count = 11_000
    for at in range(0, count, 1000):
        rows = [make_row(seq=seq, node_id=f"{seq:05d}") for seq in range(at, at + 1000)]
        commit(store, rows)
    calls = scripts_of(server.client())
    asked = NodeRange(after=(1, 10_500), limit=3)
    assert ids(store, asked) == ["10501", "10502", "10503"]
    assert scripts_of(server.client()) - calls == 3
    asked = NodeRange(upto=(1, 400), limit=3, backwards=True)
    assert ids(store, asked) == ["00400", "00399", "00398"]


def test_an_earlier_livingai_beside_this_one(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    """It knows no index of ids; it neither trips over one nor makes a range miss a node."""
    earlier = Earlier("first", tmp_path)

    def there(work: str) -> Any:
        program = f"""
import json
from livingai.node import ExecutionNode, NodeType, Status
from livingai.stores.base import Row
from livingai.stores.redis import RedisStore
def row(seq):
    node = ExecutionNode("run", NodeType.PROMPT, Status.SUCCESS, id=f"run/{{seq}}")
    return Row("run", node.id, "c", 0, seq, node.to_wire(), bytes(9), 1, 9, 1.0)
with RedisStore({server.url!r}, prefix={prefix_for(tmp_path)!r}) as store:
    print(json.dumps({work}))
"""
        done = subprocess.run(
            [sys.executable, "-c", program], env=earlier.environment(), cwd="/", check=True,
            stdout=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        return json.loads(done.stdout)

    def commits(*seqs: int) -> None:
        rows = f"[row(seq) for seq in {seqs}]"
        assert there(f"[int(each.status) for each in store.commit({rows})]") == [1] * len(seqs)

    commit(store, [make_row(seq=seq, claim="c", blob=bytes(9)) for seq in (0, 1, 2)])
    commits(3, 4)
    assert ids(store, NodeRange()) == [f"run/{seq}" for seq in range(5)]
    commits(2, 5)
    asked = NodeRange(backwards=True, limit=3)
    assert ids(store, asked) == ["run/5", "run/4", "run/3"]
    assert there("[node.seq for node in store.nodes('run')]") == [0, 1, 2, 3, 4, 5]
    assert there("store.drop_checkpoints('run', [(1, 1), (1, 4)])") == 18
    assert store.drop_nodes("run", ["run/0", "run/3", "run/4"]) == DroppedNodes(3, 18, ())
    assert there("[node.seq for node in store.nodes('run')]") == [1, 2, 5]
    assert there("[each.seq for each in store.checkpoints('run')]") == [2, 5]
    commits(4)
    assert ids(store, NodeRange()) == ["run/1", "run/2", "run/4", "run/5"]
    check_counts(store)
    there("store.delete_execution('run')")
    assert contents(store) == {"list": {}}
    assert store.nodes_between("run", NodeRange()) == []
    assert not server.client().exists(Keys(prefix_for(tmp_path)).of("run").places)
