"""What a Redis server says when it refuses, and what a lost connection leaves: real servers."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from livingai.errors import (
    CorruptRecordError,
    FencedError,
    StoreAuthenticationError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.stores.base import RowStatus, Store
from livingai.stores.redis import RedisStore
from livingai.stores.redis.connect import version_number
from livingai.stores.redis.keys import Keys
from livingai.testing import make_row
from livingai.testing.rows import commit, contents, listing, state, statuses
from tests.support.redis_servers import (
    RedisServer,
    binary_on_path,
    missing,
    needs_waitaof,
    packaged_binary,
    prefix_for,
    shared_cluster,
    shared_server,
)
from tests.support.waiting import until

pytestmark = pytest.mark.redis
SECRET = "s3cret/@:#"
QUOTED = "s3cret%2F%40%3A%23"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that the tests of this module may mistreat, one after the other."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def store(server: RedisServer, tmp_path: Path) -> Iterator[RedisStore]:
    store = RedisStore(server.url, prefix=prefix_for(tmp_path), timeout_s=2, wait_timeout_ms=500)
    with store:
        yield store


def rows(seq: int = 0, runs: str = "abc") -> list[Any]:
    return [make_row(name, seq, blob=state(f"{name} {seq}")) for name in runs]


def refuses(store: Store, seq: int, words: str) -> None:
    """Nothing is taken, transiently; and reads still work or say the same."""
    with pytest.raises(StoreUnavailableError, match=words):
        store.commit(rows(seq))
    with pytest.raises(StoreUnavailableError, match=words):
        store.claim("another", "claim")


# --- who may ---


def test_wrong_password_is_a_typed_error_without_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer("--requirepass", SECRET) as server:
        host = f"127.0.0.1:{server.port}"
        store = RedisStore(f"redis://:wr0ng{QUOTED}@{host}/0")
        with pytest.raises(StoreAuthenticationError, match="password") as raised:
            store.commit(rows())
        without = RedisStore(f"redis://{host}/0")
        with pytest.raises(StoreAuthenticationError):
            without.open()
        good = RedisStore(f"redis://:{QUOTED}@{host}/0")
        with good:
            commit(good, rows())
        shown = [
            str(raised.value), repr(raised.value), repr(store), store.url, caplog.text,
            store.default_directory(), repr(good.url), repr(good._address),
        ]  # fmt: skip
        assert not [text for text in shown if "cret" in text or "wr0ng" in text]
        assert good.url == without.url == f"redis://{host}/0"
        assert pickle.loads(pickle.dumps(raised.value)).args == raised.value.args


def test_missing_right_is_named(server: RedisServer, tmp_path: Path) -> None:
    server.client().execute_command(
        "ACL SETUSER", "narrow", "on", ">pw", "~t-*", "+@all", "-evalsha"
    )
    url = f"redis://narrow:pw@127.0.0.1:{server.port}/0"
    store = RedisStore(url, prefix=prefix_for(tmp_path))
    with store, pytest.raises(StoreAuthenticationError, match="evalsha"):
        store.commit(rows())
    with pytest.raises(StoreAuthenticationError, match="keys"):
        RedisStore(url, prefix="elsewhere").open()


def test_least_rights_that_the_page_names_are_enough(server: RedisServer, tmp_path: Path) -> None:
    rights = ["+@read", "+@write", "+eval", "+evalsha", "+hello", "+wait"]
    if server.has_waitaof():  # both came with Redis 7.2
        rights.append("+client|setinfo")
    server.client().execute_command(
        "ACL SETUSER", "least", "on", ">pw", "~t-*", "~{t-*", "-@all", *rights
    )
    url = f"redis://least:pw@127.0.0.1:{server.port}/0"
    with RedisStore(url, prefix=prefix_for(tmp_path)) as store:
        commit(store, rows())
        assert store.claim("a", "next") == 2
        assert len(contents(store)) > 3
        assert store.delete_execution("a") == 1


# --- what kind of server ---


def test_version_numbers() -> None:
    assert version_number("7.2.4") == (7, 2, 4)
    assert version_number("6.0.16") < (6, 2) <= version_number("6.2.0")
    assert version_number("8.0-rc1") == (8,)
    assert version_number("") == ()


def test_server_without_hello_is_too_old() -> None:
    """No server older than 6.2 is in any wheel; one that has lost HELLO answers as 5 would."""
    old = RedisServer("--rename-command", "HELLO", "")
    with old, pytest.raises(StoreFormatError, match=r"Redis 6\.2"):
        RedisStore(old.url).open()


@pytest.mark.parametrize("found", ["livingai 2 64", "somebody else's"])
def test_newer_or_foreign_schema(server: RedisServer, tmp_path: Path, found: str) -> None:
    prefix = prefix_for(tmp_path)
    server.client().set(f"{prefix}:schema", found)
    store = RedisStore(server.url, prefix=prefix)
    for _ in range(2):
        with pytest.raises(StoreFormatError, match=r"upgrade livingai|another prefix"):
            store.commit(rows())


def test_missing_database(server: RedisServer) -> None:
    with pytest.raises(StoreFormatError, match="number in the URL"):
        RedisStore(f"redis://127.0.0.1:{server.port}/99").open()


@pytest.mark.cluster
def test_cluster_and_single_server_are_told_apart(server: RedisServer) -> None:
    with pytest.raises(StoreFormatError, match=r"redis\+cluster://"):
        RedisStore(shared_cluster().servers[0].url).open()
    with pytest.raises(StoreFormatError, match="no cluster"):
        RedisStore(f"redis+cluster://127.0.0.1:{server.port}").open()


def test_nobody_listens(tmp_path: Path) -> None:
    began = time.monotonic()
    store = RedisStore("redis://127.0.0.1:1/0")
    store.validate()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        store.open()
    with pytest.raises(StoreUnavailableError):
        RedisStore("redis+cluster://127.0.0.1:1").open()
    with pytest.raises(StoreUnavailableError):
        RedisStore(f"unix://{tmp_path}/none.sock").open()
    assert time.monotonic() - began < 10


def test_sentinel(server: RedisServer, tmp_path: Path) -> None:
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\n")
    sentinel = RedisServer("--sentinel", binary=_sentinel_binary(tmp_path, config))
    with sentinel:
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/main/2"
        with RedisStore(url, prefix=prefix_for(tmp_path)) as store:
            commit(store, rows())
            assert list(listing(store)) == ["a", "b", "c"]
        assert redis.Redis(port=server.port, db=2).exists(f"{prefix_for(tmp_path)}:schema")
        with pytest.raises(StoreFormatError, match=r"redis\+sentinel"):
            RedisStore(f"redis://127.0.0.1:{sentinel.port}").open()


def _sentinel_binary(folder: Path, config: Path) -> str:
    """A sentinel takes its configuration from a file, which it rewrites."""
    script = folder / "sentinel"
    binary = packaged_binary() or missing("Valkey server")
    script.write_text(
        f"#!/bin/sh\nshift 2\nport=$2\nexec {binary} {config} --sentinel --bind 127.0.0.1"
        f' --port "$port" --logfile {folder}/sentinel.log\n'
    )
    script.chmod(0o700)
    return str(script)


# --- trouble that passes ---


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
        until(lambda: other.client().exists(replicated), what="replication", timeout=20)
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
            began = time.monotonic()
            refuses(store, 2, "reached")
            assert time.monotonic() - began < 5
        finally:
            server.thaw()
        _until_taken(store, rows(2))
        assert listing(store)["a"][1] == 2


def _until_unavailable(store: Store) -> None:
    def look() -> bool:
        try:
            store.commit(rows(1))
        except StoreUnavailableError:
            return True
        return False

    until(look, what="a server that sleeps", timeout=1.4)


def _until_taken(store: Store, batch: list[Any]) -> None:
    def look() -> bool:
        try:
            commit(store, batch)
        except StoreUnavailableError:
            return False
        return True

    until(look, what="a batch that is taken", timeout=20)


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
            _until_taken(store, batch)
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
        commit(store, many)
        assert listing(store)["many"][3] == 8


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
            _until_taken(store, rows())
        with pytest.raises(StoreUnavailableError, match="0 of 1"):
            store.commit(rows(1))


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
