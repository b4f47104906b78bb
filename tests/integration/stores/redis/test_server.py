"""Redis servers that refuse a client, or are of the wrong kind or version."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import redis

from livingai.errors import (
    StoreAuthenticationError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.stores.redis import RedisStore
from livingai.stores.redis.connect import version_number
from livingai.testing.rows import commit, contents, listing
from tests.support.redis_servers import (
    RedisServer,
    missing,
    packaged_binary,
    prefix_for,
    shared_cluster,
)
from tests.support.redis_stores import rows

pytestmark = pytest.mark.redis
SECRET = "s3cret/@:#"
QUOTED = "s3cret%2F%40%3A%23"

# --- rights ---


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
def test_cluster_and_single_server_are_distinguished(server: RedisServer) -> None:
    with pytest.raises(StoreFormatError, match=r"redis\+cluster://"):
        RedisStore(shared_cluster().servers[0].url).open()
    with pytest.raises(StoreFormatError, match="no cluster"):
        RedisStore(f"redis+cluster://127.0.0.1:{server.port}").open()


def test_no_server_listens(tmp_path: Path) -> None:
    store = RedisStore("redis://127.0.0.1:1/0")
    store.validate()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        store.open()
    with pytest.raises(StoreUnavailableError):
        RedisStore("redis+cluster://127.0.0.1:1").open()
    with pytest.raises(StoreUnavailableError):
        RedisStore(f"unix://{tmp_path}/none.sock").open()


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
