"""LangGraph's own savers, as they come. The state is one channel's value, as bytes: they have
nothing to encode but the frame around it. The one for SQLite commits with ``synchronous=FULL``."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Awaitable
from typing import Any

from bench.peers.base import Done, Peer, Place
from livingai import ExecutionNode, Outcome


class _Saver(Peer):
    """``save`` returns when the saver has put the checkpoint."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        sys.path.insert(0, place.packages)
        self._base = importlib.import_module("langgraph.checkpoint.base")
        self._opened: Any = None
        self._saver: Any = None
        self._newest: dict[str, dict[str, Any]] = {}

    async def _enter(self, module: str, name: str, where: str) -> None:
        saver = getattr(importlib.import_module(f"langgraph.checkpoint.{module}"), name)
        self._opened = saver.from_conn_string(where)
        self._saver = await self._opened.__aenter__()
        await self._saver.setup()

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Put a checkpoint with the state."""
        began_ns = time.perf_counter_ns()
        step = self._next_step(node.execution_id)
        config = self._newest.get(node.execution_id) or {
            "configurable": {"thread_id": node.execution_id, "checkpoint_ns": ""}
        }
        checkpoint = self._base.empty_checkpoint() | {
            "channel_values": {"state": state},
            "channel_versions": {"state": step},
        }
        self._newest[node.execution_id] = await self._saver.aput(
            config, checkpoint, {"source": "loop", "step": step}, {"state": step}
        )
        return Done(self._outcome(began_ns))

    async def close(self) -> None:
        """Disconnect."""
        await self._opened.__aexit__(None, None, None)


class SqliteSaver(_Saver):
    """AsyncSqliteSaver."""

    async def open(self) -> None:
        """Open the file."""
        await self._enter("sqlite.aio", "AsyncSqliteSaver", self.place.path)


class PostgresSaver(_Saver):
    """AsyncPostgresSaver."""

    async def open(self) -> None:
        """Connect, and make its tables."""
        await self._enter("postgres.aio", "AsyncPostgresSaver", self.place.url)
