"""LangGraph with livingai's long-term memory, its cache, and a record of each run.

No key and no network: the model is a fake one. Needs ``pip install "livingai[langgraph]"``.

    python examples/frameworks/langgraph_memory.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.langgraph import LivingAICache, LivingAICallbackHandler, LivingAIStore

ANSWER = AIMessage(
    "figs, as always",
    usage_metadata={"input_tokens": 12, "output_tokens": 4, "total_tokens": 16},
)


class Question(TypedDict):
    """The state of the graph."""

    user: str
    answer: str


def build(engine: CheckpointEngine) -> Any:
    """A graph that asks a model, and remembers what it has said to whom."""
    model = GenericFakeChatModel(messages=iter([ANSWER]))  # it can answer once

    def ask(state: Question) -> dict[str, str]:
        return {"answer": str(model.invoke(f"what does {state['user']} like?").content)}

    def remember(state: Question, runtime: Runtime[None]) -> dict[str, str]:
        assert runtime.store is not None
        runtime.store.put(("users", state["user"]), "likes", {"text": state["answer"]})
        return {}

    builder = StateGraph(Question)
    builder.add_node("ask", ask, cache_policy=CachePolicy(ttl=3600))
    builder.add_node("remember", remember)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "remember")
    builder.add_edge("remember", END)
    return builder.compile(store=LivingAIStore(engine), cache=LivingAICache(engine))


def main() -> None:
    """Ask twice, as two programs would: the second one has its answer from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            with CheckpointEngine(SQLiteStore(str(Path(folder, "agent.db")))) as engine:
                recorder = LivingAICallbackHandler(engine, f"run-{number}")
                build(engine).invoke({"user": "ada"}, {"callbacks": [recorder]})
        with CheckpointEngine(SQLiteStore(str(Path(folder, "agent.db")))) as engine:
            [item] = LivingAIStore(engine).search(("users",), filter={"text": {"$ne": None}})
            tokens = [line.cost_tokens for line in engine.costs_sync(prefix="langgraph-run:")]
        print(f"shown: {item.namespace[1]} likes {item.value['text']}; tokens by run: {tokens}")


if __name__ == "__main__":
    main()
