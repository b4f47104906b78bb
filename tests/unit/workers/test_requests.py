"""Questions of agents, and readers that die over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.protocol.frames import FrameBuffer, Message
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher import store_link
from livingai.workers.dispatcher.requests import Requests
from livingai.workers.dispatcher.spawning import Spawned, spawn_worker
from tests.support.journals import state_directory


class Asker:
    """What of an agent's connection an answer needs."""

    revision = 1

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        yield

    def send(self, data: bytes) -> None:
        self.answers += FrameBuffer().feed(data)


class Port:
    """A dispatcher that has nothing on its way."""

    def kick(self) -> None:
        """There is no turn to take."""

    async def passed(self, key: int | None) -> None:
        """Nothing waits."""


@pytest.mark.parametrize("deaths", [0, 1, 2, 3])
def test_a_question_survives_two_deaths_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """Then it may be the cause itself: it fails, and the next one has a new reader."""
    with SQLiteStore(tmp_path / "a.db") as store:
        size = store.size_bytes()
    state_directory(tmp_path)
    config = ServiceConfig.build(SQLiteStore(tmp_path / "a.db"), str(tmp_path), EngineConfig())
    left = deaths

    def spawn(role: str) -> Spawned:
        nonlocal left
        spawned = spawn_worker(role)
        if left:
            left -= 1
            spawned.process.kill()
        return spawned

    monkeypatch.setattr(store_link, "spawn_worker", spawn)
    asker = Asker()

    async def ask() -> None:
        requests = Requests(config, Port())  # type: ignore[arg-type]
        for number in (1, 2):
            await requests.answer(asker, number, "size", [])  # type: ignore[arg-type]
        await requests.close()

    asyncio.run(ask())
    assert left == 0
    first, second = asker.answers
    if deaths < 3:
        assert first[:3] == [Message.RESPONSE, 1, True]
    else:
        assert first[:3] == [Message.RESPONSE, 1, False]
        assert "the reader died" in first[3][1]
    assert second[:3] == [Message.RESPONSE, 2, True]
    assert second[3] >= size > 0
