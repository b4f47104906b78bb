"""A PostgreSQL server whose disk is full: real, a small tmpfs."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from livingai.errors import StoreUnavailableError
from livingai.stores.postgres import PostgresStore
from livingai.testing import make_row
from livingai.testing.rows import STORED, contents, statuses
from tests.support.postgres_servers import PostgresServer, shared_url, unprivileged

pytestmark = pytest.mark.postgres
#: An empty database takes about 8 MB.
SIZE = "24m"
BLOB_BYTES = 1 << 20


def mount(*arguments: str) -> None:
    """Skips where the system does not let us."""
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")


@pytest.fixture
def small() -> Iterator[tuple[PostgresServer, Path]]:
    """A server with a tablespace on a small disk."""
    shared_url()  # skips where there is no PostgreSQL
    if not unprivileged():
        pytest.skip("mounting a small disk needs root")
    with PostgresServer() as server:
        disk = server.folder / "small"
        disk.mkdir()
        owner = unprivileged()
        mount("-t", "tmpfs", "-o", f"size={SIZE},mode=700,uid={owner['user']},gid={owner['group']}",
              "tmpfs", str(disk))  # fmt: skip
        try:
            with psycopg.connect(server.url(), autocommit=True) as admin:
                admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
                admin.execute("CREATE DATABASE small TABLESPACE small")
            yield server, disk
            server.stop()
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_refuses_nothing_for_good(small: tuple[PostgresServer, Path]) -> None:
    server, disk = small
    rng = random.Random(1)
    rows = [make_row(seq=seq, blob=b"\0" + rng.randbytes(BLOB_BYTES)) for seq in range(40)]
    with PostgresStore(server.url("small")) as store:
        stored = 0
        with suppress(StoreUnavailableError):
            for row in rows:
                assert statuses(store, [row]) == [STORED]
                stored += 1
        assert 0 < stored < len(rows)
        (info,) = store.list_executions()
        assert (info.nodes, info.checkpoints) == (stored, stored)
        with pytest.raises(StoreUnavailableError, match="disk is full"):
            store.commit(rows[stored:])
        assert len(list(store.checkpoints("run"))) == stored, "reads go on, nothing is half there"
        mount("-o", "remount,size=128m", str(disk))
        assert set(statuses(store, rows)) == {STORED}
        with PostgresStore(server.url("small")) as other:
            assert contents(other) == contents(store)
            assert len(list(other.checkpoints("run"))) == len(rows)
