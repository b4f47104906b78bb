"""kill -9 of the Redis server in mid-batch, and what befalls a cluster, while agents save."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.crc import key_slot

from livingai.errors import StoreUnavailableError
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import Keys
from livingai.testing import make_row
from livingai.testing.rows import commit
from tests.support.kill_campaign import Break, campaign
from tests.support.redis_servers import RedisCluster, RedisServer, needs_waitaof
from tests.support.waiting import until

pytestmark = [pytest.mark.redis, pytest.mark.timeout(1800)]
SEED = int(os.environ.get("LIVINGAI_SEED", "1"))
KILLS = 5
#: Redis keeps a promise about what it has acknowledged only like this.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(*DURABLE) as server:
        yield server


def kill_and_restart(server: RedisServer, while_down: Callable[[], None]) -> None:
    server.kill()
    while_down()
    server.start()


def killed(server: RedisServer) -> Break:
    return lambda rng, while_down: kill_and_restart(server, while_down)


def test_server_killed_in_mid_batch(server: RedisServer, place: Path) -> None:
    store = RedisStore(server.url)
    campaign(store, place, killed(server), seed=SEED, times=KILLS)


@pytest.mark.faults
def test_server_killed_in_mid_batch_100_times(server: RedisServer, place: Path) -> None:
    store = RedisStore(server.url)
    campaign(store, place, killed(server), seed=SEED, times=100)


@pytest.mark.faults
def test_commits_that_wait_for_the_append_only_file(place: Path) -> None:
    """With appendfsync everysec the server answers before it has synced; wait_aof waits for it."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "everysec") as server:
        needs_waitaof(server)
        store = RedisStore(server.url, wait_aof=(1, 0))
        campaign(store, place, killed(server), seed=SEED, times=2)


# --- cluster ---


@pytest.mark.faults
@pytest.mark.cluster
def test_cluster_node_killed_and_restarted(place: Path) -> None:
    cluster = RedisCluster(0, *DURABLE).start()
    try:

        def kill_one(rng: random.Random, while_down: Callable[[], None]) -> None:
            victim = rng.choice(cluster.primaries)
            kill_and_restart(victim, while_down)
            until(lambda: all(map(cluster.is_whole, cluster.servers)),
                  what="a whole cluster", timeout=60)  # fmt: skip

        campaign(RedisStore(cluster.url), place, kill_one, seed=SEED, times=KILLS)
    finally:
        cluster.close()


@pytest.mark.faults
@pytest.mark.cluster
def test_cluster_failover(place: Path) -> None:
    """Each commit waits for a replica, so that the one that takes over has it."""
    cluster = RedisCluster(1, *DURABLE).start()
    primary, replica = cluster.primaries[0], cluster.servers[3]
    try:

        def fail_over(rng: random.Random, while_down: Callable[[], None]) -> None:
            primary.kill()
            while_down()
            until(lambda: replica.client().info("replication")["role"] == "master",
                  what="a failover", timeout=60)  # fmt: skip
            until(lambda: cluster.is_whole(replica), what="a whole cluster", timeout=60)

        campaign(RedisStore(cluster.url), place, fail_over, seed=SEED, times=1)
    finally:
        cluster.close()


@pytest.mark.faults
@pytest.mark.cluster
def test_store_opened_in_the_midst_of_a_failover(tmp_path: Path) -> None:
    cluster = RedisCluster(1, *DURABLE).start()
    primary, replica = cluster.primaries[0], cluster.servers[3]
    stores = [RedisStore(cluster.url, prefix=f"p{number}") for number in range(8)]
    try:
        for store in stores[:4]:
            store._link.open()  # knows the cluster as it was
        primary.kill()
        for store in stores:
            with suppress(StoreUnavailableError):
                store.open()
        until(lambda: replica.client().info("replication")["role"] == "master",
              what="a failover", timeout=60)  # fmt: skip
        until(lambda: cluster.is_whole(replica), what="a whole cluster", timeout=60)
        for store in stores:
            until(lambda s=store: _takes_a_row(s), what="a store that has noticed")  # type: ignore[misc]
            store.close()
    finally:
        cluster.close()


def _takes_a_row(store: RedisStore) -> bool:
    try:
        commit(store, [make_row(f"run-{number}") for number in range(20)])
    except StoreUnavailableError:
        return False
    return True


@pytest.mark.cluster
def test_slots_are_moved(place: Path) -> None:
    """ASK, TRYAGAIN and MOVED, in the midst of everything; and back again."""
    cluster = RedisCluster(0, *DURABLE).start()
    keys = Keys("livingai")
    slots = sorted({key_slot(keys.of(f"run-{n}").run) for n in range(8)})
    homes = dict.fromkeys(slots, -1)
    for slot in slots:
        homes[slot] = slot // (16384 // 3 + 1)
    try:

        def move(rng: random.Random, while_down: Callable[[], None]) -> None:
            slot = rng.choice(slots)
            source = homes[slot]
            target = homes[slot] = rng.choice([number for number in range(3) if number != source])
            move_slot(cluster, slot, cluster.servers[source], cluster.servers[target])

        campaign(RedisStore(cluster.url), place, move, seed=SEED, times=12)
    finally:
        cluster.close()


def move_slot(cluster: RedisCluster, slot: int, source: RedisServer, target: RedisServer) -> None:
    """As ``redis-cli --cluster reshard`` does it, some keys at a time.

    First all nodes have to agree: a target that has not heard of the newest configuration epoch
    takes the slot with one that loses against it, and Redis then drops the slot's keys.
    """
    until(cluster.agrees, what="nodes that agree on slots and epochs", timeout=60)
    source_id, target_id = cluster.id_of(source), cluster.id_of(target)
    target.client().execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
    source.client().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)

    def none_left() -> bool:
        found = source.client().execute_command("CLUSTER GETKEYSINSLOT", slot, 20)
        if found:
            source.client().execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *found
            )
        return not found

    until(none_left, what=f"slot {slot} without keys", timeout=60)
    for server in (target, source, *cluster.servers):
        server.client().execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
