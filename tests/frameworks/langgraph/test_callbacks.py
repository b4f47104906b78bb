"""Runs of graphs, recorded as nodes."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("langgraph")

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from livingai import CheckpointEngine, Durability, ExecutionNode, NodeType, RecoveryEngine, Status
from livingai.adapters.langgraph import LivingAICallbackHandler
from livingai.errors import ConfigurationError, LivingAIError, RunError
from tests.frameworks.langgraph import chats
from tests.frameworks.langgraph.chats import calling, chat_graph
from tests.frameworks.langgraph.graphs import Steps
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process
from tests.support.place import Place

DONE = AIMessage(
    "done",
    usage_metadata={"input_tokens": 20, "output_tokens": 2, "total_tokens": 22},
    response_metadata={"token_usage": {"cost": 0.25}},
)
HELLO: Any = {"messages": [("user", "hello")]}


def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: sunny"


def config(handler: LivingAICallbackHandler, thread_id: str = "t") -> Any:
    return {"callbacks": [handler], "configurable": {"thread_id": thread_id}}


def recorded(engine: CheckpointEngine) -> list[ExecutionNode]:
    """The nodes of the only run."""
    [info] = engine.executions_sync(prefix="langgraph-run:")
    return engine.nodes_sync(info.execution_id)


def test_a_run_is_a_tree_of_nodes(place: Place) -> None:
    with place.engine() as engine:
        handler = LivingAICallbackHandler(engine)
        graph = chat_graph([calling("weather", {"city": "Rome"}), DONE], [weather])
        graph.invoke(HELLO, config(handler))
        handler.flush()
        nodes = recorded(engine)
        assert nodes[0].execution_id.startswith("langgraph-run:t/")
        assert all(node.status is Status.SUCCESS for node in nodes)
        assert all(node.completed_at and node.latency_ms >= 0 for node in nodes)
        by_id = {node.id: node for node in nodes}
        lines = [
            (
                str(node.type),
                node.metadata["name"],
                by_id[node.parent_id].metadata["name"] if node.parent_id else None,
            )
            for node in nodes
        ]
        model = "GenericFakeChatModel"
        names = [(kind, name if kind != "prompt" else model, up) for kind, name, up in lines]
        assert names == [
            ("branch", "LangGraph", None),
            ("branch", "agent", "LangGraph"),
            ("prompt", model, "agent"),
            ("branch", "tools", "LangGraph"),
            ("tool", "weather", "tools"),
            ("branch", "agent", "LangGraph"),
            ("prompt", model, "agent"),
        ]
        graph_node, _, first, _, tool, _, second = nodes
        assert graph_node.input == {"messages": [["user", "hello"]]}
        assert tool.input == {
            "name": "weather", "arguments": {"city": "Rome"}, "call_id": "call-0",
        }  # fmt: skip
        assert tool.output["content"] == "Rome: sunny"
        assert [each["content"] for each in first.input["messages"]] == ["hello"]
        assert first.output["tool_calls"][0]["name"] == "weather"
        assert second.input["seen"] == 1
        assert second.input["seen_in"] == first.id
        assert [each["type"] for each in second.input["messages"]] == ["ai", "tool"]
        assert second.metadata["usage"]["input_tokens"] == 20
        assert second.metadata["cost"] == 0.25
        assert second.metadata["node"] == "agent"
        assert [line.cost_tokens for line in engine.costs_sync()] == [37]
        assert not engine.executions_sync(prefix="langgraph:").executions, "no thread of a saver"


async def test_branches_at_once(place: Place) -> None:
    async with place.engine() as engine:
        barrier = asyncio.Barrier(8)

        async def slow(n: int) -> str:
            """Wait for all others."""
            await barrier.wait()
            return str(n)

        arguments: Any = [{"n": number} for number in range(8)]
        handler = LivingAICallbackHandler(engine, "all", durability=Durability.FSYNC)
        graph = chat_graph([calling("slow", *arguments), DONE], [slow], asynchronous=True)
        await graph.ainvoke(HELLO, config(handler))
        await handler.aflush()
        nodes = await engine.nodes("langgraph-run:all")
        tools = [node for node in nodes if node.type is NodeType.TOOL]
        assert sorted(node.output["content"] for node in tools) == [str(n) for n in range(8)]
        assert all(node.output["content"] == str(node.input["arguments"]["n"]) for node in tools)
        by_id = {node.id: node for node in nodes}
        assert {by_id[str(node.parent_id)].metadata["name"] for node in tools} == {"tools"}
        assert all(node.status is Status.SUCCESS for node in nodes)


async def test_a_streamed_answer(file_place: Place) -> None:
    async with file_place.engine() as engine:
        handler = LivingAICallbackHandler(engine, "stream")
        graph = chat_graph([AIMessage("many words at the end")], [weather], asynchronous=True)
        stream = graph.astream(HELLO, config(handler), stream_mode="messages")
        chunks = [chunk async for chunk, _ in stream]
        assert "".join(chunk.content for chunk in chunks) == "many words at the end"
        [prompt] = [
            node for node in await engine.nodes("langgraph-run:stream")
            if node.type is NodeType.PROMPT
        ]  # fmt: skip
        assert prompt.metadata["chunks"] > 1
        assert 0 <= prompt.metadata["first_chunk_ms"] <= prompt.latency_ms
        assert prompt.output["content"] == "many words at the end"


def test_one_handler_for_runs_at_once(file_place: Place) -> None:
    with file_place.engine() as engine:
        handler = LivingAICallbackHandler(engine)
        barrier = threading.Barrier(4)

        def meet(name: str) -> str:
            """Wait for the others."""
            barrier.wait(60)
            return name

        def run(name: str) -> None:
            graph = chat_graph([calling("meet", {"name": name}), DONE], [meet])
            graph.invoke(HELLO, config(handler, name))

        threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        handler.flush()
        for name in "abcd":
            [info] = engine.executions_sync(prefix=f"langgraph-run:{name}/")
            nodes = engine.nodes_sync(info.execution_id)
            assert len(nodes) == 7
            assert [n.output["content"] for n in nodes if n.type is NodeType.TOOL] == [name]


def test_errors_and_interrupts(place: Place) -> None:
    def broken(city: str) -> str:
        """Fail."""
        raise ValueError(f"no weather in {city}")

    with place.engine() as engine:
        handler = LivingAICallbackHandler(engine, "broken")
        graph = chat_graph(
            [calling("broken", {"city": "Rome"})], [broken], handle_tool_errors=False
        )
        with pytest.raises(ValueError, match="no weather"):
            graph.invoke(HELLO, config(handler))
        nodes = engine.nodes_sync("langgraph-run:broken")
        failed = {node.metadata["name"]: node for node in nodes if node.status is Status.FAILED}
        assert failed.keys() == {"broken", "tools", "LangGraph"}
        assert failed["broken"].error is not None
        assert failed["broken"].error.message == "no weather in Rome"
        assert "raise ValueError" in str(failed["broken"].error.traceback)

        handler = LivingAICallbackHandler(engine, "model")
        with pytest.raises(RuntimeError):  # its model has nothing more to say
            chat_graph([], []).invoke(HELLO, config(handler))
        nodes = engine.nodes_sync("langgraph-run:model")
        assert {node.status for node in nodes} == {Status.FAILED}
        assert nodes[2].type is NodeType.PROMPT

        def ask(state: Steps) -> dict[str, list[str]]:
            return {"done": [interrupt("which one?")]}

        builder = StateGraph(Steps)
        builder.add_node("ask", ask)
        builder.add_edge(START, "ask")
        handler = LivingAICallbackHandler(engine, "asks")
        asking = builder.compile(checkpointer=InMemorySaver())
        asking.invoke({"done": []}, config(handler))
        [top, node] = engine.nodes_sync("langgraph-run:asks")
        assert node.status is Status.PENDING
        assert top.status in (Status.SUCCESS, Status.PENDING)


def test_a_tool_of_a_killed_process_is_in_doubt(place: Place) -> None:
    with pytest.raises(AgentDied):
        other_process(place).call(chats.record_and_die)
    with place.engine() as engine:
        plan = RecoveryEngine(engine).plan_sync("langgraph-run:deadly")
        [tool] = plan.in_doubt_nodes
        assert tool.input["arguments"] == {"order": "figs"}
        [prompt] = [node for node in plan.replay_nodes if node.type is NodeType.PROMPT]
        assert prompt.status is Status.SUCCESS


def test_tools_that_may_be_called_again(file_place: Place) -> None:
    with file_place.engine() as engine:
        handler = LivingAICallbackHandler(engine, "x", idempotent=["weather"])
        graph = chat_graph([calling("weather", {"city": "Rome"}), DONE], [weather])
        graph.invoke(HELLO, config(handler))
        nodes = engine.nodes_sync("langgraph-run:x")
        assert [node.idempotent for node in nodes if node.type is NodeType.TOOL] == [True]


class Shelf(BaseRetriever):
    """Finds what it is asked for."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if query == "nothing":
            raise LookupError(query)
        return [Document(query, metadata={"page": 7})]


def test_retrievers(file_place: Place) -> None:
    with file_place.engine() as engine:
        handler = LivingAICallbackHandler(engine, "x")
        Shelf().invoke("figs", {"callbacks": [handler]})
        with pytest.raises(LookupError):
            Shelf().invoke("nothing", {"callbacks": [handler]})
        found, missed = engine.nodes_sync("langgraph-run:x")
        assert (found.type, found.input) == (NodeType.MEMORY, "figs")
        assert found.output[0]["page_content"] == "figs"
        assert missed.status is Status.FAILED


def test_what_cannot_be_recorded_ends_the_run_or_is_told_later(
    file_place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    engine = file_place.engine()
    strict = LivingAICallbackHandler(engine, "x")
    lenient = LivingAICallbackHandler(engine, "y", raise_error=False)
    with engine:
        odd = GenericFakeChatModel(messages=iter([AIMessage("x")]))
        run = uuid4()
        strict.on_llm_start({}, ["x"], run_id=run)
        with pytest.raises(RunError, match="on_llm_end was not recorded: AttributeError"):
            strict.on_llm_end(None, run_id=run)
        lenient.on_llm_start({}, ["x"], run_id=run)
        with caplog.at_level(logging.ERROR, "livingai"):
            lenient.on_llm_end(None, run_id=run)
        assert "gap" in caplog.text
        with pytest.raises(RunError, match="on_llm_end"):
            lenient.flush()
        lenient.flush()
    with pytest.raises(LivingAIError):
        odd.invoke("hello", {"callbacks": [strict]})
    assert odd.invoke("hello", {"callbacks": [lenient]}).content == "x"


def test_arguments_that_cannot_work(file_place: Place) -> None:
    with file_place.engine() as engine:
        for arguments in (("x",), (engine, 7)):
            with pytest.raises(ConfigurationError):
                LivingAICallbackHandler(*arguments)
        for named in ({"idempotent": "weather"}, {"durability": "fsync"}):
            with pytest.raises(ConfigurationError):
                LivingAICallbackHandler(engine, **named)  # type: ignore[arg-type]
