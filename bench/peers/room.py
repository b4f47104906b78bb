"""What a peer is given: packages in a folder of its own, and an empty database for each run."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import redis

from bench.peers.kinds import Kind
from bench.servers import Server


class PackagesMissingError(ValueError):
    """They cannot be installed; the message says what pip says."""


@contextlib.contextmanager
def installed(requirements: tuple[str, ...]) -> Iterator[str]:
    """A folder with the newest releases of ``requirements``, for as long; "" if there are none.

    Raises:
        PackagesMissingError: they cannot be installed here.
    """
    if not requirements:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="livingai-bench-packages-") as folder:
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--target", folder, *requirements,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise PackagesMissingError((said or ["pip failed"])[-1].removeprefix("ERROR: "))
        yield folder


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database; ``size_bytes`` is what has come to it since it was made."""

    url: str
    size_bytes: Callable[[], int]


@contextlib.contextmanager
def fresh(kind: Kind, server: Server | None, path: str) -> Iterator[Database]:
    """An empty database for one run, gone at the end: the file ``path``, or one of ``server``."""
    if server is None:
        yield Database("", lambda: _file_bytes(path))
    elif kind.server == "postgres":
        yield from _postgres(server.url)
    else:
        yield from _redis(server.url)


def _file_bytes(path: str) -> int:
    """Bytes of an SQLite database that no process has open, its log brought in; 0 without one."""
    if not os.path.exists(path):
        return 0
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return os.stat(path).st_size


def _postgres(url: str) -> Iterator[Database]:
    import psycopg

    name = f"bench_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())

        def size_bytes() -> int:
            row = connection.execute(f"SELECT pg_database_size('{name}')".encode()).fetchone()
            return int(row[0]) if row else 0

        empty = size_bytes()
        try:
            yield Database(
                urlunsplit(urlsplit(url)._replace(path=f"/{name}")), lambda: size_bytes() - empty
            )
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _redis(url: str) -> Iterator[Database]:
    with redis.Redis.from_url(urlunsplit(urlsplit(url)._replace(path="/1"))) as client:

        def size_bytes() -> int:
            return int(client.info("memory")["used_memory_dataset"])

        empty = size_bytes()
        try:
            yield Database(urlunsplit(urlsplit(url)._replace(path="/1")),
                           lambda: size_bytes() - empty)  # fmt: skip
        finally:
            client.flushdb()
