"""Graphs with a model and tools, and what other processes do with them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import BaseTool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition

from livingai.adapters.langgraph import LivingAICallbackHandler, LivingAISaver, durable_tool
from tests.support.agent_main import AgentSide
from tests.support.waiting import until


class Chat(TypedDict):
    """The state of a graph."""

    messages: Annotated[list[AnyMessage], add_messages]


def calling(name: str, *arguments: dict[str, Any], first: int = 0) -> AIMessage:
    """A model's answer: call a tool with each of these arguments."""
    calls: Any = [
        {"name": name, "args": each, "id": f"call-{first + number}"}
        for number, each in enumerate(arguments)
    ]
    usage: Any = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return AIMessage("", tool_calls=calls, usage_metadata=usage)


def chat_graph(
    answers: Iterable[AIMessage],
    tools: list[BaseTool | Callable[..., Any]],
    checkpointer: Any = None,
    **options: Any,
) -> Any:
    """A model that gives these answers, and a node that calls its tools."""
    model = GenericFakeChatModel(messages=iter(answers))

    def agent(state: Chat) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def aagent(state: Chat) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(Chat)
    builder.add_node("agent", agent if not options.pop("asynchronous", False) else aagent)
    builder.add_node("tools", ToolNode(tools, **options))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


def record_and_die(agent: AgentSide) -> None:
    """Record a run whose process is killed in a tool."""

    def deadly(order: str) -> str:
        """Order something."""
        os.kill(os.getpid(), signal.SIGKILL)
        return order

    graph = chat_graph([calling("deadly", {"order": "figs"})], [deadly])
    handler = LivingAICallbackHandler(agent.engine, "deadly")
    graph.invoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})


def note_down(note: Path, text: str) -> None:
    """A side effect: a line in a file."""
    with note.open("a") as file:
        file.write(f"{text}\n")


class _DieBehindTool(BaseCallbackHandler):
    """Kills the process once a tool has returned, before the graph can save what."""

    run_inline = True

    def on_tool_end(self, output: Any, **rest: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def pay_graph(agent: AgentSide, note: Path, on_doubt: Any, *, dies: str, asynchronous: bool) -> Any:
    """A graph that pays twice, at once; its process is killed in the second payment, ``behind`` a
    payment, or not."""

    def effect(amount: int) -> str:
        note_down(note, f"paid {amount}")
        if dies == "in" and amount == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"receipt {amount}"

    def pay(amount: int) -> str:
        """Pay."""
        return effect(amount)

    async def apay(amount: int) -> str:
        """Pay."""
        return effect(amount)

    apay.__name__ = "pay"
    tool = durable_tool(apay if asynchronous else pay, engine=agent.engine, on_doubt=on_doubt)
    # The model is asked once before the kill; what it says afterwards is the same in both lives.
    first = calling("pay", {"amount": 1}, {"amount": 2})
    done = AIMessage("done")
    saver = LivingAISaver(agent.engine)
    return chat_graph([first, done] if dies else [done], [tool], saver, asynchronous=asynchronous)


def pay(
    agent: AgentSide, note: str, on_doubt: str = "raise", *, dies: str = "", asynchronous: bool
) -> list[str]:
    """Run, or go on with, a graph that pays: what its messages say."""
    graph = pay_graph(agent, Path(note), on_doubt, dies=dies, asynchronous=asynchronous)
    config: Any = {"configurable": {"thread_id": "t"}}
    if dies == "behind":
        config["callbacks"] = [_DieBehindTool()]
    question: Any = {"messages": [("user", "pay!")]} if dies else None
    if asynchronous:
        state = asyncio.run(graph.ainvoke(question, config, durability="sync"))
    else:
        state = graph.invoke(question, config, durability="sync")
    return [str(each.content) for each in state["messages"]]


def hold_call(agent: AgentSide, note: str) -> None:
    """Call a tool that ends when the file ``note`` is gone."""

    def hold() -> str:
        """Wait."""
        note_down(Path(note), "held")
        until(lambda: not Path(note).exists(), what="its end")
        return "held"

    tool = durable_tool(hold, engine=agent.engine)
    call: Any = {"type": "tool_call", "name": "hold", "id": "c", "args": {}}
    tool.invoke(call, {"configurable": {"thread_id": "t"}})
