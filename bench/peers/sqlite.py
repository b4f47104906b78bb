"""An agent that writes its states to SQLite by itself.

* :class:`CommittedSQLite`: done properly. One prepared INSERT per save in WAL mode, committed with
  ``synchronous=FULL`` as our own store does, raw bytes; the event loop waits for the disk.
* :class:`AwaitedSQLite`: done as most would. The standard library's ``sqlite3`` as it comes, one
  commit per save, awaited in a worker thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Awaitable
from typing import Final

import apsw

from bench.peers.base import Done, Peer, Place
from livingai import ExecutionNode, Outcome
from livingai.serial import pack

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS checkpoints (
    execution_id TEXT NOT NULL, step INTEGER NOT NULL, node BLOB NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (execution_id, step)
)
"""
INSERT: Final = "INSERT INTO checkpoints VALUES (?, ?, ?, ?)"


def wal_connection(path: str) -> apsw.Connection:
    """A connection in WAL mode with ``synchronous=FULL``, and the table."""
    connection = apsw.Connection(path)
    connection.set_busy_timeout(60_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute(SCHEMA)
    return connection


class CommittedSQLite(Peer):
    """``save`` returns when the state is committed."""

    _connection: apsw.Connection

    async def open(self) -> None:
        """Open the file."""
        self._connection = wal_connection(self.place.path)

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Insert and commit."""
        began_ns = time.perf_counter_ns()
        name = node.execution_id
        row = (name, self._next_step(name), pack(node.to_wire()), state)
        self._connection.execute(INSERT, row)
        return Done(self._outcome(began_ns))

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()


class AwaitedSQLite(Peer):
    """``await asyncio.to_thread(insert and commit)``, one at a time."""

    _connection: sqlite3.Connection

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Open the file."""
        self._connection = sqlite3.connect(self.place.path, 60.0, check_same_thread=False)
        self._connection.execute(SCHEMA)

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Insert and commit in a thread."""
        began_ns = time.perf_counter_ns()
        name = node.execution_id
        row = (name, self._next_step(name), pack(node.to_wire()), state)
        await asyncio.to_thread(self._insert, row)
        return Done(self._outcome(began_ns))

    def _insert(self, row: tuple[str, int, bytes, bytes]) -> None:
        with self._lock, self._connection:
            self._connection.execute(INSERT, row)

    async def close(self) -> None:
        """Close the file."""
        with contextlib.closing(self._connection):
            self._connection.commit()
