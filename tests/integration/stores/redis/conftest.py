"""A Redis server for the tests of this folder, and a store for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.stores.redis import RedisStore
from tests.support.redis_servers import (
    RedisServer,
    prefix_for,
)


@pytest.fixture(scope="package")
def server() -> Iterator[RedisServer]:
    """A server that the tests of this folder may mistreat, one after the other."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def store(server: RedisServer, tmp_path: Path) -> Iterator[RedisStore]:
    store = RedisStore(server.url, prefix=prefix_for(tmp_path), timeout_s=2, wait_timeout_ms=500)
    with store:
        yield store
