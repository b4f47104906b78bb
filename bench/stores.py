"""Which store is measured: SQLite in the run's own folder, a server that is started here, or one
that a URL names.

Every run has a store of its own, empty at first: a file, a prefix of keys, or a schema. What a run
wrote to a server is removed behind it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bench import servers
from bench.servers import Server
from livingai import SQLiteStore
from livingai.stores.base import Store
from livingai.stores.opening import open_store

SQLITE: Final = "sqlite"
#: Those that need no URL.
NAMES: Final = (SQLITE, *servers.NAMES)


@dataclass(frozen=True, slots=True)
class Target:
    """A store to measure; ``name`` is its column, without credentials."""

    name: str
    url: str = field(default="", repr=False)
    #: The server, if the benchmark has started it.
    server: Server | None = field(default=None, repr=False, compare=False)

    @contextlib.contextmanager
    def fresh(self, directory: str) -> Iterator[Store]:
        """An empty store for one run that writes in ``directory``; gone at the end."""
        name = f"bench_{secrets.token_hex(6)}"
        if self.name == SQLITE:
            yield SQLiteStore(os.path.join(directory, "bench.db"))
        elif self.url.startswith("postgres"):
            yield from _schema(self.url, name)
        else:
            yield from _prefix(self.url, name)


def _schema(url: str, name: str) -> Iterator[Store]:
    import psycopg

    from livingai.stores.postgres import PostgresStore

    store = PostgresStore(url, schema=name)
    try:
        yield store
    finally:
        with psycopg.connect(store.spec().kwargs["url"], autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def _prefix(url: str, name: str) -> Iterator[Store]:
    store = open_store(f"{url}{'&' if '?' in url else '?'}prefix={name}")
    try:
        yield store
    finally:
        _remove_keys(store, name)


def _remove_keys(store: Any, prefix: str) -> None:
    def remove(client: Any) -> None:
        for pattern in (f"{prefix}:*", f"{{{prefix}:*"):
            keys = list(client.scan_iter(pattern, count=1000))
            for key in keys:  # one by one: of a cluster's node, too
                client.unlink(key)

    store.open()
    store._ready().of_all(remove)
    store.close()


@contextlib.contextmanager
def targets(names: list[str]) -> Iterator[list[Target]]:
    """SQLite and what ``names`` say besides; servers run for as long.

    Raises:
        ValueError: neither one of :data:`NAMES` nor a URL, or there is no such server here.
    """
    with contextlib.ExitStack() as stack:
        found = {SQLITE: Target(SQLITE)}
        for name in names:
            if "://" in name and name.startswith(("redis", "unix", "postgres")):
                found[name] = Target(open_store(name).url, name)
            elif name in servers.NAMES:
                server = stack.enter_context(servers.started(name))
                found[name] = Target(name, server.url, server)
            elif name != SQLITE:
                raise ValueError(
                    "--store is the URL of a Redis or PostgreSQL server, or one of "
                    f"{', '.join(NAMES)}"
                )
        yield list(found.values())
