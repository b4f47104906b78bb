"""The peer: an agent that commits each state to SQLite itself, before it goes on.

What most agents do today, done properly: one prepared INSERT per save in WAL mode, committed with
``synchronous=FULL`` as our own store does, raw bytes. It has the shape of an engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import Any

from livingai import Durability, ExecutionNode, Outcome, OutcomeStatus
from livingai.serial import pack

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoints (
    execution_id TEXT NOT NULL, step INTEGER NOT NULL, node BLOB NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (execution_id, step)
)
"""


class Done:
    """A receipt whose outcome is known."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __await__(self) -> Generator[Any, None, Outcome]:
        yield from ()
        return self.outcome


class SynchronousSQLite:
    """``save`` returns when the state is committed."""

    def __init__(self, path: str, budget_ms: float) -> None:
        import apsw

        self._budget_ms = budget_ms
        self._steps: dict[str, int] = {}
        self._connection = apsw.Connection(path)
        self._connection.set_busy_timeout(60_000)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(_SCHEMA)

    async def save(self, node: ExecutionNode, state: bytes) -> Done:
        """Insert and commit."""
        began = time.perf_counter_ns()
        step = self._steps.get(node.execution_id, 0)
        self._steps[node.execution_id] = step + 1
        self._connection.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, ?)",
            (node.execution_id, step, pack(node.to_wire()), state),
        )
        latency_ms = (time.perf_counter_ns() - began) / 1e6
        met = latency_ms <= self._budget_ms
        status = OutcomeStatus.MET if met else OutcomeStatus.LATE
        return Done(Outcome(status, Durability.STORE, latency_ms))

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()


def stored_bytes(path: str) -> int:
    """Bytes of the file and its log."""
    return sum(os.stat(path + end).st_size for end in ("", "-wal") if os.path.exists(path + end))
