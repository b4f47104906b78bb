"""A program that has been running on LangGraph's own savers: what an import has to move."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

INTERRUPTED = "asks"
DONE = "answered"
DELETED = "deleted"
LONG = "thread " + "x" * 300


@dataclass
class Verdict:
    """A class of the application."""

    score: float
    by: str


def extended(have: list[Any], more: list[list[Any]]) -> list[Any]:
    """The reducer of the delta channel."""
    return [*have, *(each for update in more for each in update)]


class Chat(TypedDict):
    """State of the whole graph."""

    messages: Annotated[list[Any], DeltaChannel(extended, list, snapshot_frequency=4)]
    notes: Annotated[list[Any], operator.add]
    verdict: Any


class Inner(TypedDict):
    """State of the subgraph."""

    notes: Annotated[list[Any], operator.add]


def chat_graph(saver: Any) -> Any:
    """A graph with a subgraph that asks, tasks that are sent, and a delta channel."""

    def look(state: Inner) -> dict[str, Any]:
        return {"notes": ["looked", b"\x00\xff", None]}

    def ask(state: Inner) -> dict[str, Any]:
        return {"notes": [interrupt("may I?")]}

    inner = StateGraph(Inner)
    inner.add_node("look", look)
    inner.add_node("ask", ask)
    inner.add_edge(START, "look")
    inner.add_edge("look", "ask")

    def talk(state: Chat) -> dict[str, Any]:
        number = len(state["messages"])
        return {"messages": [AIMessage(f"turn {number}", id=f"{number}")], "notes": [number]}

    def judge(state: Any) -> dict[str, Any]:
        return {"notes": [f"judged {state}"], "verdict": Verdict(0.5, "judge")}

    def turns(state: Chat) -> Any:
        if len(state["messages"]) % 7:
            return "talk"
        return [Send("judge", 1), "inner"]

    builder = StateGraph(Chat)
    builder.add_node("talk", talk)
    builder.add_node("judge", judge)
    builder.add_node("inner", inner.compile())
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", turns)
    builder.add_edge("inner", END)
    return builder.compile(checkpointer=saver)


def config_of(thread_id: str) -> Any:
    """The config that names a thread."""
    return {"configurable": {"thread_id": thread_id}}


def start(thread_id: str) -> Any:
    """The first input of a thread."""
    return {"messages": [HumanMessage(f"hello, {thread_id}", id="0")], "notes": []}


def live(saver: Any) -> None:
    """What the program has done so far: a thread that waits for an answer, one that got it and
    began again, one with a long name, and one that was deleted."""
    graph = chat_graph(saver)
    for thread_id in (INTERRUPTED, DONE, DELETED, LONG):
        graph.invoke(start(thread_id), config_of(thread_id))
    graph.invoke(Command(resume="yes"), config_of(DONE))
    graph.invoke(start(DONE), config_of(DONE))
    saver.delete_thread(DELETED)


async def alive(saver: Any) -> None:
    """As :func:`live`, on an asynchronous saver."""
    graph = chat_graph(saver)
    for thread_id in (INTERRUPTED, DONE, DELETED, LONG):
        await graph.ainvoke(start(thread_id), config_of(thread_id))
    await graph.ainvoke(Command(resume="yes"), config_of(DONE))
    await graph.ainvoke(start(DONE), config_of(DONE))
    await saver.adelete_thread(DELETED)


def made_sqlite(path: Path) -> Path:
    """A database of AsyncSqliteSaver with all that."""

    async def make() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            await alive(saver)

    asyncio.run(make())
    return path


def many_checkpoints(path: Path, count: int, size: int, thread_id: str = "many") -> Path:
    """A database of SqliteSaver with one thread of so many checkpoints with ``size`` bytes each,
    and a write behind each."""
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        put_many(SqliteSaver(connection), count, size, thread_id)
    return path


def put_many(saver: Any, count: int, size: int, thread_id: str = "many") -> None:
    """Put so many checkpoints with ``size`` bytes each, and a write behind each."""
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    for number in range(count):
        text = f"{number:08}" * (size // 8)
        checkpoint: Any = empty_checkpoint() | {
            "id": f"{number:08}", "channel_values": {"text": text},
            "channel_versions": {"text": number},
        }  # fmt: skip
        config = saver.put(config, checkpoint, {"source": "loop", "step": number}, {})
        saver.put_writes(config, [("text", f"write {number}")], f"task-{number}", "~path")


def contents(saver: Any, thread_id: str) -> list[Any]:
    """All that a saver shows of a thread, in plain values."""
    return [
        (
            found.config["configurable"], found.checkpoint, found.metadata, found.parent_config,
            found.pending_writes,
        )
        for found in saver.list(config_of(thread_id))
    ]  # fmt: skip
