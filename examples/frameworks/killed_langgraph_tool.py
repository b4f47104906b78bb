"""A LangGraph tool that pays, and a process that is killed once it has paid: it is paid once.

No key and no network: the model is a fake one. Needs ``pip install "livingai[langgraph]"``.

    python examples/frameworks/killed_langgraph_tool.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.langgraph import LivingAISaver, drain_on_sigterm, durable_tool


class Chat(TypedDict):
    """The state of the graph."""

    messages: Annotated[list[AnyMessage], add_messages]


class DieOncePaid(BaseCallbackHandler):
    """Kills the process when a tool has returned, before the graph has saved that."""

    def on_tool_end(self, output: Any, **about: Any) -> None:
        """The tool has returned."""
        os.kill(os.getpid(), signal.SIGKILL)


def build(engine: CheckpointEngine, ledger: Path, answers: list[AIMessage]) -> Any:
    """A graph that may pay; each payment is a line in ``ledger``."""
    model = GenericFakeChatModel(messages=iter(answers))

    @durable_tool(engine=engine)
    def pay(amount: int) -> str:
        """Pay an amount."""
        with ledger.open("a") as file:
            file.write(f"paid {amount}\n")
        return f"receipt for {amount}"

    builder = StateGraph(Chat)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([pay]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=LivingAISaver(engine))


def run(folder: Path, dies: bool) -> None:
    """Start the conversation, or go on with it. SIGTERM would end it behind a step."""
    call: Any = {"name": "pay", "args": {"amount": 5}, "id": "call-1"}
    answers = [AIMessage("", tool_calls=[call])] if dies else [AIMessage("it is paid")]
    config: Any = {"configurable": {"thread_id": "order-1"}}
    if dies:
        config["callbacks"] = [DieOncePaid()]
    question: Any = {"messages": [("user", "pay five")]} if dies else None
    with (
        CheckpointEngine(SQLiteStore(str(folder / "agent.db"))) as engine,
        drain_on_sigterm() as control,
    ):
        graph = build(engine, folder / "ledger", answers)
        state = graph.invoke(question, config, durability="sync", control=control)
    said = "; ".join(message.content for message in state["messages"][-2:])
    payments = len((folder / "ledger").read_text().splitlines())
    print(f"shown: {said}; payments: {payments}")


def main() -> None:
    """Run it twice: the first process is killed."""
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]), dies=sys.argv[2] == "dies")
        return
    with tempfile.TemporaryDirectory() as folder:
        for what in ("dies", "goes on"):
            print(f"a process that {what}:", flush=True)
            subprocess.run([sys.executable, __file__, folder, what], check=False)


if __name__ == "__main__":
    main()
