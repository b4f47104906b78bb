"""Strands' ``Storage`` on an engine: its contract, sessions, and processes that are killed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("strands")

from strands.storage import InMemoryStorage, Storage
from strands.types.exceptions import StorageError

from livingai import CheckpointEngine, ExecutionNode, NodeType
from livingai.adapters.strands import LivingAIStorage
from livingai.errors import ConfigurationError
from tests.frameworks.strands import sessions
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place


async def test_values_are_written_read_and_deleted(place: Place) -> None:
    async with place.engine() as engine:
        storage = LivingAIStorage(engine)
        assert isinstance(storage, Storage)
        assert await storage.read("a/b") is None
        await storage.delete("a/b")
        for data in (b"", b"\0\xff", bytes(range(256)) * 100):
            await storage.write("a/b", data)
            assert await storage.read("a/b") == data
        await storage.write("//a///b/", bytearray(b"same key"))
        assert await storage.read("a/b") == b"same key"
        assert await LivingAIStorage(engine, namespace="other").read("a/b") is None
        await storage.delete("a/b")
        assert await storage.read("a/b") is None
        assert await storage.list("") == []
        await storage.write("a/b", b"again")
        assert await storage.read("a/b") == b"again"


KEYS = (
    "a", "a/b", "a/b.json", "ab", "a b/ü", "a%2Fb", "z/nul\0", "z/\U0001f600", "z/~",
    "long/" + "x" * 83, "long/" + "x" * 84, "long/" + "x" * 87, "long/" + "x" * 300,
    "long/" + "ü" * 30 + "/" + "y" * 5000 + "/end",
)  # fmt: skip
PREFIXES = (
    "", "a", "a/", "a/b", "/a/b", "a//b", "z/", "nothing", "long/", "long/x", "long/" + "x" * 84,
    "long/" + "x" * 86, "long/" + "x" * 90, "long/" + "x" * 301, "long/" + "ü" * 29,
    "long/" + "ü" * 30 + "/", "long/" + "ü" * 30 + "/" + "y" * 4999,
    "long/" + "ü" * 30 + "/" + "y" * 5000 + "/",
)  # fmt: skip


async def test_keys_are_listed_as_the_storage_in_memory_does(place: Place) -> None:
    memory = InMemoryStorage()
    async with place.engine() as engine:
        storage = LivingAIStorage(engine)
        await LivingAIStorage(engine, namespace="default/a").write("hidden", b"")
        for key in KEYS:
            for each in (memory, storage):
                await each.write(key, key.encode())
        for prefix in PREFIXES:
            assert await storage.list(prefix) == await memory.list(prefix), prefix[:90]
        for key in KEYS:
            assert await storage.read(key) == key.encode()
        for key in KEYS[::2]:
            await memory.delete(key)
            await storage.delete(key)
        assert await storage.list() == await memory.list()


@pytest.mark.parametrize("key", ["", "/", "//", "a\\b", "..", "a/../b"])
async def test_keys_that_are_refused(file_place: Place, key: str) -> None:
    memory = InMemoryStorage()
    async with file_place.engine() as engine:
        storage = LivingAIStorage(engine)
        for each in (memory, storage):
            with pytest.raises(StorageError):
                await each.write(key, b"")
            with pytest.raises(StorageError):
                await each.read(key)
            with pytest.raises(StorageError):
                await each.delete(key)


async def test_what_makes_no_sense_is_refused(file_place: Place) -> None:
    async with file_place.engine(max_state_bytes=1000) as engine:
        storage = LivingAIStorage(engine)
        with pytest.raises(StorageError, match="must be bytes"):
            await storage.write("a", "text")  # type: ignore[arg-type]
        with pytest.raises(StorageError, match="max_state_bytes"):
            await storage.write("a", bytes(2000))
        with pytest.raises(StorageError, match="too long"):
            await storage.write("/".join(["part" * 10] * 50), b"")
        with pytest.raises(StorageError, match="backslash"):
            await storage.list("a\\")
        refuses_odd_places(LivingAIStorage, engine)
        with pytest.raises(ConfigurationError, match="search_strategy"):
            LivingAIStorage(engine, search_strategy="bm25")
        assert await storage.list() == []
        run = "strands:default/odd"
        entry = f"{run}/value/{'0' * 16}-{'0' * 8}"
        await engine.save(ExecutionNode(run, NodeType.MEMORY, id=entry), {"no": "bytes"})
        with pytest.raises(StorageError, match="another program"):
            await storage.read("odd")
    with pytest.raises(StorageError, match="closed"):
        await storage.write("a", b"")


async def test_search_finds_words_and_a_strategy_is_told_of_writes(file_place: Place) -> None:
    class Strategy:
        def __init__(self) -> None:
            self.indexed: list[tuple[str, bytes]] = []

        async def index(self, storage: Any, key: str, data: bytes, **kwargs: Any) -> None:
            if data == b"odd":
                raise ValueError("no index")
            self.indexed.append((key, data))

        async def search(self, storage: Any, query: str, **kwargs: Any) -> list[Any]:
            return [query]

    async with file_place.engine() as engine:
        storage = LivingAIStorage(engine)
        await storage.write("one.md", b"dark mode toggle")
        await storage.write("two.md", b"light mode")
        found = await storage.search("the dark mode")
        assert [(each.key, each.score) for each in found] == [("one.md", 2), ("two.md", 1)]
        strategy = Strategy()
        indexed = LivingAIStorage(engine, search_strategy=strategy)
        await indexed.write("//three.md", b"x")
        assert strategy.indexed == [("three.md", b"x")]
        assert await indexed.search("q") == ["q"]
        with pytest.raises(StorageError, match="not indexed"):
            await indexed.write("four.md", b"odd")
        assert await indexed.read("four.md") == b"odd"


def test_a_session_goes_on_in_another_process(place: Place) -> None:
    first, second = other_process(place), other_process(place)
    assert first.call(sessions.turn, "one") == 4
    assert second.call(sessions.turn, "two") == 8
    assert first.call(sessions.turn, "three") == 12


def test_a_session_killed_in_a_tool_has_all_messages_before_it(place: Place) -> None:
    agent = other_process(place)
    assert agent.call(sessions.turn, "one") == 4
    agent.send(sessions.turn, "two", die=True)
    with pytest.raises(AgentDied):
        agent.receive()
    assert agent.died() == -9
    with place.engine() as engine:
        messages = sessions.strands_agent(engine).messages
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    assert "toolUse" in messages[-1]["content"][0]


def test_an_acknowledged_value_survives_the_kill(place: Place) -> None:
    reader = other_process(place)
    for number in range(3):
        agent = other_process(place)
        agent.send(sessions.write, "key", f"{number}".encode(), die=True)
        with pytest.raises(AgentDied):
            agent.receive()
        assert reader.call(sessions.read, "key") == f"{number}".encode()


def test_two_processes_write_at_once_and_lose_nothing(place: Place) -> None:
    names, count = ("a", "b"), 20
    agents = {name: other_process(place) for name in names}
    for name, agent in agents.items():
        agent.call(sessions.read, "shared")
        agent.send(sessions.write_many, "shared", name, count)
    for agent in agents.values():
        agent.receive()
    reader = other_process(place)
    last = {f"{name}-{count - 1}".encode() for name in names}
    assert reader.call(sessions.read, "shared") in last
    for name in names:
        expected = sorted(f"{name}/{number}" for number in range(count))
        assert reader.call(sessions.keys, f"{name}/") == expected


def test_from_several_event_loops(file_place: Place) -> None:
    engine: CheckpointEngine = file_place.engine()
    storage = LivingAIStorage(engine)
    for number in range(3):
        asyncio.run(storage.write("key", f"{number}".encode()))
        assert asyncio.run(storage.read("key")) == f"{number}".encode()
    engine.close_sync()
