"""The dispatcher's socket: agents connect, greet, attach their journal, and get outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
from typing import Any

from livingai._version import __version__
from livingai.config import ServiceConfig
from livingai.errors import (
    DirectoryError,
    DirectoryMismatchError,
    NotTheOwnerError,
    OddFileError,
    ServiceError,
    ServiceUnavailableError,
    VersionMismatchError,
)
from livingai.protocol.frames import (
    OUTCOME_PAIR,
    PROTOCOL_VERSION,
    REVISION,
    Message,
    frame,
    revision_of,
)
from livingai.protocol.verbs import STATUS, WATCH
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import owner_identity, owner_pid
from livingai.stores.base import IDENTITY
from livingai.stores.whereabouts import leads_to
from livingai.workers.dispatcher.agent_connection import Agent
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.ports import ServerPort

_log = logging.getLogger("livingai.service")
#: What is asked by who only looks on. A tuple: a name that makes no sense need not be hashable.
_LOOKS = (STATUS.name, WATCH.name)
_IS_ID = re.compile("[0-9a-f]{16}").fullmatch


class AgentServer:
    """Listens in the state directory; see :mod:`livingai.protocol.frames`."""

    def __init__(
        self, directory: StateDirectory, config: ServiceConfig, intake: Intake, port: ServerPort
    ) -> None:
        self._directory = directory
        self._config = config
        self._intake = intake
        self._port = port
        self.agents: set[Agent] = set()
        self._by_journal: dict[str, Agent] = {}
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen. The lock on the directory is held, so an old socket file belongs to no
        process."""
        directory = self._directory
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
        """A process has connected. It may be another user's: one that was given the descriptor, or
        that connected before the socket was closed to others."""
        self.agents.add(agent)
        if agent.peer.uid not in (os.geteuid(), 0):
            _log.warning("process %d of user %d was refused", agent.peer.pid, agent.peer.uid)
            agent.leave(NotTheOwnerError(f"this service serves user {os.geteuid()} alone"))

    def disconnected(self, agent: Agent) -> None:
        """An agent's connection has ended; its journal may have lost its owner."""
        self.agents.discard(agent)
        if agent.journal is not None:
            if self._by_journal.get(agent.journal) is agent:
                del self._by_journal[agent.journal]
            feed = self._intake.by_id(agent.journal)
            if feed is not None:
                self._port.owner_gone(feed)
        self._port.kick()

    def received(self, agent: Agent, message: list[Any]) -> None:
        """Do what a message says."""
        kind = message[0]
        if kind == Message.WAKE:
            self._port.appended()
        elif kind == Message.HELLO:
            self._greet(agent, message)
        elif not agent.greeted:
            agent.leave(ServiceError("greet first"))
        elif kind == Message.ATTACH:
            self._attach(agent, message[1])
        elif kind == Message.REQUEST:
            agent.looks_on = message[2] in _LOOKS
            self._port.kick()  # an agent that has something to send wakes nobody besides
            agent.run(self._port.answer(agent, *message[1:]))
        elif kind == Message.GOODBYE:
            self._port.kick()

    def _attach(self, agent: Agent, journal: object) -> None:
        """Send an agent its journal's outcomes from now on, if it is the journal's owner. An older
        connection of the same process, whose end was not noticed, gets no more."""
        try:
            self._check_owner(agent, journal)
        except NotTheOwnerError as error:
            _log.warning("process %d was refused a journal: %s", agent.peer.pid, error)
            agent.leave(error)
            return
        except OSError as error:  # out of descriptors, perhaps: it comes again
            why = f"cannot find out which process owns that journal: {error}"
            agent.leave(ServiceUnavailableError(why))
            return
        agent.journal = str(journal)
        before = self._by_journal.get(agent.journal)
        self._by_journal[agent.journal] = agent
        if before is not None and before is not agent:
            before.journal = None
        self._intake.refresh()
        self._welcome(agent)  # its outcomes were not sent until now; this makes it look for them
        feed = self._intake.by_id(agent.journal)
        if feed is not None:
            self.tell_lost(feed)
        self._port.kick()

    def _check_owner(self, agent: Agent, journal: object) -> None:
        """Raise NotTheOwnerError unless the agent is the process that holds the journal's lock.

        The kernel says which process holds it and which one has connected. Processes of another
        container have no number here; then what the owner wrote into the file has to be what the
        agent said of itself.
        """
        if not isinstance(journal, str) or not _IS_ID(journal):
            raise NotTheOwnerError(f"{str(journal)[:40]!a} is no journal")
        path = os.path.join(self._directory.journals, journal, OWNER_LOCK)
        try:
            owner = owner_pid(path)
        except OddFileError:  # logged already; the owner cannot be found out
            return
        if owner is None:
            raise NotTheOwnerError(f"journal {journal} has no owner")
        if owner and agent.peer.pid:
            named, asking = owner, agent.peer.pid
        else:
            named, asking = owner_identity(path).get("pid", 0), agent.said_pid
        if named != asking:
            raise NotTheOwnerError(
                f"journal {journal} belongs to process {named!a}, and only that one gets the "
                "outcomes of what is in it; save through an engine of your own"
            )

    def _greet(self, agent: Agent, message: list[Any]) -> None:
        _, version, store_url, agent.said_pid, *more = message  # a later version may say more
        agent.revision = revision_of(more)
        if not isinstance(store_url, str):
            raise TypeError("a store's URL is text")
        if version != PROTOCOL_VERSION:
            agent.leave(
                VersionMismatchError(
                    f"this service speaks protocol {PROTOCOL_VERSION}, the agent {version}; run "
                    "the same livingai version in both (restart the older one)"
                )
            )
        elif not self._is_ours(store_url):
            agent.leave(
                DirectoryMismatchError(
                    f"this service writes to {self._port.store_url}, the agent wants "
                    f"{store_url}; give each store a directory of its own"
                )
            )
        else:
            agent.greeted = True
            self._welcome(agent)

    def _welcome(self, agent: Agent) -> None:
        agent.send(frame(Message.HELLO, PROTOCOL_VERSION, os.getpid(), __version__, REVISION))
        agent.send(frame(Message.TROUBLE, self._port.trouble))

    def _is_ours(self, name: str) -> bool:
        """Whether an agent means our store: by its URL, as the directory's manifest names it (which
        the agent has compared with the store), or by another name of the same file. See
        :func:`livingai.stores.belonging.enter` for the name's form."""
        identity, space, url = name.partition(" ")
        names = {name, identity, url} if space else {name}
        if self._port.store_url in names:
            return True
        with contextlib.suppress(DirectoryError):
            manifest = self._directory.manifest()
            if not names.isdisjoint((manifest.get("store"), manifest.get(IDENTITY))):
                return True
        return leads_to(url or name, self._config.spec().build())

    def tell_trouble(self, text: str) -> None:
        """Report to all agents why the store takes no writes now; "" that it does again."""
        for agent in self.agents:
            if agent.greeted:
                agent.send(frame(Message.TROUBLE, text))

    def tell(self, feed: Feed, outcomes: list[tuple[int, int]], reasons: dict[int, str]) -> None:
        """Send outcome words to the journal's owner, if it is there."""
        agent = self._by_journal.get(f"{feed.journal_id:016x}")
        if agent is not None:
            packed = b"".join(OUTCOME_PAIR.pack(lsn, word) for lsn, word in outcomes)
            agent.send(frame(Message.OUTCOMES, packed, reasons))

    def tell_lost(self, feed: Feed) -> None:
        """Report to the journal's owner, if it is there, which records will have no outcome."""
        agent = self._by_journal.get(f"{feed.journal_id:016x}")
        if agent is not None and feed.lost:
            agent.send(frame(Message.OUTCOMES, b"", {}, list(feed.lost)))

    def close(self) -> None:
        """Stop listening and close all connections; agents connect to the next service."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory.path, "service.sock"))
        for agent in list(self.agents):
            agent.leave()
