"""A cluster of three primaries against the store contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import settings

from livingai.stores.base import Store
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import BUCKETS, Keys
from livingai.testing import make_row, store_machine
from livingai.testing.rows import commit, listing
from tests.conformance.test_redis import RedisHooks
from tests.support.redis_servers import SLOTS, prefix_for, shared_cluster

pytestmark = [pytest.mark.redis, pytest.mark.cluster]


def make_store(directory: Path) -> RedisStore:
    return RedisStore(shared_cluster().url, prefix=prefix_for(directory))


class TestRedisClusterStore(RedisHooks):
    __test__ = True

    def client(self) -> Any:
        return _client()

    def make_store(self, tmp_path: Path) -> Store:
        return make_store(tmp_path)

    @contextmanager
    def unavailable(self, tmp_path: Path) -> Iterator[None]:
        with ExitStack() as stack:
            for server in shared_cluster().servers:
                stack.enter_context(server.configured("maxmemory", "1"))
            yield

    def test_one_known_node_is_enough(self, store: Store, tmp_path: Path) -> None:
        commit(store, [make_row(f"run-{number}") for number in range(50)])
        for server in shared_cluster().servers:
            url = f"redis+cluster://127.0.0.1:{server.port}"
            with RedisStore(url, prefix=prefix_for(tmp_path)) as other:
                assert listing(other) == listing(store)

    def test_executions_are_spread_evenly_over_the_slots(self, tmp_path: Path) -> None:
        keys = Keys(prefix_for(tmp_path))
        slots = sorted(_client().keyslot(key) for key in keys.ids)
        assert [slot * BUCKETS // SLOTS for slot in slots] == list(range(BUCKETS))
        for number in range(50):
            found = keys.of(f"run-{number}}}{{")
            blob = keys.blob(f"run-{number}}}{{", "claim}", 7)
            assert len({_client().keyslot(key) for key in (*found, blob, keys.barrier(blob))}) == 1


TestRedisClusterMachine = store_machine(make_store).TestCase
TestRedisClusterMachine.settings = settings(max_examples=20, stateful_step_count=20)


@lru_cache(maxsize=1)
def _client() -> Any:
    return redis.RedisCluster(host="127.0.0.1", port=shared_cluster().servers[0].port)
