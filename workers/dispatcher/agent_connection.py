"""A connected agent process, seen from the dispatcher.

What an agent does not read piles up in its socket's buffer, so there is a limit to it: of answers
that may be large (:meth:`Agent.turn`) one at a time is fetched, and only once the one before has
left. The connection of an agent that has read nothing for long is closed; what it has missed it
reads from its journal when it comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, NamedTuple, Protocol, cast

from livingai.errors import LivingAIError, ServiceError
from livingai.protocol.error_parts import error_parts
from livingai.protocol.frames import FrameBuffer, Message, frame

_PEER = struct.Struct("3i")
#: No message of an agent is larger: they hold ids and a policy. Decoded, a message of
#: many small values takes up to 60 times as much.
_MAX_REQUEST_BYTES = 4 << 20
#: Unanswered requests of one agent, from which on no more of them are read.
_MAX_REQUESTS = 1000
#: Bytes and seconds that an agent may leave unread.
_MAX_UNREAD_BYTES = 1 << 20
_MAX_UNREAD_S = 60.0


class Peer(NamedTuple):
    """The process at the other end of a Unix socket; ``pid`` is 0 where it has no number here."""

    pid: int
    uid: int


def peer_of(fd: int) -> Peer:
    """The process at the other end of a connection, as the kernel knows it. Raises OSError."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, uid, _ = _PEER.unpack(raw)
    return Peer(pid, uid)


class AgentHandler(Protocol):
    """What a connection reports: the server."""

    def connected(self, agent: Agent) -> None:
        """A process has connected."""

    def disconnected(self, agent: Agent) -> None:
        """Its connection has ended."""

    def received(self, agent: Agent, message: list[Any]) -> None:
        """It has sent a message."""


class Agent(asyncio.Protocol):
    """The connection of one agent process: its messages come in, answers and outcomes go out."""

    def __init__(self, server: AgentHandler) -> None:
        self._server = server
        self._buffer = FrameBuffer(_MAX_REQUEST_BYTES)
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()
        self._full_since = 0.0
        self.journal: str | None = None
        self.greeted = False
        #: What it has asked last only looks on, so the service may end as if it were not there.
        self.looks_on = False
        #: What it can read, as its greeting says.
        self.revision = 0
        #: The process that has connected, as the kernel knows it, and its id as it says itself.
        self.peer = Peer(0, os.geteuid())
        self.said_pid: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.peer = peer_of(transport.get_extra_info("socket").fileno())
        self._server.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()  # it asks again when it comes back
        self._server.disconnected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._buffer.feed(data):
                self._server.received(self, message)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            self.leave(ServiceError(f"a message that makes no sense: {error}"))

    def pause_writing(self) -> None:
        self._room.clear()
        self._full_since = time.monotonic()

    def resume_writing(self) -> None:
        self._room.set()

    def send(self, data: bytes) -> None:
        """Queue bytes for the agent."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if (
            not self._room.is_set()
            and transport.get_write_buffer_size() > _MAX_UNREAD_BYTES
            and time.monotonic() - self._full_since > _MAX_UNREAD_S
        ):
            transport.abort()

    def leave(self, error: LivingAIError | None = None) -> None:
        """Send the reason, and close the connection."""
        parts = ["", "the service ends"]
        if error is not None:
            parts = error_parts(error, self.revision)
        self.send(frame(Message.GOODBYE, parts))
        if self._transport is not None:
            self._transport.close()

    # -- requests --

    def run(self, answering: Coroutine[Any, Any, None]) -> None:
        """Answer one of its requests in the background, for as long as it is connected."""
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._answered)
        if len(self._tasks) >= _MAX_REQUESTS and self._transport is not None:
            self._transport.pause_reading()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        transport = self._transport
        if len(self._tasks) == _MAX_REQUESTS - 1 and transport and not transport.is_closing():
            transport.resume_reading()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Inside the block an answer that may be large can be fetched and sent."""
        async with self._turn:
            await self._room.wait()
            yield
