"""An agent that writes its states to Redis by itself: one awaited HSET per save, raw bytes. How
durable that is depends on the server's settings (``bench.servers``)."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

import redis.asyncio

from bench.peers.base import Done, Peer
from livingai import ExecutionNode, Outcome
from livingai.serial import pack


def connect(url: str) -> Any:
    """A client with as many connections as agents need."""
    return redis.asyncio.Redis.from_url(url, max_connections=1000)


def fields(step: int, node: bytes, state: bytes) -> dict[str, bytes]:
    """What is kept of one step."""
    return {f"{step}:node": node, f"{step}:state": state}


class AwaitedRedis(Peer):
    """``save`` returns when the server has answered."""

    _client: Any

    async def open(self) -> None:
        """Connect."""
        self._client = connect(self.place.url)
        await self._client.ping()

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Set two fields."""
        began_ns = time.perf_counter_ns()
        name = node.execution_id
        mapping = fields(self._next_step(name), pack(node.to_wire()), state)
        await self._client.hset(name, mapping=mapping)
        return Done(self._outcome(began_ns))

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()
