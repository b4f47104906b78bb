"""What befalls one Redis server, one thing after the other, while agents save through a service."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from livingai.stores.redis import RedisStore
from tests.support.kill_campaign import campaign
from tests.support.ports import free_port
from tests.support.redis_servers import RedisServer
from tests.support.waiting import until

pytestmark = [pytest.mark.redis, pytest.mark.timeout(1800)]
SEED = int(os.environ.get("LIVINGAI_SEED", "1"))
#: Called while the server is in trouble: waits until agents have saved on.
WhileDown = Callable[[], None]


def out_of_memory(server: RedisServer, while_down: WhileDown) -> None:
    """-OOM, as ``maxmemory`` with ``noeviction`` says."""
    with server.configured("maxmemory", "1"):
        while_down()


def read_only(server: RedisServer, while_down: WhileDown) -> None:
    """READONLY: it was made the replica of a primary that cannot be reached."""
    server.client().replicaof("127.0.0.1", free_port())
    while_down()
    server.client().replicaof("NO", "ONE")


def snapshot_fails(server: RedisServer, while_down: WhileDown) -> None:
    """MISCONF: writes are refused since a snapshot could not be written."""
    name = server.folder / "dump.rdb"
    name.unlink(missing_ok=True)
    name.mkdir()
    server.client().config_set("save", "3600 1")
    server.client().bgsave()

    def failed() -> bool:
        return bool(server.client().info("persistence")["rdb_last_bgsave_status"] == "err")

    until(failed, what="a snapshot that failed")
    while_down()
    server.client().config_set("save", "")
    name.rmdir()


def sleeps(server: RedisServer, while_down: WhileDown) -> None:
    """It answers nothing for longer than the store waits."""
    sleeper = threading.Thread(target=server.client().execute_command, args=("DEBUG SLEEP", 1.5))
    sleeper.start()
    while_down()
    sleeper.join()


def stopped(server: RedisServer, while_down: WhileDown) -> None:
    """SIGSTOP."""
    server.freeze()
    try:
        while_down()
    finally:
        server.thaw()


def clients_killed(server: RedisServer, while_down: WhileDown) -> None:
    """CLIENT KILL, again and again, so that some are in the midst of a batch."""
    halt = threading.Event()
    killed = []

    def kill() -> None:
        with redis.Redis(port=server.port, protocol=2) as killer:
            while not halt.wait(0.02):
                killed.append(int(killer.client_kill_filter(_type="normal", skipme=True)))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while_down()
        until(lambda: sum(killed) > 3, what="killed connections")
    finally:
        halt.set()
        killer.join()


def no_more_clients(server: RedisServer, while_down: WhileDown) -> None:
    """Its connection is ended, and no new one is accepted."""
    client = server.client()
    with server.configured("maxclients", "1"):
        client.client_kill_filter(_type="normal", skipme=True)
        while_down()


def scripts_forgotten(server: RedisServer, while_down: WhileDown) -> None:
    """SCRIPT FLUSH, as after a failover."""
    server.client().script_flush()
    while_down()


def killed_and_loading(server: RedisServer, while_down: WhileDown) -> None:
    """kill -9; then LOADING for a while, as with a large append-only file."""
    server.client().bgrewriteaof()  # a snapshot: only while that is loaded is anybody answered

    def rewritten() -> bool:
        info = server.client().info("persistence")
        return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    until(rewritten, what="a rewritten append-only file")
    server.kill()
    while_down()
    options = list(server.options)
    slow = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    server.options += slow
    server.launch()
    server.options = options
    until(lambda: is_loading(server), what="a server that is loading")
    while_down()
    server.client().config_set("key-load-delay", "0")
    until(server.answers, what="a loaded server", timeout=60)


def is_loading(server: RedisServer) -> bool:
    try:
        server.client().get("x")
    except redis.BusyLoadingError:
        return True
    except redis.RedisError:
        pass
    return False


TROUBLE = [
    out_of_memory, read_only, snapshot_fails, sleeps, stopped, clients_killed, no_more_clients,
    scripts_forgotten, killed_and_loading,
]  # fmt: skip


def run(place: Path, rounds: int) -> None:
    """All of :data:`TROUBLE`, in an order that the seed says."""
    waiting: list[Callable[[RedisServer, WhileDown], None]] = []
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:

        def trouble(rng: random.Random, while_down: WhileDown) -> None:
            if not waiting:
                waiting.extend(rng.sample(TROUBLE, len(TROUBLE)))
            befalls = waiting.pop()
            print(befalls.__name__)
            befalls(server, while_down)

        store = RedisStore(server.url, timeout_s=0.5, wait_timeout_ms=100)
        campaign(store, place, trouble, seed=SEED, times=rounds * len(TROUBLE))


def test_everything_that_befalls_a_server(place: Path) -> None:
    run(place, 1)


@pytest.mark.faults
def test_everything_that_befalls_a_server_10_times(place: Path) -> None:
    run(place, 10)
