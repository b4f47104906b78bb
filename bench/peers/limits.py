"""What bounds a store: the bare calls, without node, history, fencing or outcome.

* :class:`BareFile`: ``os.pwritev`` to files that are there beforehand, as the journal's are.
  Nothing is synced.
* :class:`Batches`: ``executemany`` of all rows that are waiting, in one transaction (WAL,
  ``synchronous=FULL``).
* :class:`Pipelines`: one pipeline of HSET for all that are waiting.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable
from typing import Any

import apsw

from bench.peers.base import BatchingPeer, Done, Peer, Place
from bench.peers.redis import connect, fields
from bench.peers.sqlite import INSERT, wal_connection
from bench.probe import BareWrites
from livingai import ExecutionNode, Outcome


class BareFile(Peer):
    """``save`` returns when the bytes are in the page cache."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._files = BareWrites(os.path.dirname(place.path), 1)

    async def open(self) -> None:
        """Nothing is to be made."""

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Write."""
        began_ns = time.perf_counter_ns()
        self._files.write(state)
        return Done(self._outcome(began_ns))

    async def close(self) -> None:
        """Close the files."""
        self._files.close()


class Batches(BatchingPeer):
    """Rows of SQLite."""

    _connection: apsw.Connection

    async def open(self) -> None:
        """Open the file."""
        self._connection = wal_connection(self.place.path)

    async def _store(self, rows: list[tuple[str, int, bytes]]) -> None:
        with self._connection:
            self._connection.executemany(
                INSERT, ((name, step, b"", state) for name, step, state in rows)
            )

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Pipelines(BatchingPeer):
    """Fields of Redis."""

    _client: Any

    async def open(self) -> None:
        """Connect."""
        self._client = connect(self.place.url)
        await self._client.ping()

    async def _store(self, rows: list[tuple[str, int, bytes]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for name, step, state in rows:
            pipeline.hset(name, mapping=fields(step, b"", state))
        await pipeline.execute()

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()
