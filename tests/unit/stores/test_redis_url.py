"""Addresses of Redis stores: what is understood, what is refused, what is never shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from livingai.errors import ConfigurationError
from livingai.stores.opening import open_store
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import (
    BUCKETS,
    Keys,
    entries,
    entry,
    parse_version,
    sortable,
    version,
)
from tests.support.patience import patience

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://h", "redis://h:6379/0"),
        (f"redis://u:{SECRET}@h:7/3", "redis://h:7/3"),
        (f"redis://:{SECRET}@[::1]:7", "redis://[::1]:7/0"),
        ("redis://h?db=4&socket_keepalive=yes", "redis://h:6379/4"),
        (f"rediss://u:{SECRET}@h?ssl_cert_reqs=none", "rediss://h:6379/0"),
        (f"unix://u@/run/r.sock?db=2&password={SECRET}", "unix:///run/r.sock?db=2"),
        (f"redis+cluster://u:{SECRET}@a:1,b", "redis+cluster://a:1,b:6379"),
        (
            f"redis+sentinel://u:{SECRET}@a,b:9/main/2?sentinel_password={SECRET}",
            "redis+sentinel://a:26379,b:9/main/2",
        ),
        ("redis://h?prefix=tenant", "redis://h:6379/0?prefix=tenant"),
    ],
)
def test_public_address(url: str, public: str) -> None:
    store = open_store(url)
    assert store.url == public
    assert SECRET not in repr(store) + repr(vars(store)["_address"]) + store.default_directory()
    copy = store.spec().build()
    assert (copy.url, copy.spec()) == (store.url, store.spec())
    store.validate()


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis:/h",
        f"redis://:{SECRET}/rest@h",
        f"redis://:{SECRET}#rest@h",
        f"redis://:{SECRET}@h:port",
        f"redis://:{SECRET}@h:99999",
        f"redis://:{SECRET}@h/database",
        f"redis://:{SECRET}@h/1/2",
        f"redis://:{SECRET}@a,b",
        f"redis://:{SECRET}@h?decode_responses=yes",
        f"redis://:{SECRET}@h?wait_aof=yes",
        f"redis://:{SECRET}@h?wait_aof=2,0",
        f"redis://:{SECRET}@h?prefix=a{{b}}",
        f"redis+cluster://:{SECRET}@h/1",
        f"redis+sentinel://:{SECRET}@h",
        "unix://",
    ],
)
def test_bad_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisStore(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "settings",
    [{"prefix": ""}, {"wait_aof": (1,)}, {"wait_replicas": -1}, {"timeout_s": 0},
     {"wait_timeout_ms": 20_000}],
)  # fmt: skip
def test_bad_settings(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RedisStore(**settings)  # type: ignore[arg-type]


def test_settings_in_the_url() -> None:
    store = RedisStore("redis://h?wait_aof=1,2&wait_replicas=3&wait_timeout_ms=99&timeout_s=5")
    kwargs = store.spec().kwargs
    assert (kwargs["wait_aof"], kwargs["wait_replicas"]) == ([1, 2], 3)
    assert (kwargs["wait_timeout_ms"], kwargs["timeout_s"]) == (99, 5.0)
    assert store.capabilities.durable


def test_two_stores_have_directories_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    urls = ["redis://h", "redis://h/1", "rediss://h", "redis://h?prefix=x", "redis+cluster://h"]
    found = {RedisStore(url).default_directory() for url in urls}
    assert len(found) == len(urls)
    assert all(path.startswith("/state/livingai/redis") for path in found)
    same = {RedisStore(url).default_directory() for url in ("redis://u:p@h:6379/0", "redis://h")}
    assert len(same) == 1


def test_no_driver_before_it_is_used() -> None:
    code = (
        "import sys; from livingai.stores.redis import RedisStore; s = RedisStore(); s.validate();"
        "s.spec(); s.default_directory(); assert 'redis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience(60))


def test_numbers_sort_as_text() -> None:
    numbers = sorted([0, 1, 9, 10, 11, 99, 100, 1 << 53, (1 << 63) - 1])
    assert sorted(map(sortable, numbers)) == [sortable(number) for number in numbers]
    pairs = [(epoch, seq) for epoch in numbers for seq in numbers]
    assert sorted(version(*pair) for pair in pairs) == [version(*pair) for pair in pairs]
    assert [parse_version(version(*pair).encode()) for pair in pairs] == pairs


def test_index_entries_hold_any_id() -> None:
    names = ["a", "", "a1b", "ü\0", "x" * 600, "a1a"]
    assert entries(b"".join(map(entry, names))) == names


def test_names_of_keys_are_part_of_the_format() -> None:
    keys = Keys("livingai")
    assert keys.of("run-1").run.endswith(b"}:run:run-1")
    assert keys.of("run-1").run == b"{livingai:323}:run:run-1"
    assert keys.blob("run-1", "c", 42) == b"{livingai:323}:blob:5:run-1:b42:c"
    assert len(set(keys.ids)) == len(set(keys.nodes)) == BUCKETS
