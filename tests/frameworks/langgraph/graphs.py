"""Graphs, and what other processes do with them; LangGraph is imported by these processes."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from livingai.adapters.langgraph import LivingAISaver, removal
from tests.support.agent_main import AgentSide

STEPS = ("one", "two", "three", "four")


class Steps(TypedDict):
    """Names of the steps that are done."""

    done: Annotated[list[str], operator.add]


def steps_graph(saver: Any, note: Path | None = None, die_in: str = "", pause_s: float = 0) -> Any:
    """A graph of four nodes. Each writes its name to the file ``note`` as it begins; the process is
    killed in the node ``die_in``."""

    def node(name: str) -> Any:
        async def work(state: Steps) -> dict[str, list[str]]:
            if note is not None:
                with note.open("a") as file:
                    file.write(f"{name}\n")
            if name == die_in:
                os.kill(os.getpid(), signal.SIGKILL)
            if pause_s:
                await asyncio.sleep(pause_s)
            return {"done": [name]}

        return work

    builder = StateGraph(Steps)
    for name in STEPS:
        builder.add_node(name, node(name))
    for before, after in zip((START, *STEPS), (*STEPS, END), strict=True):
        builder.add_edge(before, after)
    return builder.compile(checkpointer=saver)


def config_of(thread_id: str) -> Any:
    """The config that names a thread."""
    return {"configurable": {"thread_id": thread_id}}


def run_steps(agent: AgentSide, note: str, thread_id: str, durability: str, die_in: str) -> Any:
    """Run the graph from its beginning."""
    graph = steps_graph(LivingAISaver(agent.engine), Path(note), die_in)
    start: Any = {"done": []}
    return asyncio.run(graph.ainvoke(start, config_of(thread_id), durability=durability))


def resume_steps(agent: AgentSide, note: str, thread_id: str) -> Any:
    """Go on with the graph where it was."""
    graph = steps_graph(LivingAISaver(agent.engine), Path(note))
    return asyncio.run(graph.ainvoke(None, config_of(thread_id)))


def ask_graph(saver: Any) -> Any:
    """A graph that asks a person."""

    def ask(state: Steps) -> dict[str, list[str]]:
        return {"done": [interrupt("which one?")]}

    builder = StateGraph(Steps)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=saver)


def answer(agent: AgentSide, thread_id: str, text: str) -> Any:
    """Answer what the graph asked, in this process."""
    graph = ask_graph(LivingAISaver(agent.engine))
    return graph.invoke(Command(resume=text), config_of(thread_id))


def put_many(agent: AgentSide, thread_id: str, name: str, count: int) -> list[str]:
    """Put checkpoints, each with a write; the ids of the checkpoints."""
    saver = LivingAISaver(agent.engine)
    stored = []
    for number in range(count):
        config = put(saver, thread_id, f"{number:04}-{name}", {"who": name, "number": number})
        saver.put_writes(config, [("who", name)], f"task-{name}-{number}")
        stored.append(str(config["configurable"]["checkpoint_id"]))
    return stored


def put_many_and_die(agent: AgentSide, thread_id: str, name: str, count: int) -> None:
    """As :func:`put_many`, and then be killed."""
    put_many(agent, thread_id, name, count)
    os.kill(os.getpid(), signal.SIGKILL)


def ids_of(agent: AgentSide, thread_id: str) -> list[str]:
    """The ids of a thread's checkpoints."""
    saver = LivingAISaver(agent.engine)
    return [found.checkpoint["id"] for found in saver.list(config_of(thread_id))]


def delete_thread(agent: AgentSide, thread_id: str, chunk: int) -> None:
    """Delete a thread, ``chunk`` nodes in one request."""
    removal.CHUNK = chunk  # type: ignore[misc]
    LivingAISaver(agent.engine).delete_thread(thread_id)


def copy_thread(agent: AgentSide, thread_id: str, chunk: int) -> None:
    """Copy a thread's source to it."""
    LivingAISaver(agent.engine).copy_thread(f"{thread_id}-source", thread_id)


def prune_thread(agent: AgentSide, thread_id: str, chunk: int) -> None:
    """Prune a thread, ``chunk`` nodes in one request."""
    removal.CHUNK = chunk  # type: ignore[misc]
    LivingAISaver(agent.engine).prune([thread_id])


def delete_run(agent: AgentSide, thread_id: str, chunk: int) -> None:
    """Remove one of a thread's runs, ``chunk`` nodes in one request."""
    removal.CHUNK = chunk  # type: ignore[misc]
    LivingAISaver(agent.engine).delete_for_runs([f"{thread_id}-odd"])


def named(thread_id: str, checkpoint_id: str) -> Any:
    """The config that names a checkpoint of the root namespace."""
    return {
        "configurable": {
            "thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id,
        }
    }  # fmt: skip


def put(
    saver: LivingAISaver,
    thread_id: str,
    checkpoint_id: str,
    values: dict[str, Any],
    *,
    parent: str | None = None,
    namespace: str = "",
    metadata: dict[str, Any] | None = None,
    version: int = 4,
) -> Any:
    """Put a checkpoint; the config that names it."""
    configurable = {"thread_id": thread_id, "checkpoint_ns": namespace}
    if parent is not None:
        configurable["checkpoint_id"] = parent
    checkpoint: Any = {
        "v": version, "id": checkpoint_id, "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values, "channel_versions": dict.fromkeys(values, 1),
        "versions_seen": {}, "updated_channels": None,
    }  # fmt: skip
    about: Any = {"source": "loop", "step": 0, "parents": {}, **(metadata or {})}
    config: Any = {"configurable": configurable}
    return saver.put(config, checkpoint, about, dict.fromkeys(values, 1))


def put_one(agent: AgentSide, thread_id: str, checkpoint_id: str, value: str) -> None:
    """Put a checkpoint with a value, and wait until it is stored."""
    saver = LivingAISaver(agent.engine)
    put(saver, thread_id, checkpoint_id, {"value": value})
    saver.flush(60)
