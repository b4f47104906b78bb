"""The dispatcher's socket: who is served, and who hears why not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.protocol.frames import (
    OUTCOME_PAIR,
    PROTOCOL_VERSION,
    REVISION,
    FrameBuffer,
    Message,
    frame,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import JournalLimits
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher import agent_connection
from livingai.workers.dispatcher.agent_connection import Agent, Peer
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.server import AgentServer
from tests.support.journals import Writer, state_directory

_DEADLINE_S = 60


class Port:
    """A dispatcher that answers each request with its verb."""

    trouble = "the store is away"

    def __init__(self, store_url: str) -> None:
        self.store_url = store_url
        self.asked: list[str] = []
        #: Also where a connection has ended.
        self.kicked = asyncio.Event()

    def kick(self) -> None:
        self.kicked.set()

    def appended(self) -> None:
        self.asked.append("appended")

    async def answer(self, agent: Agent, number: int, verb: str, arguments: list[Any]) -> None:
        self.asked.append(verb)
        agent.send(frame(Message.RESPONSE, number, True, verb))

    def owner_gone(self, feed: Feed) -> None:
        """Somebody else notices that."""


class Client:
    """A process that speaks to the socket as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = FrameBuffer()
        self._messages: list[list[Any]] = []

    def say(self, *parts: Any) -> None:
        self._writer.write(frame(*parts))

    def greet(self, url: str, version: int = PROTOCOL_VERSION) -> None:
        self.say(Message.HELLO, version, url, os.getpid(), REVISION)

    async def hear(self, kind: Message) -> list[Any]:
        """The next message of that kind."""
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                for number, message in enumerate(self._messages):
                    if message[0] == kind:
                        return self._messages.pop(number)
                data = await self._reader.read(65536)
                assert data, "the connection has ended"
                self._messages += self._buffer.feed(data)

    def kinds(self) -> set[int]:
        """Of what has come and was not asked for."""
        return {message[0] for message in self._messages}

    def close(self) -> None:
        self._writer.close()

    async def ended(self) -> bool:
        """Wait for the end of the connection."""
        async with asyncio.timeout(_DEADLINE_S):
            while await self._reader.read(65536):
                pass
        return True


Connect = Callable[[], Coroutine[Any, Any, Client]]


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Port, Connect, AgentServer, Intake]]:
    store = SQLiteStore(folder / "a.db")
    directory = StateDirectory(folder / "state")
    directory.ensure(store.url)
    config = ServiceConfig.build(store, directory.path, EngineConfig())
    port = Port(store.url)
    writers: list[asyncio.StreamWriter] = []
    with closing(Intake(directory)) as intake:
        server = AgentServer(directory, config, intake, port)
        await server.start()

        async def connect() -> Client:
            with directory.socket_address() as address:
                reader, writer = await asyncio.open_unix_connection(address)
            writers.append(writer)
            return Client(reader, writer)

        yield port, connect, server, intake
        server.close()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def test_who_has_not_greeted_is_not_served(tmp_path: Path) -> None:
    """It may be of another version, or want another store."""

    async def talk() -> None:
        async with served(tmp_path) as (port, connect, _, _):
            for parts in (
                (Message.REQUEST, 1, "delete", ["run-1"]),
                (Message.ATTACH, "0" * 16),
                (Message.GOODBYE,),
            ):
                client = await connect()
                client.say(*parts)
                assert "greet first" in (await client.hear(Message.GOODBYE))[1][1]
                assert await client.ended()
            assert port.asked == []
            client = await connect()
            client.greet(port.store_url)
            client.say(Message.REQUEST, 7, "size", [])
            assert (await client.hear(Message.HELLO))[1] == PROTOCOL_VERSION
            assert (await client.hear(Message.TROUBLE))[1] == port.trouble
            assert await client.hear(Message.RESPONSE) == [Message.RESPONSE, 7, True, "size"]

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("version", "url", "why"),
    [
        (PROTOCOL_VERSION + 1, "", "speaks protocol"),
        (PROTOCOL_VERSION, "sqlite:////another.db", "give each store a directory of its own"),
    ],
)
def test_who_does_not_fit_hears_why(tmp_path: Path, version: int, url: str, why: str) -> None:
    async def talk() -> None:
        async with served(tmp_path) as (port, connect, _, _):
            client = await connect()
            client.greet(url or port.store_url, version)
            client.say(Message.REQUEST, 1, "size", [])
            assert why in (await client.hear(Message.GOODBYE))[1][1]
            assert await client.ended()
            assert port.asked == []

    asyncio.run(talk())


def test_outcomes_go_to_the_newest_connection_of_a_journals_owner(tmp_path: Path) -> None:
    """The end of the one before was not noticed; when it is, that changes nothing."""

    async def talk() -> None:
        async with served(tmp_path) as (port, connect, server, intake):
            with closing(Writer(state_directory(tmp_path / "state"), JournalLimits())) as owner:
                journal = f"{owner.journal.id:016x}"
                old, new = [await connect() for _ in range(2)]
                for client in (old, new):
                    client.greet(port.store_url)
                    client.say(Message.ATTACH, journal)
                    await client.hear(Message.HELLO)
                    await client.hear(Message.HELLO)  # attached
                feed = intake.by_id(journal)
                assert feed is not None
                server.tell(feed, [(1, 5)], {1: "why"})
                assert await new.hear(Message.OUTCOMES) == [
                    Message.OUTCOMES, OUTCOME_PAIR.pack(1, 5), {1: "why"}
                ]  # fmt: skip
                old.say(Message.REQUEST, 1, "size", [])
                await old.hear(Message.RESPONSE)
                assert Message.OUTCOMES not in old.kinds()
                port.kicked.clear()
                old.close()
                async with asyncio.timeout(_DEADLINE_S):
                    await port.kicked.wait()
                assert len(server.agents) == 1
                server.tell(feed, [(2, 6)], {})
                assert (await new.hear(Message.OUTCOMES))[1] == OUTCOME_PAIR.pack(2, 6)

    asyncio.run(talk())


def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    async def talk() -> None:
        async with served(tmp_path) as (port, connect, _, _):
            owner = Writer(state_directory(tmp_path / "state"), JournalLimits())
            owner.die()
            for journal in (f"{owner.journal.id:016x}", "f" * 16, "../..", 7):
                client = await connect()
                client.greet(port.store_url)
                client.say(Message.ATTACH, journal)
                why = (await client.hear(Message.GOODBYE))[1][1]
                assert "has no owner" in why or "is no journal" in why
                assert await client.ended()

    asyncio.run(talk())


def test_an_owner_that_comes_back_hears_which_records_are_lost(tmp_path: Path) -> None:
    """They were found while it was not connected, and have no outcome in the journal."""

    async def talk() -> None:
        async with served(tmp_path) as (port, connect, _, intake):
            with closing(Writer(state_directory(tmp_path / "state"), JournalLimits())) as owner:
                intake.refresh()
                (feed,) = intake.feeds.values()
                feed.lost.append((3, 4, "damaged"))
                client = await connect()
                client.greet(port.store_url)
                client.say(Message.ATTACH, f"{owner.journal.id:016x}")
                assert (await client.hear(Message.OUTCOMES))[3] == [[3, 4, "damaged"]]

    asyncio.run(talk())


@pytest.mark.parametrize("uid", [os.geteuid(), 0, os.geteuid() + 1])
def test_another_user_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """One that was given the descriptor of a connection, say; but root may."""
    monkeypatch.setattr(agent_connection, "peer_of", lambda fd: Peer(os.getpid(), uid))

    async def talk() -> None:
        async with served(tmp_path) as (port, connect, _, _):
            client = await connect()
            if uid in (os.geteuid(), 0):
                client.greet(port.store_url)
                client.say(Message.REQUEST, 1, "size", [])
                await client.hear(Message.RESPONSE)
            else:  # before it says anything
                error = (await client.hear(Message.GOODBYE))[1]
                assert error[0] == "NotTheOwnerError"
                assert await client.ended()

    asyncio.run(talk())
