"""Redis and Valkey against the store contract: the server of the wheel, and others found here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import settings

from livingai.stores.base import Row, Store
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import Keys
from livingai.testing import StoreConformance, store_machine
from livingai.testing.conformance import Part
from tests.support.redis_servers import RedisServer, binary_on_path, prefix_for, shared_server

pytestmark = pytest.mark.redis


def make_store(directory: Path) -> RedisStore:
    return RedisStore(shared_server().url, prefix=prefix_for(directory))


class RedisHooks(StoreConformance):
    """What the conformance class asks of a Redis server, however it is reached."""

    __test__ = False

    def url(self) -> str:
        raise NotImplementedError

    def client(self) -> Any:
        return _client(self.url())

    def make_store(self, tmp_path: Path) -> Store:
        return RedisStore(self.url(), prefix=prefix_for(tmp_path))

    def raw_get(self, tmp_path: Path, part: Part, row: Row) -> bytes:
        keys = Keys(prefix_for(tmp_path))
        if part == "node":
            found = self.client().hget(keys.of(row.execution_id).run, f"w:{row.node_id}")
        else:
            found = self.client().get(keys.blob(row.execution_id, row.claim, row.seq))
        assert isinstance(found, bytes)
        return found

    def raw_set(self, tmp_path: Path, part: Part, row: Row, data: bytes) -> None:
        keys = Keys(prefix_for(tmp_path))
        if part == "node":
            run = keys.of(row.execution_id).run
            assert self.client().hset(run, f"w:{row.node_id}", data) == 0
        else:
            key = keys.blob(row.execution_id, row.claim, row.seq)
            assert self.client().set(key, data, xx=True)

    @contextmanager
    def unavailable(self, tmp_path: Path) -> Iterator[None]:
        before = self.client().config_get("maxmemory")["maxmemory"]
        self.client().config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.client().config_set("maxmemory", before)


class TestRedisStore(RedisHooks):
    __test__ = True

    def url(self) -> str:
        return shared_server().url


TestRedisMachine = store_machine(make_store).TestCase
TestRedisMachine.settings = settings(max_examples=40, stateful_step_count=20)


class TestRedisStoreOverUnixSocket(RedisHooks):
    __test__ = True

    def url(self) -> str:
        return f"unix://{shared_server().socket}?db=1"


@lru_cache
def _client(url: str) -> Any:
    return redis.Redis.from_url(url, protocol=2)


if os.environ.get("LIVINGAI_TEST_REDIS_URL"):

    class TestRedisStoreByUrl(RedisHooks):
        __test__ = True

        def url(self) -> str:
            return os.environ["LIVINGAI_TEST_REDIS_URL"]

        @pytest.fixture(autouse=True)
        def _leave_nothing(self, tmp_path: Path) -> Iterator[None]:
            yield
            for pattern in (f"{prefix_for(tmp_path)}:*", f"{{{prefix_for(tmp_path)}:*"):
                for key in self.client().scan_iter(pattern, count=1000):
                    self.client().delete(key)


if binary_on_path():

    @lru_cache(maxsize=1)
    def _server_on_path() -> RedisServer:
        return RedisServer("--appendonly", "yes", binary=binary_on_path()).start()

    class TestRedisStoreOnPath(RedisHooks):
        __test__ = True

        def url(self) -> str:
            return _server_on_path().url
