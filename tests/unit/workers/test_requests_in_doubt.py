"""Questions while the store is in doubt: what would write to it is refused; a read may begin it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import LivingAIError, StoreDamagedError
from livingai.protocol.frames import FrameBuffer
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher import requests as requests_module
from livingai.workers.dispatcher.requests import Requests

DAMAGED = StoreDamagedError("it is damaged")
#: What writes to the store, as an agent asks it.
WRITES: dict[str, list[Any]] = {
    "claim": ["run-1", "owner"],
    "delete": ["run-1"],
    "fork": ["run-1", "run-2"],
    "prune": [{"max_age_s": 1.0}],
}


class Agent:
    """What of an agent's connection an answer needs; the block of :meth:`turn` is its own."""

    revision = 1

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []

    def turn(self) -> asyncio.Lock:
        return asyncio.Lock()

    def send(self, data: bytes) -> None:
        self.answers += FrameBuffer().feed(data)


class Bench:
    """Requests whose workers note what they are asked, and raise ``error`` if there is one."""

    def __init__(self, folder: Path) -> None:
        store = SQLiteStore(folder / "a.db")
        config = ServiceConfig.build(store, str(folder), EngineConfig())
        self.requests = Requests(config, self)  # type: ignore[arg-type]
        self.requests._reader = self.requests._housekeeper = self  # type: ignore[assignment]
        self.asked: list[str] = []
        self.error: LivingAIError | None = None
        self.in_doubt: LivingAIError | None = None

    async def call(self, verb: str, *arguments: Any) -> int:
        self.asked.append(verb)
        if self.error is not None:
            raise self.error
        return 0

    async def ask_writer(self, key: int, verb: str, *arguments: Any) -> int:
        return await self.call(verb, *arguments)

    def kick(self) -> None:
        """There is no turn to take."""

    async def passed(self, key: int | None) -> None:
        assert self.in_doubt is None, "it would wait for what is not written now"

    def refuse_in_doubt(self) -> None:
        if self.in_doubt is not None:
            raise self.in_doubt

    def doubt(self, error: LivingAIError) -> None:
        self.in_doubt = error

    def over(self) -> None:
        """The store is sound."""
        self.in_doubt = None

    async def answer(self, verb: str, arguments: list[Any]) -> list[Any]:
        """``[ok, value or error]``."""
        agent = Agent()
        await self.requests.answer(agent, 1, verb, arguments)  # type: ignore[arg-type]
        (answer,) = agent.answers
        return answer[2:]


@pytest.mark.parametrize("verb", WRITES)
def test_what_would_write_is_refused_before_any_barrier(tmp_path: Path, verb: str) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        assert (await bench.answer(verb, WRITES[verb]))[0] is True
        bench.in_doubt = DAMAGED
        ok, error = await bench.answer(verb, WRITES[verb])
        assert (ok, error[:2]) == (False, ["StoreDamagedError", "it is damaged"])
        assert bench.asked == [verb]

    asyncio.run(main())


def test_a_read_that_finds_damage_begins_the_doubt(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.error = LivingAIError("something else")
        assert (await bench.answer("size", []))[0] is False
        assert bench.in_doubt is None
        bench.error = DAMAGED
        assert (await bench.answer("size", []))[0] is False
        assert bench.in_doubt is DAMAGED

    asyncio.run(main())


def test_retention_waits_and_may_begin_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "_RETAIN_EVERY_S", 0.0)

    async def main() -> None:
        bench = Bench(tmp_path)
        found = StoreDamagedError("found by retention")
        bench.doubt(DAMAGED)
        bench.error = found
        task = asyncio.create_task(bench.requests.retain({"max_age_s": 1.0}))
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.asked == []
        bench.over()
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.asked == ["prune"]
        assert bench.in_doubt is found
        task.cancel()

    asyncio.run(main())
