"""Which answer each row of a batch gets from Redis, and how durable a stored row is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from livingai.errors import (
    CorruptRecordError,
    FencedError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.stores.base import RowStatus, Store
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import Keys
from livingai.testing import make_row
from livingai.testing.rows import commit, contents, listing, state, statuses
from tests.support.redis_servers import (
    RedisServer,
    binary_on_path,
    needs_waitaof,
    prefix_for,
    shared_server,
)
from tests.support.redis_stores import rows, until_taken

pytestmark = pytest.mark.redis

# --- rows of their own ---


def test_failing_command_in_mid_pipeline_concerns_its_rows_only(
    server: RedisServer, store: RedisStore, tmp_path: Path
) -> None:
    keys = Keys(prefix_for(tmp_path)).of("b")
    for foreign in (keys.run, keys.owners, keys.places):
        server.client().set(foreign, "another program's")
        results = store.commit([*rows(0, "ab"), *rows(1, "bc"), *rows(2, "d")])
        assert [int(result.status) for result in results] == [1, 3, 3, 1, 1]
        assert "WRONGTYPE" in results[1].reason
        assert "b" not in listing(store)
        assert not [key for key in keys[:3] if key != foreign and server.client().exists(key)]
        server.client().delete(foreign)
    assert statuses(store, rows(0, "b")) == [RowStatus.STORED]


def test_value_beyond_the_servers_limit_is_refused(tmp_path: Path) -> None:
    with RedisServer("--proto-max-bulk-len", "1mb") as server, RedisStore(server.url) as store:
        large = make_row("large", blob=bytes(1 << 20))
        results = store.commit([*rows(0, "a"), large, *rows(0, "b")])
        assert [int(result.status) for result in results] == [1, 3, 1]
        assert "proto-max-bulk-len" in results[1].reason
        # Rows of one execution that are too much for one command go in several.
        many = [make_row("many", seq, blob=bytes(400_000)) for seq in range(8)]
        before = commands_of(server)
        commit(store, many)
        assert commands_of(server) - before == 4
        assert listing(store)["many"][3] == 8


def commands_of(server: RedisServer) -> int:
    """How many scripts the server was sent by their hash."""
    return int(server.client().info("commandstats")["cmdstat_evalsha"]["calls"])


# --- what STORE means ---


def test_waiting_for_replicas(server: RedisServer, tmp_path: Path) -> None:
    url = f"{server.url}?prefix={prefix_for(tmp_path)}&wait_replicas=1&wait_timeout_ms=200"
    with RedisStore(url) as store:
        for _ in range(
            2
        ):  # the second time nothing is left to write, and it must wait none the less
            with pytest.raises(StoreUnavailableError, match="0 of 1"):
                store.commit(rows())
        with RedisServer() as other:
            other.client().replicaof("127.0.0.1", server.port)
            until_taken(store, rows())
        with pytest.raises(StoreUnavailableError, match="0 of 1"):
            store.commit(rows(1))


def test_a_new_connection_waits_for_what_another_one_wrote(
    server: RedisServer, tmp_path: Path
) -> None:
    """A server waits only for what a connection has written itself, and a batch that another
    process sends again writes nothing."""
    url = f"{server.url}?prefix={prefix_for(tmp_path)}&wait_replicas=1&wait_timeout_ms=200"
    with RedisServer() as other:
        other.client().replicaof("127.0.0.1", server.port)
        with RedisStore(url) as store:
            until_taken(store, rows())
            other.freeze()
            with pytest.raises(StoreUnavailableError, match="0 of 1"):
                store.commit(rows(1))
        with RedisStore(url) as store:
            with pytest.raises(StoreUnavailableError, match="0 of 1"):
                store.commit(rows(1))
            other.thaw()
            until_taken(store, rows(1))


def test_wait_aof_needs_a_server_that_can(tmp_path: Path) -> None:
    binary = binary_on_path()
    if binary is None:
        pytest.skip("no Redis server on PATH")
    with RedisServer(binary=binary) as old:
        if old.has_waitaof():
            pytest.skip(f"{binary} is none that lacks WAITAOF")
        with pytest.raises(StoreFormatError, match=r"wait_aof needs 7\.2"):
            RedisStore(old.url, wait_aof=(1, 0)).open()


def test_waiting_for_the_append_only_file(server: RedisServer, tmp_path: Path) -> None:
    needs_waitaof(server)
    store = RedisStore(server.url, prefix=prefix_for(tmp_path), wait_aof=(1, 0))
    assert store.capabilities.durable
    with store:
        commit(store, rows())
    store = RedisStore(
        server.url, prefix=prefix_for(tmp_path), wait_aof=(1, 1), wait_timeout_ms=200
    )
    with store, pytest.raises(StoreUnavailableError, match="0 of 1"):
        store.commit(rows(1))
    with RedisServer() as other, RedisStore(other.url, wait_aof=(1, 0)) as store:
        with pytest.raises(Exception, match="appendonly") as raised:
            store.commit(rows())
        assert not isinstance(raised.value, StoreUnavailableError)


def test_warns_of_what_would_lose_data(caplog: pytest.LogCaptureFixture) -> None:
    eviction = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with RedisServer(*eviction) as server, RedisStore(server.url):
        assert "noeviction" in caplog.text
        assert "append-only" in caplog.text
    caplog.clear()
    with RedisStore(shared_server().url, prefix="t-warn"):
        assert not caplog.text


def test_evicted_blob_is_reported_and_healed_by_the_same_row(
    server: RedisServer, store: Store, tmp_path: Path
) -> None:
    batch = rows()
    commit(store, batch)
    before = contents(store)
    key = Keys(prefix_for(tmp_path)).blob("a", batch[0].claim, 0)
    server.client().delete(key)
    with pytest.raises(ValueError, match="evicted"):
        store.latest_checkpoint("a")
    commit(store, batch)
    assert contents(store) == before


DAMAGED = {
    "owner": ("owners", "newest"), "claim": ("owners", "=claim-a"), "count": ("run", "nodes"),
    "head": ("run", "h:a/0"), "checkpoint": ("run", "c:a1a0"), "version": ("run", "v"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_what_another_program_changed_concerns_its_execution_alone(
    server: RedisServer, store: Store, tmp_path: Path, what: str
) -> None:
    """Before, the script's error was taken for the server's, and the batch was sent for ever."""
    commit(store, rows())
    key, field = DAMAGED[what]
    keys = Keys(prefix_for(tmp_path)).of("a")
    server.client().hset(getattr(keys, key), field, b"\x93\x01")
    again = make_row("a", 1, node_id="a/0", blob=state("a 1"))
    result, *others = store.commit([again, *rows(1, "bc")])
    assert result.status in (RowStatus.REFUSED, RowStatus.STORED)
    assert [other.status for other in others] == [RowStatus.STORED] * 2
    for read in (
        lambda: store.latest_checkpoint("a"),
        lambda: store.load_node("a/0"),
        lambda: list(store.nodes("a")),
        lambda: list(store.checkpoints("a")),
        lambda: store.owners("a"),
        store.list_executions,
        lambda: store.claim("a", "next"),
    ):
        with suppress(CorruptRecordError, FencedError):
            read()
    assert store.latest_checkpoint("b") is not None


def test_everything_flushed(server: RedisServer, store: Store) -> None:
    commit(store, rows())
    server.client().flushall()
    assert listing(store) == {}
    commit(store, rows(1))
    assert set(listing(store)) == set("abc")
