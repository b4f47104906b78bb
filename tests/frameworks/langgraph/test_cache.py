"""LangGraph's cache of nodes, shared by processes."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

from livingai import CheckpointEngine
from livingai.adapters.langgraph import LivingAICache, cache, item_log
from livingai.errors import ConfigurationError
from tests.frameworks.langgraph import memories
from tests.frameworks.langgraph.graphs import Steps
from tests.support.framework_places import other_process
from tests.support.place import Place
from tests.support.waiting import until


@dataclass
class Odd:
    """A type that LangGraph does not know."""

    n: int


def nodes_of(engine: CheckpointEngine) -> int:
    return sum(info.nodes for info in engine.executions_sync(prefix="langgraph-cache:"))


def test_values_are_set_found_and_cleared(place: Place) -> None:
    with place.engine() as engine:
        values = LivingAICache(engine)
        pairs: dict[Any, Any] = {
            (("a", "b"), "1"): ([["messages", AIMessage("hi", id="1")]], None),
            (("a", "b"), "2"): ({"bytes": b"\0", "list": [1, 2], 3: None}, 60),
            (("a",), "1"): (None, None),
            ((), ":/ %"): ("x" * 100_000, None),
            (("", "a.b", "x" * 400), "long" * 100): (1, None),
        }
        values.set(pairs)
        absent: Any = [(("a", "b"), "3"), (("b",), "1")]
        found = values.get([*pairs, *absent])
        assert found == {key: value for key, (value, _) in pairs.items()}
        assert values.get([]) == {}
        values.set({(("a", "b"), "1"): ("newer", None)})
        assert values.get([(("a", "b"), "1")]) == {(("a", "b"), "1"): "newer"}
        values.clear([("a", "b"), ("not there",)])
        assert values.get(list(pairs)).keys() == {*list(pairs)[2:]}
        values.clear()
        assert values.get(list(pairs)) == {}
        assert nodes_of(engine) == 1, "what was cleared has not given its space back"
        values.set(pairs)
        assert len(values.get(list(pairs))) == 5


async def test_the_asynchronous_half(place: Place) -> None:
    async with place.engine() as engine:
        values = LivingAICache(engine)
        await asyncio.gather(*(values.aset({(("a",), f"{n}"): (n, None)}) for n in range(9)))
        keys: Any = [(("a",), f"{n}") for n in range(10)]
        assert await values.aget(keys) == {key: n for n, key in enumerate(keys[:9])}
        await values.aclear([("a",)])
        assert await values.aget(keys) == {}
        assert await values.asweep() == 0


def test_what_has_expired_is_not_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = 0.0
    clock: Any = SimpleNamespace(time=lambda: time.time() + moved)
    monkeypatch.setattr(cache, "time", clock)
    monkeypatch.setattr(item_log, "time", clock)
    with place.engine() as engine:
        values = LivingAICache(engine)
        for number in range(20):
            values.set({(("a",), f"{number}"): (number, 100 if number else None)})
        keys: Any = [(("a",), f"{number}") for number in range(20)]
        moved = 95
        assert len(values.get(keys)) == 20
        moved = 105
        assert values.get(keys) == {(("a",), "0"): 0}
        values.set({(("b",), "last"): (1, None)})
        values.sweep()
        until(lambda: nodes_of(engine) == 2, what="their space")


def test_what_expires_is_swept_without_being_asked(
    file_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SWEEP_AFTER", 30)
    with file_place.engine() as engine:
        values = LivingAICache(engine)
        for number in range(29):
            values.set({(("a",), f"{number}"): (number, 0)})
        values.set({(("a",), "last"): (1, 1000)})
        until(lambda: nodes_of(engine) == 1, what="the sweep")


def test_nothing_is_unpickled(file_place: Place, caplog: pytest.LogCaptureFixture) -> None:
    key: Any = (("a",), "k")
    with file_place.engine() as engine:
        with pytest.raises(ConfigurationError, match="pickle"):
            LivingAICache(engine, serde=JsonPlusSerializer(pickle_fallback=True))
        values = LivingAICache(engine)
        monkey: Any = SimpleNamespace(
            dumps_typed=lambda value: ("pickle", pickle.dumps(value)), loads_typed=None
        )
        LivingAICache(engine, serde=monkey).set({key: (1, None)})
        with caplog.at_level(logging.WARNING, "livingai"):
            assert values.get([key]) == {}
        assert "made anew" in caplog.text


def test_a_type_that_is_not_known_is_a_miss_that_says_what_to_allow(
    file_place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    key: Any = (("a",), "k")
    with file_place.engine() as engine:
        values = LivingAICache(engine)
        values.set({key: ([1, Odd(3)], None)})
        with caplog.at_level(logging.WARNING, "livingai"):
            assert values.get([key]) == {}
        assert "('tests.frameworks.langgraph.test_cache', 'Odd')" in caplog.text
        allowing = JsonPlusSerializer(
            allowed_msgpack_modules=[("tests.frameworks.langgraph.test_cache", "Odd")]
        )
        assert LivingAICache(engine, serde=allowing).get([key]) == {key: [1, Odd(3)]}


def test_what_one_process_has_computed_no_other_computes(place: Place) -> None:
    first, second = other_process(place), other_process(place)
    assert first.call(memories.cached_graph, 5) == [{"done": ["5 done"]}, 1]
    assert first.call(memories.cached_graph, 5) == [{"done": ["5 done"]}, 0]
    assert second.call(memories.cached_graph, 5) == [{"done": ["5 done"]}, 0]
    assert second.call(memories.cached_graph, 6) == [{"done": ["6 done"]}, 1]
    assert first.call(memories.cached_graph, 6, asynchronous=True) == [{"done": ["6 done"]}, 0]
    first.call(memories.clear_cache)
    assert second.call(memories.cached_graph, 5) == [{"done": ["5 done"]}, 1]


async def test_a_graph_clears_its_cache(file_place: Place) -> None:
    calls = 0

    def work(state: Steps) -> dict[str, list[str]]:
        nonlocal calls
        calls += 1
        return {"done": ["x"]}

    async with file_place.engine() as engine:
        builder = StateGraph(Steps)
        builder.add_node("work", work, cache_policy=CachePolicy(ttl=600))
        builder.add_edge(START, "work")
        builder.add_edge("work", END)
        graph = builder.compile(cache=LivingAICache(engine))
        start: Any = {"done": []}
        for _ in range(3):
            assert await graph.ainvoke(start) == {"done": ["x"]}
        assert calls == 1
        await graph.aclear_cache()
        await graph.ainvoke(start)
        assert calls == 2
