"""A graph that is drained by SIGTERM, and what other processes do with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, StateGraph

from livingai.adapters.langgraph import LivingAISaver, drain_on_sigterm
from tests.frameworks.langgraph.chats import note_down
from tests.frameworks.langgraph.graphs import STEPS, Steps, config_of
from tests.support.agent_main import AgentSide
from tests.support.waiting import until


def _graph(agent: AgentSide, note: Path, waits: Any = None) -> Any:
    """Four steps, each of which writes its name into a file; the second one ``waits``."""

    def step(name: str) -> Any:
        def work(state: Steps) -> dict[str, list[str]]:
            note_down(note, name)
            if name == "two" and waits is not None:
                waits()
            return {"done": [name]}

        return work

    builder = StateGraph(Steps)
    for name in STEPS:
        builder.add_node(name, step(name))
    for before, after in zip((START, *STEPS), (*STEPS, END), strict=True):
        builder.add_edge(before, after)
    return builder.compile(checkpointer=LivingAISaver(agent.engine))


def run(agent: AgentSide, note: str, *, asynchronous: bool, stays: bool = False) -> Any:
    """Run the graph; its second step ends once this process was told to drain, or ``stays``."""
    with drain_on_sigterm() as control:

        def waits() -> None:
            until(lambda: control.drain_requested, what="the signal")
            note_down(Path(note), "drained")
            if stays:
                until(lambda: False, what="nothing", timeout=300)

        graph = _graph(agent, Path(note), waits)
        start: Any = {"done": []}
        if asynchronous:
            return asyncio.run(graph.ainvoke(start, config_of("thread"), control=control))
        return graph.invoke(start, config_of("thread"), control=control)


def go_on(agent: AgentSide, note: str) -> Any:
    """Go on with the graph where it was."""
    return _graph(agent, Path(note)).invoke(None, config_of("thread"))
