"""A store that several processes use, and that are killed."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("langgraph")

from livingai.adapters.langgraph import LivingAIStore
from tests.frameworks.langgraph import memories
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process
from tests.support.place import Place


def test_every_process_sees_what_any_has_put(place: Place) -> None:
    one, two = other_process(place), other_process(place)
    for number in range(5):
        one.call(memories.put, "k", {"n": number})
        assert two.call(memories.get, "k") == {"n": number}
        two.call(memories.put, "k", {"two": number})
        assert one.call(memories.get, "k") == {"two": number}
    one.call(memories.delete, "k")
    assert two.call(memories.get, "k") is None


def test_processes_that_put_at_once_lose_nothing(place: Place) -> None:
    names = ["a", "b", "c"]
    agents = [other_process(place) for _ in names]
    for agent, name in zip(agents, names, strict=True):
        agent.send(memories.put_many, name, 60)
    for agent in agents:
        agent.receive()
    with place.engine() as engine:
        store = LivingAIStore(engine)
        assert store.list_namespaces() == [("own", "a"), ("own", "b"), ("own", "c"), ("shared",)]
        for name in names:
            items = store.search(("own", name), limit=100)
            assert [item.value["number"] for item in items] == list(range(59, -1, -1))
        newest = store.get(("shared",), "all")
        assert newest is not None
        assert newest.value["number"] == 59, "not the last one of any process"
        store.sweep_ttl()
        assert store.get(("shared",), "all") == newest


def test_what_a_killed_process_has_put_is_there(place: Place) -> None:
    agent = other_process(place)
    with pytest.raises(AgentDied):
        agent.call(memories.put_many_and_die, "x", 40)
    with place.engine() as engine:
        store = LivingAIStore(engine)
        assert len(store.search(("own", "x"), limit=100)) == 40
        shared = store.get(("shared",), "all")
        assert shared is not None
        assert shared.value == {"name": "x", "number": 39}


def test_a_search_needs_no_more_memory_than_what_it_finds(file_place: Place) -> None:
    chunk = 4000
    with file_place.engine() as engine:
        store = LivingAIStore(engine)
        chance = random.Random(1)
        for number in range(10_000):
            value = {"wanted": number % 1000 == 17, "filler": chance.randbytes(chunk)}
            store.put(("many", f"{number % 10}"), f"{number}", value)
        store.flush()
        found, peak = other_process(file_place).call(memories.search_in_little_memory)
    assert found == [f"{number}017" for number in range(9, 2, -1)]
    assert peak < 16 << 20, f"{peak >> 20} MiB for a search among {10_000 * chunk >> 20} MiB"
