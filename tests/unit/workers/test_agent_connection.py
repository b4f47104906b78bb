"""An agent's connection, seen from the dispatcher: what it asks, and what it does not read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from livingai.protocol.frames import Message, frame
from livingai.workers.dispatcher import agent_connection
from livingai.workers.dispatcher.agent_connection import _MAX_REQUESTS, Agent

_MORE = 500
_DEADLINE_S = 60


class Server:
    """Answers no request before it is let go."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Condition()
        self.numbers: list[int] = []
        self.agents: list[Agent] = []
        self._tasks: list[asyncio.Task[None]] = []

    def connected(self, agent: Agent) -> None:
        self.agents.append(agent)

    def disconnected(self, agent: Agent) -> None:
        self.agents.remove(agent)

    def received(self, agent: Agent, message: list[Any]) -> None:
        self.numbers.append(message[1])
        agent.run(self._answer(agent, message[1]))
        self._tasks.append(asyncio.create_task(self._tell()))

    async def _tell(self) -> None:
        async with self.asked:
            self.asked.notify_all()

    async def _answer(self, agent: Agent, number: int) -> None:
        await self.may_answer.wait()
        agent.send(frame(Message.RESPONSE, number, True, None))

    async def until(self, count: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(_DEADLINE_S), self.asked:
            await self.asked.wait_for(lambda: len(self.numbers) >= count)


def test_an_agent_that_asks_too_much_is_heard_again_later(tmp_path: Path) -> None:
    """Its requests are read up to a number that wait for their answers, and from then on again as
    these are given."""
    path = str(tmp_path / "socket")

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        server = Server()
        listening = await loop.create_unix_server(lambda: Agent(server), path)
        answers, requests = await asyncio.open_unix_connection(path)
        for number in range(_MAX_REQUESTS):
            requests.write(frame(Message.REQUEST, number, "size", []))
        await server.until(_MAX_REQUESTS)
        (agent,) = server.agents
        assert isinstance(agent._transport, asyncio.ReadTransport)
        assert not agent._transport.is_reading()
        for number in range(_MAX_REQUESTS, _MAX_REQUESTS + _MORE):
            requests.write(frame(Message.REQUEST, number, "size", []))
        server.may_answer.set()
        await server.until(_MAX_REQUESTS + _MORE)
        assert server.numbers == list(range(_MAX_REQUESTS + _MORE))
        expected = [frame(Message.RESPONSE, number, True, None) for number in server.numbers]
        async with asyncio.timeout(_DEADLINE_S):
            assert await answers.readexactly(sum(map(len, expected))) == b"".join(expected)
        requests.close()
        await requests.wait_closed()
        listening.close()
        await listening.wait_closed()

    asyncio.run(ask())


def test_a_large_answer_is_fetched_once_the_one_before_has_left() -> None:
    async def ask() -> None:
        agent = Agent(Server())
        fetched: list[int] = []

        async def fetch(number: int) -> None:
            async with agent.turn():
                fetched.append(number)

        agent.pause_writing()
        tasks = [asyncio.create_task(fetch(number)) for number in range(2)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert fetched == []
        agent.resume_writing()
        await asyncio.gather(*tasks)
        assert fetched == [0, 1]

    asyncio.run(ask())


def test_who_reads_nothing_is_left_only_after_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits for it: it may be stopped for a moment."""
    path = str(tmp_path / "socket")

    async def ask() -> None:
        server = Server()
        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(lambda: Agent(server), path)
        _, requests = await asyncio.open_unix_connection(path, limit=1)
        requests.write(frame(Message.REQUEST, 0, "size", []))
        await server.until(1)
        (agent,) = server.agents
        assert agent._transport is not None
        for _ in range(3):
            agent.send(bytes(4 << 20))
        assert not agent._transport.is_closing()
        monkeypatch.setattr(agent_connection, "_MAX_UNREAD_S", -1.0)
        agent.send(b"x")
        assert agent._transport.is_closing()
        requests.close()
        listening.close()
        await listening.wait_closed()

    asyncio.run(ask())
