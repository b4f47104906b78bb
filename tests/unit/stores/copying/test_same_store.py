"""One store under two names is not copied onto itself."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from livingai.errors import ConfigurationError
from livingai.stores.copying import copy_store
from livingai.stores.opening import open_store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit
from tests.support.copies import history
from tests.support.redis_servers import prefix_for, shared_server


def test_one_file_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "linked")
    store = SQLiteStore(tmp_path / "real" / "a.db")
    commit(store, history())
    os.symlink("a.db", tmp_path / "real" / "symlink.db")
    os.link(tmp_path / "real" / "a.db", tmp_path / "real" / "hardlink.db")
    names = [
        f"{tmp_path}/real/a.db", f"{tmp_path}/linked/a.db", f"{tmp_path}/real/../linked/a.db",
        f"{tmp_path}/real/symlink.db", f"{tmp_path}/real/hardlink.db",
        f"sqlite:///{tmp_path}/real/a.db", f"tiered:{tmp_path}/hot.db|{tmp_path}/linked/a.db",
        f"tiered:{tmp_path}/linked/a.db|{tmp_path}/cold.db",
    ]  # fmt: skip
    store.close()
    for name in names:
        with store, open_store(name) as other:
            for pair in ((store, other), (other, store)):
                with pytest.raises(ConfigurationError, match="are the same store"):
                    copy_store(*pair)


@pytest.mark.redis
def test_one_redis_under_two_names(tmp_path: Path) -> None:
    server, prefix = shared_server(), prefix_for(tmp_path)
    port = server.url.rpartition(":")[2].partition("/")[0]
    names = [f"redis://{host}:{port}/0" for host in ("127.0.0.1", "localhost", "127.1")]
    names.append(f"unix://{server.socket}?db=0")
    with RedisStore(server.url, prefix=prefix) as store:
        commit(store, history())
        for name in names:
            same = RedisStore(name, prefix=prefix)
            with same, pytest.raises(ConfigurationError, match="are the same store"):
                copy_store(store, same)
            with RedisStore(name, prefix=f"{prefix}-other") as other:
                assert copy_store(store, other).executions == 1
        with RedisStore(f"redis://localhost:{port}/2", prefix=prefix) as other:
            assert copy_store(store, other).executions == 1


@pytest.mark.postgres
def test_one_postgres_under_two_names(tmp_path: Path) -> None:
    from tests.support.postgres_servers import shared_server as postgres_server

    server = postgres_server()
    with ExitStack() as stack:
        schema = f"same{abs(hash(str(tmp_path))):x}"
        one, other = (
            stack.enter_context(PostgresStore(url, schema=schema))
            for url in (server.url(), server.tcp_url())
        )
        with pytest.raises(ConfigurationError, match="are the same store"):
            copy_store(one, other)
        third = stack.enter_context(PostgresStore(server.url(), schema=f"{schema}b"))
        commit(one, history())
        assert copy_store(other, third).executions == 1
