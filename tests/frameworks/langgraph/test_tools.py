"""Tools that are called at most once, whatever dies."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

pytest.importorskip("langgraph")

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, ToolException, tool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.prebuilt import InjectedState, ToolRuntime
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from livingai import CheckpointEngine, ExecutionNode, NodeType
from livingai.adapters.langgraph import LivingAICallbackHandler, LivingAISaver, durable_tool
from livingai.errors import ConfigurationError, InDoubtError
from livingai.runs.policy import Resolution
from tests.frameworks.langgraph import chats
from tests.frameworks.langgraph.chats import calling, chat_graph
from tests.frameworks.langgraph.graphs import config_of
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process
from tests.support.place import Place
from tests.support.waiting import until

CALLS: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def call(name: str, call_id: str = "c", **arguments: Any) -> Any:
    return {"type": "tool_call", "name": name, "id": call_id, "args": arguments}


# -- killed processes --


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_tool_that_has_returned_before_a_kill_is_not_called_again(
    place: Place, tmp_path: Path, asynchronous: bool
) -> None:
    note = tmp_path / "note"
    with pytest.raises(AgentDied):
        other_process(place).call(chats.pay, str(note), dies="behind", asynchronous=asynchronous)
    [first, *_] = note.read_text().splitlines()
    # Of two at once, one has returned; the other one may be anywhere, also in front of its effect.
    answers = other_process(place).call(chats.pay, str(note), "tell", asynchronous=asynchronous)
    assert answers[0] == "pay!"
    assert answers[-1] == "done"
    paid = Counter(note.read_text().splitlines())
    assert paid[first] == 1
    assert set(paid.values()) == {1}, paid
    assert f"receipt {first[-1]}" in answers


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_tool_that_was_killed_behind_its_effect_is_in_doubt(
    place: Place, tmp_path: Path, asynchronous: bool
) -> None:
    note = tmp_path / "note"
    with pytest.raises(AgentDied):
        other_process(place).call(chats.pay, str(note), dies="in", asynchronous=asynchronous)
    second = other_process(place)
    for _ in range(2):
        with pytest.raises(InDoubtError, match="pay"):
            second.call(chats.pay, str(note), asynchronous=asynchronous)
    answers = second.call(chats.pay, str(note), "tell", asynchronous=asynchronous)
    assert "it may or may not have happened" in answers[3]
    assert answers[-1] == "done"
    assert note.read_text().split().count("2") == 1
    # That decision was recorded.
    assert second.call(chats.pay, str(note), asynchronous=asynchronous) == answers


def test_one_in_doubt_is_called_again_if_that_is_asked_for(place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with pytest.raises(AgentDied):
        other_process(place).call(chats.pay, str(note), dies="in", asynchronous=False)
    answers = other_process(place).call(chats.pay, str(note), "call", asynchronous=False)
    assert answers[2:] == ["receipt 1", "receipt 2", "done"]
    assert note.read_text().split().count("2") == 2


def test_a_call_that_a_living_process_is_making_is_not_made(place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"
    other = other_process(place)
    other.send(chats.hold_call, str(note))
    until(note.exists, what="the call")
    with place.engine() as engine:

        def hold() -> str:
            """Wait."""
            CALLS["hold"] += 1
            return "second"

        held = durable_tool(hold, engine=engine, on_doubt="call")
        with pytest.raises(InDoubtError, match="which lives"):
            held.invoke(call("hold"), config_of("t"))
        note.unlink()
        other.receive()
        assert held.invoke(call("hold"), config_of("t")).content == "held"
    assert not CALLS


# -- what is a call, and what it gives --


def plain_function(n: int) -> str:
    """Count."""
    CALLS["n"] += 1
    return f"{n} {CALLS['n']}"


async def coroutine(n: int) -> str:
    """Count."""
    return plain_function(n)


class Number(BaseModel):
    """Arguments."""

    n: int


class OwnTool(BaseTool):
    """A tool with a class of its own, which has no asynchronous method."""

    name: str = "own"
    description: str = "Count."
    args_schema: Any = Number
    salt: str = "!"

    def _run(self, n: int, config: RunnableConfig) -> str:
        assert config["configurable"]["thread_id"]
        return plain_function(n) + self.salt


MADE: list[Any] = [plain_function, coroutine, tool(plain_function), tool(coroutine), OwnTool()]


@pytest.mark.parametrize("made", MADE, ids=["function", "coroutine", "tool", "atool", "class"])
def test_each_kind_of_tool(file_place: Place, made: Any) -> None:
    with file_place.engine() as engine:
        durable = durable_tool(made, engine=engine)
        name = durable.name
        assert isinstance(made, BaseTool) is False or isinstance(durable, type(made))
        assert durable.args.keys() == {"n"}
        if "coroutine" not in name:
            first = durable.invoke(call(name, n=1), config_of("t"))
            assert isinstance(first, ToolMessage)
            assert durable.invoke(call(name, n=1), config_of("t")) == first
        again = asyncio.run(durable.ainvoke(call(name, n=1), config_of("t")))
        assert again == asyncio.run(durable.ainvoke(call(name, n=1), config_of("t")))
        assert CALLS["n"] == 1
        # Other arguments, another id, another thread: other calls.
        for number, (n, call_id, thread) in enumerate(
            [(2, "c", "t"), (1, "d", "t"), (1, "c", "u")], start=2
        ):
            made_again = asyncio.run(durable.ainvoke(call(name, call_id, n=n), config_of(thread)))
            assert made_again.content.startswith(f"{n} {number}")
            assert made_again.tool_call_id == call_id


@tool(response_format="content_and_artifact")
def with_artifact(n: int) -> tuple[str, dict[str, Any]]:
    """Give two things."""
    CALLS["n"] += 1
    return f"{n}", {"raw": (n, b"\0")}


@tool
def with_command(n: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
    """Change the state."""
    CALLS["n"] += 1
    return Command(update={"messages": [ToolMessage(f"{n}", tool_call_id=tool_call_id, id="1")]})


@tool
def with_blocks(n: int) -> Any:
    """Give a text and a picture."""
    CALLS["n"] += 1
    return [{"type": "text", "text": f"{n}"}, {"type": "image", "url": "https://x.example/y.png"}]


@tool
def with_message(n: int) -> Any:
    """Give a message."""
    CALLS["n"] += 1
    return {"message": HumanMessage("x", id="1"), "n": n}


@pytest.mark.parametrize("made", [with_artifact, with_command, with_blocks, with_message])
def test_each_kind_of_result(file_place: Place, made: BaseTool) -> None:
    with file_place.engine() as engine:
        durable = durable_tool(made, engine=engine)
        first = durable.invoke(call(made.name, n=1), config_of("t"))
        again = durable.invoke(call(made.name, n=1), config_of("t"))
        if isinstance(again, Command):  # the serializer has no tuples
            again = replace(again, goto=())
        assert again == first == made.invoke(call(made.name, n=1), config_of("t"))
        assert CALLS["n"] == 2


def test_errors_are_raised_again(file_place: Place) -> None:
    @tool
    def broken(n: int) -> str:
        """Fail."""
        CALLS["n"] += 1
        raise ToolException(f"no {n}")

    with file_place.engine() as engine:
        durable = durable_tool(broken, engine=engine)
        for _ in range(2):
            with pytest.raises(ToolException, match="no 1"):
                durable.invoke(call("broken", n=1), config_of("t"))
        handling = broken.model_copy(update={"handle_tool_error": True})
        durable = durable_tool(handling, engine=engine)
        for _ in range(2):
            answer = durable.invoke(call("broken", n=2), config_of("t"))
            assert (answer.content, answer.status) == ("no 2", "error")
        assert CALLS["n"] == 2


def test_what_a_graph_injects_is_no_argument(place: Place) -> None:
    @tool
    def curious(
        n: int,
        state: Annotated[Any, InjectedState],
        runtime: ToolRuntime,
        config: RunnableConfig,
    ) -> str:
        """Look around."""
        assert runtime.tool_call_id == "call-0"
        assert config["configurable"]["thread_id"] == "t"
        return f"{n} of {len(state['messages'])}"

    with place.engine() as engine:
        finds: Any = lambda config: engine  # noqa: E731 - as in a module that has no engine yet
        recorder = LivingAICallbackHandler(engine, "record")
        for _ in range(2):
            graph = chat_graph(
                [calling("curious", {"n": 3}), AIMessage("done")],
                [durable_tool(curious, engine=finds)],
                LivingAISaver(engine),
            )
            config: Any = {**config_of("t"), "callbacks": [recorder]}
            state = graph.invoke({"messages": [("user", "hello")]}, config)
            assert state["messages"][2].content == "3 of 2"
        [info] = engine.executions_sync(prefix="langgraph-tools:t/")
        [made] = [n for n in engine.nodes_sync(info.execution_id) if n.type is NodeType.TOOL]
        assert made.input["args"] == ['{"n": 3}']
        told = engine.nodes_sync("langgraph-run:record")
        served = [n.metadata.get("served") for n in told if n.type is NodeType.TOOL]
        assert served == [None, True], "a result that was recorded is no new effect"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_tool_that_asks_a_person(place: Place, asynchronous: bool) -> None:
    def approved(amount: int) -> str:
        """Pay, once two persons have said yes."""
        CALLS["began"] += 1
        answers = [interrupt(f"pay {amount}?"), interrupt("really?")]
        CALLS["paid"] += 1
        return f"{answers}"

    with place.engine() as engine:
        graph = chat_graph(
            [calling("approved", {"amount": 5}), AIMessage("done")],
            [durable_tool(approved, engine=engine)],
            LivingAISaver(engine),
            asynchronous=asynchronous,
        )

        def go_on(value: Any) -> Any:
            if asynchronous:
                return asyncio.run(graph.ainvoke(value, config_of("t")))
            return graph.invoke(value, config_of("t"))

        asked = go_on({"messages": [("user", "hello")]})
        assert [each.value for each in asked["__interrupt__"]] == ["pay 5?"]
        assert [each.value for each in go_on(Command(resume="yes"))["__interrupt__"]] == ["really?"]
        state = go_on(Command(resume="sure"))
        assert state["messages"][2].content == "['yes', 'sure']"
        assert CALLS == {"began": 3, "paid": 1}


def test_a_resolver_decides(file_place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with pytest.raises(AgentDied):
        other_process(file_place).call(chats.pay, str(note), dies="in", asynchronous=False)
    asked: list[ExecutionNode] = []

    def resolver(node: ExecutionNode) -> Resolution:
        asked.append(node)
        return Resolution.done("receipt from the bank")

    with file_place.engine() as engine:
        side: Any = type("Side", (), {"engine": engine})
        graph = chats.pay_graph(side, note, resolver, dies="", asynchronous=False)
        state = graph.invoke(None, config_of("t"))
        assert state["messages"][3].content == "receipt from the bank"
    # The other one may have been under way, too.
    assert {"amount": 2} in [json.loads(node.input["args"][0]) for node in asked]


def test_what_cannot_work(file_place: Place) -> None:
    def own() -> CheckpointEngine:
        raise AssertionError

    with file_place.engine() as engine:
        durable = durable_tool(plain_function, engine=engine)
        with pytest.raises(ConfigurationError, match="has an id"):
            durable.invoke({"n": 1}, config_of("t"))
        with pytest.raises(ConfigurationError, match="thread_id"):
            durable.invoke(call("plain_function", n=1))
        scoped = durable_tool(plain_function, engine=engine, scope=lambda config: "job 7")
        scoped.invoke(call("plain_function", n=1))
        assert len(engine.executions_sync(prefix="langgraph-tools:job 7/")) == 1
        lost = durable_tool(engine=lambda config: None)(plain_function)  # type: ignore[arg-type, return-value]
        with pytest.raises(ConfigurationError, match="found as the engine"):
            lost.invoke(call("plain_function", n=1), config_of("t"))
        wrong: list[tuple[Any, dict[str, Any]]] = [
            (7, {}),
            (durable, {}),
            (plain_function, {"on_doubt": "guess"}),
            (plain_function, {"engine": "x"}),
            (plain_function, {"scope": "x"}),
            (plain_function, {"serde": JsonPlusSerializer(pickle_fallback=True)}),
        ]
        for made, named in wrong:
            with pytest.raises(ConfigurationError):
                durable_tool(made, **{"engine": engine, **named})
    assert CALLS["n"] == 1
