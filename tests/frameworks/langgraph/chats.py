"""Graphs with a model and tools, and what other processes do with them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import BaseTool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition

from livingai.adapters.langgraph import LivingAICallbackHandler
from tests.support.agent_main import AgentSide


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
