"""Redis servers that fail for a while, and connections that are lost in mid-batch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from livingai.errors import (
    StoreUnavailableError,
)
from livingai.stores.base import Store
from livingai.stores.redis import RedisStore
from livingai.testing import make_row
from livingai.testing.rows import commit, contents, listing, state
from tests.support.redis_servers import (
    RedisServer,
    prefix_for,
)
from tests.support.redis_stores import rows, until_taken
from tests.support.waiting import until

pytestmark = pytest.mark.redis


def refuses(store: Store, seq: int, words: str) -> None:
    """Nothing is taken, transiently; and reads still work or say the same."""
    with pytest.raises(StoreUnavailableError, match=words):
        store.commit(rows(seq))
    with pytest.raises(StoreUnavailableError, match=words):
        store.claim("another", "claim")


def test_out_of_memory(server: RedisServer, store: Store) -> None:
    commit(store, rows())
    with server.configured("maxmemory", "1"):
        refuses(store, 1, "OOM")
        assert set(listing(store)) == set("abc"), "reads go on"
    before = contents(store)
    commit(store, rows(1))
    assert before != contents(store)


def test_read_only_replica(server: RedisServer, tmp_path: Path) -> None:
    prefix = prefix_for(tmp_path)
    with RedisStore(server.url, prefix=prefix) as primary, RedisServer() as other:
        commit(primary, rows())
        other.client().replicaof("127.0.0.1", server.port)
        replicated = f"{prefix}:schema"
        until(lambda: other.client().exists(replicated), what="replication")
        with RedisStore(other.url, prefix=prefix) as store:
            refuses(store, 1, "READONLY")
            assert contents(store) == contents(primary)
            other.client().replicaof("NO", "ONE")
            commit(store, rows(1))


def test_snapshot_that_fails(tmp_path: Path) -> None:
    with RedisServer() as server, RedisStore(server.url) as store:
        commit(store, rows())
        (server.folder / "dump.rdb").mkdir()  # the new snapshot cannot take this name
        server.client().config_set("save", "3600 1")
        server.client().bgsave()
        until(
            lambda: server.client().info("persistence")["rdb_last_bgsave_status"] == "err",
            what="a snapshot that failed",
        )
        refuses(store, 1, "MISCONF")
        (server.folder / "dump.rdb").rmdir()
        server.client().config_set("save", "")
        commit(store, rows(1))


def test_server_that_is_loading() -> None:
    slow = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    with RedisServer() as server, RedisStore(server.url, timeout_s=10) as store:
        commit(store, [make_row(f"run-{n}", blob=state("x" * 2000)) for n in range(100)])
        before = contents(store)
        server.client().save()
        server.kill()
        server.options += slow
        server.launch()
        until(lambda: _is_loading(server), what="a server that is loading")
        with pytest.raises(StoreUnavailableError, match=r"LOADING|reached"):
            store.commit(rows())
        server.client().config_set("key-load-delay", "0")
        until(server.answers, what="a loaded server", timeout=30)
        assert contents(store) == before
        commit(store, rows())


def _is_loading(server: RedisServer) -> bool:
    try:
        server.client().get("x")
    except redis.BusyLoadingError:
        return True
    except redis.RedisError:
        pass
    return False


def test_server_that_sleeps_or_is_stopped(server: RedisServer, tmp_path: Path) -> None:
    short = RedisStore(server.url, prefix=prefix_for(tmp_path), timeout_s=0.3, wait_timeout_ms=100)
    with short as store:
        commit(store, rows())
        sleeper = threading.Thread(
            target=server.client().execute_command, args=("DEBUG SLEEP", 1.5)
        )
        sleeper.start()
        _until_unavailable(store)
        sleeper.join()
        server.freeze()
        try:
            refuses(store, 2, "reached")  # while the server is stopped
        finally:
            server.thaw()
        until_taken(store, rows(2))
        assert listing(store)["a"][1] == 2


def _until_unavailable(store: Store) -> None:
    def look() -> bool:
        try:
            store.commit(rows(1))
        except StoreUnavailableError:
            return True
        return False

    until(look, what="a server that sleeps")


def test_too_many_clients(server: RedisServer, tmp_path: Path) -> None:
    clients = len(server.client().client_list())
    with server.configured("maxclients", str(clients)):
        store = RedisStore(server.url, prefix=prefix_for(tmp_path))
        with pytest.raises(StoreUnavailableError, match="max number of clients"):
            store.open()
    with store:
        commit(store, rows())


def test_connections_killed_in_mid_batch(server: RedisServer, store: Store) -> None:
    killer = redis.Redis(port=server.port, protocol=2)

    def kill() -> int:
        return int(killer.client_kill_filter(_type="normal", skipme=True))

    with ThreadPoolExecutor(1) as pool, killer:
        killed = []
        for seq in range(60):
            batch = [make_row(f"run-{n}", seq, blob=state("x" * 20_000)) for n in range(30)]
            killed.append(pool.submit(kill))
            until_taken(store, batch)
        assert sum(one.result() for one in killed) > 0
    for info in store.list_executions():
        assert (info.epoch, info.seq, info.nodes, info.checkpoints) == (1, 59, 60, 60)
        assert [node.seq for node in store.nodes(info.execution_id)] == list(range(60))
    assert len(store.list_executions()) == 30


def test_forgotten_scripts(server: RedisServer, store: Store) -> None:
    commit(store, rows())
    server.client().script_flush()
    commit(store, rows(1) + rows(2))
    server.client().script_flush()
    assert [info.seq for info in store.list_executions()] == [2, 2, 2]
    assert store.load_node("a/1") is not None
    server.client().script_flush()
    assert store.claim("a", "next") == 2
