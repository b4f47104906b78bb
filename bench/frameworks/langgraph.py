"""LangGraph's savers."""

from __future__ import annotations

import operator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.frameworks.cases import OURS, Opener, Place, StepFunction, Steps
from bench.frameworks.texts import production_state, production_states, texts
from livingai.adapters.langgraph import LivingAISaver

#: Checkpoints of the thread that is copied.
COPIED: Final = 10_000


@asynccontextmanager
async def _saver(place: Place, side: str) -> Any:
    if side == OURS:
        yield LivingAISaver(place.ours)
    elif side == "InMemorySaver":
        yield InMemorySaver()
    else:
        async with AsyncSqliteSaver.from_conn_string(str(place.data / "checkpoints.db")) as saver:
            await saver.setup()
            yield saver


def _config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


class _Threads:
    """Puts checkpoints of several threads, each behind the thread's last one."""

    def __init__(self, saver: Any) -> None:
        self._saver = saver
        self._newest: dict[str, Any] = {}
        self._steps: dict[str, int] = {}

    async def put(self, thread_id: str, channel: str, value: Any) -> None:
        """Put a checkpoint with one channel."""
        step = self._steps.get(thread_id, 0)
        self._steps[thread_id] = step + 1
        versions: Any = {channel: f"{step + 1:032}.0"}
        checkpoint: Any = empty_checkpoint() | {
            "channel_values": {channel: value}, "channel_versions": versions,
        }  # fmt: skip
        config = self._newest.get(thread_id) or _config(thread_id)
        about: Any = {"source": "loop", "step": step, "parents": {}}
        self._newest[thread_id] = await self._saver.aput(config, checkpoint, about, versions)


def _production(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        production_states()
        async with _saver(place, side) as saver:
            threads = _Threads(saver)

            async def step(number: int) -> None:
                agent, state = production_state(number)
                await threads.put(f"{agent}", "state", state)

            yield step

    return opened


def _chat(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        kinds = (HumanMessage, AIMessage)
        all_messages = [
            kinds[number % 2](text, id=f"{number}")
            for number, text in enumerate(texts(place.steps))
        ]
        async with _saver(place, side) as saver:
            threads = _Threads(saver)

            async def step(number: int) -> None:
                await threads.put("chat", "messages", all_messages[: number + 1])

            yield step

    return opened


class Count(TypedDict):
    """State of the graph of trivial nodes."""

    count: Annotated[int, operator.add]


def _ten_nodes(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        async def add(state: Count) -> dict[str, int]:
            return {"count": 1}

        builder = StateGraph(Count)
        names = [f"node {number}" for number in range(10)]
        for name in names:
            builder.add_node(name, add)
        for before, after in zip([START, *names], [*names, END], strict=True):
            builder.add_edge(before, after)
        async with _saver(place, side) as saver:
            graph = builder.compile(checkpointer=saver)

            async def step(number: int) -> None:
                given: Any = {"count": 0}
                done = await graph.ainvoke(given, _config(f"{number}"))
                if done["count"] != 10:
                    raise ValueError(f"the graph has counted {done['count']} nodes")

            yield step

    return opened


@asynccontextmanager
async def _copy(place: Place) -> Any:
    saver = LivingAISaver(place.ours)
    threads = _Threads(saver)
    for number in range(COPIED):
        await threads.put("source", "text", texts(100)[number % 100])
        if number % 500 == 0:
            await saver.aflush()

    async def step(number: int) -> None:
        await saver.acopy_thread("source", f"copy {number}")

    copy: StepFunction = step
    yield copy


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    **{("production", side): _production(side) for side in (OURS, "AsyncSqliteSaver")},
    **{("chat", side): _chat(side) for side in (OURS, "AsyncSqliteSaver")},
    **{
        ("ten nodes", side): _ten_nodes(side)
        for side in (OURS, "InMemorySaver", "AsyncSqliteSaver")
    },
    ("copy", OURS): _copy,
}
