"""The dispatcher's socket: agents come, are told their outcomes, and ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, cast

from livingai.errors import DirectoryMismatchError, LivingAIError, ServiceError
from livingai.queue.record import execution_hash
from livingai.workers.intake import Feed
from livingai.workers.link import WorkerLink
from livingai.workers.protocol import (
    OUTCOME_PAIR,
    PROTOCOL_VERSION,
    FrameBuffer,
    Message,
    error_parts,
    frame,
)

if TYPE_CHECKING:
    from livingai.workers.dispatcher import Dispatcher

_log = logging.getLogger("livingai.service")


class Agent(asyncio.Protocol):
    """A connected agent process."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self._buffer = FrameBuffer()
        self.transport: asyncio.Transport | None = None
        self.journal: str | None = None
        self.greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._server.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.disconnected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._buffer.feed(data):
                self._server.received(self, message)
        except (ValueError, IndexError, TypeError) as error:
            self.leave(ServiceError(f"a message that makes no sense: {error}"))

    def send(self, data: bytes) -> None:
        """Queue bytes for the agent."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def leave(self, error: LivingAIError | None = None) -> None:
        """Say why, and hang up."""
        parts = error_parts(error) if error is not None else ("", "the service ends")
        self.send(frame(Message.GOODBYE, parts))
        if self.transport is not None:
            self.transport.close()


class AgentServer:
    """Listens in the state directory; see :mod:`livingai.workers.protocol`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.agents: set[Agent] = set()
        self._by_journal: dict[str, Agent] = {}
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader = WorkerLink(dispatcher.config, "reader", dispatcher.kick)
        #: Retention, deletes and forks: slow work that no read or write should wait for.
        self._housekeeper = WorkerLink(dispatcher.config, "housekeeper", dispatcher.kick)
        self._store_url = dispatcher.config.spec().build().url

    async def start(self) -> None:
        """Listen. The lock on the directory is held, so an old socket file is nobody's."""
        directory = self._dispatcher.directory
        path = os.path.join(directory.path, "service.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with directory.socket_address() as address:
            sock.bind(address)
        os.chmod(path, 0o600)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Agent(self), sock=sock)

    def connected(self, agent: Agent) -> None:
        """An agent has come."""
        self.agents.add(agent)

    def disconnected(self, agent: Agent) -> None:
        """An agent has gone; its journal may be an orphan."""
        self.agents.discard(agent)
        if agent.journal is not None:
            if self._by_journal.get(agent.journal) is agent:
                del self._by_journal[agent.journal]
            feed = self._dispatcher.intake.by_id(agent.journal)
            if feed is not None:
                self._dispatcher.keeper.owner_gone(feed)
        self._dispatcher.kick()

    def received(self, agent: Agent, message: list[Any]) -> None:
        """Do what a message says."""
        kind = message[0]
        if kind == Message.WAKE:
            self._dispatcher.kick()
        elif kind == Message.HELLO:
            self._greet(agent, message)
        elif not agent.greeted:
            agent.leave(ServiceError("greet first"))
        elif kind == Message.ATTACH:
            agent.journal = str(message[1])
            self._by_journal[agent.journal] = agent
            self._dispatcher.intake.refresh()
            # Its outcomes were told to nobody until now; a greeting makes it look for them.
            agent.send(frame(Message.HELLO, PROTOCOL_VERSION, os.getpid()))
            agent.send(frame(Message.TROUBLE, self._dispatcher.trouble))
            self._dispatcher.kick()
        elif kind == Message.REQUEST:
            task = asyncio.get_running_loop().create_task(self._answer(agent, *message[1:]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif kind == Message.GOODBYE:
            self._dispatcher.kick()

    def _greet(self, agent: Agent, message: list[Any]) -> None:
        _, version, store_url, _pid = message
        if version != PROTOCOL_VERSION:
            agent.leave(
                ServiceError(
                    f"this service speaks protocol {PROTOCOL_VERSION}, the agent {version}; run "
                    "the same livingai version in both (restart the older one)"
                )
            )
        elif store_url != self._store_url:
            agent.leave(
                DirectoryMismatchError(
                    f"this service writes to {self._store_url}, the agent wants {store_url}; give "
                    "each store a directory of its own"
                )
            )
        else:
            agent.greeted = True
            agent.send(frame(Message.HELLO, PROTOCOL_VERSION, os.getpid()))
            agent.send(frame(Message.TROUBLE, self._dispatcher.trouble))

    def tell_trouble(self, text: str) -> None:
        """Tell all agents that the store takes no writes now, and why; "" that it does again."""
        for agent in self.agents:
            if agent.greeted:
                agent.send(frame(Message.TROUBLE, text))

    def tell(self, feed: Feed, outcomes: list[tuple[int, int]], reasons: dict[int, str]) -> None:
        """Send outcome words to the journal's owner, if it is there."""
        agent = self._by_journal.get(f"{feed.journal_id:016x}")
        if agent is not None:
            packed = b"".join(OUTCOME_PAIR.pack(lsn, word) for lsn, word in outcomes)
            agent.send(frame(Message.OUTCOMES, packed, reasons))

    async def _answer(self, agent: Agent, number: int, verb: str, arguments: list[Any]) -> None:
        try:
            value = await self._do(verb, arguments)
            reply = frame(Message.RESPONSE, number, True, value)
        except LivingAIError as error:
            reply = frame(Message.RESPONSE, number, False, error_parts(error))
        agent.send(reply)

    async def _do(self, verb: str, arguments: list[Any]) -> Any:
        """Verbs of agents: reads wait for what is queued, then ask the reader."""
        dispatcher = self._dispatcher
        if verb in ("latest", "nodes", "history"):
            await dispatcher.barriers.passed(execution_hash(arguments[0]))
            return await self._reader.call(verb, *arguments)
        if verb in ("load", "executions", "costs"):
            await dispatcher.barriers.passed(None)
            return await self._reader.call(verb, *arguments)
        if verb == "size":
            return await self._reader.call("size")
        if verb in ("delete", "fork"):
            await dispatcher.barriers.passed(execution_hash(arguments[0]))
            return await self._housekeeper.call(verb, *arguments)
        if verb == "prune":
            return await self._housekeeper.call("prune", *arguments)
        if verb == "drain":
            return await dispatcher.barriers.passed(None)
        if verb == "ready":
            await dispatcher.keeper.ready.wait()
            return None
        if verb == "claim":
            await dispatcher.barriers.passed(execution_hash(arguments[0]))
            return await dispatcher.writers[
                execution_hash(arguments[0]) % len(dispatcher.writers)
            ].ask("claim", *arguments)
        if verb == "status":
            return self.status()
        raise ServiceError(f"the service does not know the request {verb!r}")

    def status(self) -> dict[str, Any]:
        """What the service is doing, as plain values."""
        dispatcher = self._dispatcher
        feeds = dispatcher.intake.feeds.values()
        return {
            "store": self._store_url,
            "started_at": dispatcher.started_at,
            "pids": {
                "supervisor": os.getppid(),
                "dispatcher": os.getpid(),
                "writers": [writer.pid for writer in dispatcher.writers],
                "reader": self._reader.pid,
                "housekeeper": self._housekeeper.pid,
                "compressors": dispatcher.pool.pids(),
            },
            "agents": sum(agent.journal is not None for agent in self.agents),
            "journals": len(feeds),
            "journals_of_dead_owners": sum(not feed.alive for feed in feeds),
            "inflight": dispatcher.inflight,
            "inflight_bytes": dispatcher.inflight_bytes,
            "outcomes": {str(status): count for status, count in dispatcher.counts.items()},
            "trouble": dispatcher.trouble,
        }

    def close(self) -> None:
        """Stop listening and hang up; agents come back to the next service."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._dispatcher.directory.path, "service.sock"))
        for agent in list(self.agents):
            agent.leave()

    async def prune(self, policy: dict[str, Any]) -> None:
        """Apply the engine's retention policy once."""
        await self._housekeeper.call("prune", policy)

    async def close_workers(self) -> None:
        """End the reader and the housekeeper."""
        for task in list(self._tasks):
            task.cancel()
        await self._reader.close()
        await self._housekeeper.close()
