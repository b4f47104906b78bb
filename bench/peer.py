"""The peers, in the shape of an engine.

``sqlite``: an agent that commits each state to SQLite itself, before it goes on. What most agents
do today, done properly: one prepared INSERT per save in WAL mode, committed with
``synchronous=FULL`` as our own store does, raw bytes.

``langgraph``: LangGraph's own AsyncSqliteSaver, as it comes; it commits with ``synchronous=FULL``,
too. The state is one channel's value, as bytes: it has nothing to encode but the frame around it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
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


class LangGraphSQLite:
    """``save`` returns when the saver has put the checkpoint."""

    def __init__(self, path: str, budget_ms: float, packages: str) -> None:
        """``packages``: the folder that LangGraph was installed to."""
        sys.path.insert(0, packages)
        self._path = path
        self._budget_ms = budget_ms
        self._saver: Any = None
        self._opened: Any = None
        self._newest: dict[str, dict[str, Any]] = {}

    async def save(self, node: ExecutionNode, state: bytes) -> Done:
        """Put a checkpoint with the state."""
        base = importlib.import_module("langgraph.checkpoint.base")
        if self._saver is None:
            aio = importlib.import_module("langgraph.checkpoint.sqlite.aio")
            self._opened = aio.AsyncSqliteSaver.from_conn_string(self._path)
            self._saver = await self._opened.__aenter__()
        began = time.perf_counter_ns()
        step = node.metadata.get("step", 0)
        config = self._newest.get(node.execution_id) or {
            "configurable": {"thread_id": node.execution_id, "checkpoint_ns": ""}
        }
        checkpoint = base.empty_checkpoint() | {
            "channel_values": {"state": state},
            "channel_versions": {"state": step},
        }
        self._newest[node.execution_id] = await self._saver.aput(
            config, checkpoint, {"source": "loop", "step": step}, {}
        )
        latency_ms = (time.perf_counter_ns() - began) / 1e6
        met = latency_ms <= self._budget_ms
        status = OutcomeStatus.MET if met else OutcomeStatus.LATE
        return Done(Outcome(status, Durability.STORE, latency_ms))

    async def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            await self._opened.__aexit__(None, None, None)


@contextlib.contextmanager
def langgraph_packages() -> Iterator[str]:
    """A folder with the newest release of LangGraph's saver, for as long.

    Raises:
        ValueError: it cannot be installed here.
    """
    with tempfile.TemporaryDirectory(prefix="livingai-bench-langgraph-") as folder:
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--target", folder,
            "langgraph-checkpoint-sqlite",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"--peer langgraph: it cannot be installed: {done.stderr.strip()}")
        yield folder


def stored_bytes(path: str) -> int:
    """Bytes of the file and its log."""
    return sum(os.stat(path + end).st_size for end in ("", "-wal") if os.path.exists(path + end))
