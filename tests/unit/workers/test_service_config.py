"""The service's settings on their way between processes, which may be of different versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import ConfigurationError
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore

#: What a livingai from before there was a linger takes, and needs.
EARLIER = {
    "directory", "store_path", "store_kwargs", "compressors", "writers", "codec", "idle_s",
    "cache_bytes", "foreground", "served", "retention",
}  # fmt: skip


def config(folder: Path, **settings: float) -> ServiceConfig:
    """The settings of a service."""
    own = EngineConfig.build(None, settings, "a test")  # type: ignore[arg-type]
    return ServiceConfig.build(SQLiteStore(folder / "a.db"), str(folder), own)


@pytest.mark.parametrize("linger_ms", [0, 25.0, 100])
def test_they_arrive(tmp_path: Path, linger_ms: float) -> None:
    sent = config(tmp_path, linger_ms=linger_ms, drain_s=linger_ms)
    assert ServiceConfig.from_dict(json.loads(json.dumps(sent.to_dict()))) == sent


def test_an_earlier_version_gets_what_it_knows(tmp_path: Path) -> None:
    assert set(config(tmp_path).to_dict()) == EARLIER
    assert set(config(tmp_path, linger_ms=7.0, drain_s=7.0).for_workers()) == EARLIER


def test_what_a_later_version_adds_is_left_out(tmp_path: Path) -> None:
    sent = config(tmp_path)
    assert ServiceConfig.from_dict({**sent.to_dict(), "of_tomorrow": 1}) == sent


def test_no_more_writers_than_the_store_takes(tmp_path: Path) -> None:
    """Two would be in each other's way at every commit to SQLite."""
    assert config(tmp_path, writers=8).writers == 1
    own = EngineConfig.build(None, {"writers": 3}, "a test")
    store = RedisStore("redis://nowhere")
    assert ServiceConfig.build(store, str(tmp_path), own).writers == 3


@pytest.mark.parametrize("name", ["budget_ms", "idle_s", "linger_ms", "cache_ttl_s", "drain_s"])
def test_no_number_is_no_setting(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        EngineConfig.build(None, {name: float("nan")}, "a test")  # type: ignore[arg-type]
