"""What other processes do with stores and caches; LangGraph is imported by these processes."""

from __future__ import annotations

import asyncio
import os
import signal
import tracemalloc
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

from livingai.adapters.langgraph import LivingAICache, LivingAIStore
from tests.support.agent_main import AgentSide


class Numbered(TypedDict):
    """The state of a graph that is cached."""

    number: int
    done: list[str]


def put(agent: AgentSide, key: str, value: dict[str, Any]) -> None:
    """Put one item."""
    LivingAIStore(agent.engine).put(("shared",), key, value)


def get(agent: AgentSide, key: str) -> Any:
    """The value of an item; None: there is none."""
    item = LivingAIStore(agent.engine).get(("shared",), key)
    return None if item is None else item.value


def delete(agent: AgentSide, key: str) -> None:
    """Delete one item."""
    LivingAIStore(agent.engine).delete(("shared",), key)


def put_many(agent: AgentSide, name: str, count: int) -> None:
    """Put as many items of its own, and each time the one that all processes put."""
    store = LivingAIStore(agent.engine)
    for number in range(count):
        store.put(("own", name), f"{number}", {"number": number})
        store.put(("shared",), "all", {"name": name, "number": number})


def put_many_and_die(agent: AgentSide, name: str, count: int) -> None:
    """As :func:`put_many`, and then be killed."""
    put_many(agent, name, count)
    os.kill(os.getpid(), signal.SIGKILL)


def search_in_little_memory(agent: AgentSide) -> list[Any]:
    """Search among many items: the keys of what is found, and how many bytes that took at most."""
    store = LivingAIStore(agent.engine)
    assert store.search(("none",), limit=1) == []  # whatever the first search needs once
    tracemalloc.start()
    found = store.search(("many",), filter={"wanted": True}, limit=7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return [[item.key for item in found], peak]


def cached_graph(agent: AgentSide, number: int, *, asynchronous: bool = False) -> list[Any]:
    """Run a graph of one node that is cached: the state, and how often the node was called."""
    calls = []

    def work(state: Any) -> dict[str, list[str]]:
        calls.append(state)
        return {"done": [f"{state['number']} done"]}

    builder = StateGraph(Numbered)
    builder.add_node("work", work, cache_policy=CachePolicy(key_func=_number, ttl=600))
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    graph = builder.compile(cache=LivingAICache(agent.engine))
    start: Any = {"number": number}
    state = asyncio.run(graph.ainvoke(start)) if asynchronous else graph.invoke(start)
    return [{"done": state["done"]}, len(calls)]


def _number(state: Any) -> str:
    return str(state["number"])


def clear_cache(agent: AgentSide) -> None:
    """Remove all that is cached."""
    LivingAICache(agent.engine).clear()
