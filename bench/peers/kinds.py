"""The table of what livingai is compared with.

A *peer* is what an agent could use instead; a *limit* is the bare call that everything of its kind
has to make: nothing can be faster that does this much. Every one of them gets the same states from
the same agents, in processes of their own, which measure all alike.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final

from bench.peers.base import Peer, Place


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer or a limit."""

    name: str
    title: str
    #: Its class, in ``bench.peers``.
    module: str
    factory: str
    #: What pip installs for it, into a folder of its own.
    requirements: tuple[str, ...] = ()
    #: The server that it needs, one of ``bench.servers.NAMES``; it has SQLite or a file otherwise.
    server: str = ""
    limit: bool = False

    def build(self, place: Place) -> Peer:
        """One for a process of agents. Raises ImportError if its packages are not there."""
        made: Peer = getattr(importlib.import_module(f"bench.peers.{self.module}"), self.factory)(
            place
        )
        return made


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("sqlite", "SQLite, WAL, own commit", "sqlite", "CommittedSQLite"),
        Kind("sqlite3", "sqlite3, awaited", "sqlite", "AwaitedSQLite"),
        Kind("redis", "Redis client, awaited", "redis", "AwaitedRedis", server="valkey"),
        Kind(
            "langgraph", "LangGraph AsyncSqliteSaver", "langgraph", "SqliteSaver",
            ("langgraph-checkpoint-sqlite",),
        ),
        Kind(
            "langgraph-postgres", "LangGraph AsyncPostgresSaver", "langgraph", "PostgresSaver",
            ("langgraph-checkpoint-postgres", "psycopg[binary]"), server="postgres",
        ),
        Kind("livingai-0.4.1", "livingai 0.4.1", "released", "Released", ("livingai==0.4.1",)),
        Kind("dbos", "DBOS steps on SQLite", "dbos", "Steps", ("dbos",)),
        Kind("dbos-postgres", "DBOS steps on PostgreSQL", "dbos", "Steps", ("dbos",), "postgres"),
        Kind("pwritev", "limit: bare pwritev", "limits", "BareFile", limit=True),
        Kind("executemany", "limit: bare executemany", "limits", "Batches", limit=True),
        Kind("pipeline", "limit: bare pipeline", "limits", "Pipelines", (), "valkey", limit=True),
    )
}  # fmt: skip
