"""A LangGraph agent that is killed in the middle, and goes on in another process.

No key and no network: the model is a fake one. Needs ``pip install "livingai[langgraph]"``.

    python examples/frameworks/killed_langgraph.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.langgraph import LivingAISaver


class Chat(TypedDict):
    """The state of the graph."""

    messages: Annotated[list[AnyMessage], add_messages]


def build(saver: LivingAISaver, dies: bool) -> Any:
    """A graph that plans, then acts; ``dies``: its process is killed before it acts."""
    model = GenericFakeChatModel(messages=iter([AIMessage("first this, then that")]))

    def plan(state: Chat) -> dict[str, Any]:
        print(f"process {os.getpid()} plans", flush=True)
        return {"messages": [model.invoke(state["messages"])]}

    def act(state: Chat) -> dict[str, Any]:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"process {os.getpid()} acts on: {state['messages'][-1].content}")
        return {"messages": [AIMessage("done")]}

    builder = StateGraph(Chat)
    builder.add_node("plan", plan)
    builder.add_node("act", act)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "act")
    builder.add_edge("act", END)
    return builder.compile(checkpointer=saver)


async def run(database: str, dies: bool) -> None:
    """Start the conversation, or go on with it."""
    config: Any = {"configurable": {"thread_id": "conversation-1"}}
    async with CheckpointEngine(SQLiteStore(database)) as engine:
        graph = build(LivingAISaver(engine), dies)
        begun = await graph.aget_state(config)
        question: Any = None if begun.values else {"messages": [("user", "what now?")]}
        state = await graph.ainvoke(question, config)
        print("shown:", "; ".join(message.content for message in state["messages"]))


def main() -> None:
    """Run it twice: the first process is killed."""
    if len(sys.argv) > 1:
        asyncio.run(run(sys.argv[1], dies=sys.argv[2] == "dies"))
        return
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder, "agent.db"))
        for what in ("dies", "goes on"):
            print(f"a process that {what}:", flush=True)
            subprocess.run([sys.executable, __file__, database, what], check=False)


if __name__ == "__main__":
    main()
