"""What a crew did, as nodes: with a real crew, and a model of this file."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("crewai")

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

from livingai import NodeType, Status
from livingai.adapters.crewai import LivingAIEventListener
from livingai.errors import ConfigurationError
from tests.support.place import Place


class Scripted(BaseLLM):
    """Calls the tool ``add`` once in each task, and then answers."""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        text = str(messages)
        if "Observation" in text.rpartition("Current Task")[2]:
            return "Thought: I now know the final answer\nFinal Answer: it is 5"
        return 'Thought: add\nAction: add\nAction Input: {"a": 2, "b": 3}'

    def supports_function_calling(self) -> bool:
        return False


def crew(*, fails: bool = False) -> Crew:
    @tool("add")
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        if fails:
            raise ValueError("out of numbers")
        return str(a + b)

    agent = Agent(
        role="adder", goal="add", backstory="adds", llm=Scripted(model="scripted"), tools=[add]
    )
    task = Task(description="add 2 and 3", expected_output="a number", agent=agent)
    return Crew(agents=[agent], tasks=[task])


def test_tasks_and_tools_are_recorded(file_place: Place) -> None:
    with file_place.engine() as engine:
        listener = LivingAIEventListener(engine, "crewai:run-1")
        assert "5" in str(crew().kickoff())
        listener.close()
        nodes = engine.nodes_sync("crewai:run-1")
        crew().kickoff()  # nobody listens
        listener.close()
        assert len(engine.nodes_sync("crewai:run-1")) == len(nodes)
    by_kind = {kind: [n for n in nodes if n.metadata["kind"] == kind] for kind in ("task", "tool")}
    [task], [call] = by_kind["task"], by_kind["tool"]
    assert (task.type, task.status) == (NodeType.PROMPT, Status.SUCCESS)
    assert "it is 5" in str(task.output)
    assert (call.type, call.status, call.output) == (NodeType.TOOL, Status.SUCCESS, "5")
    assert call.input["name"] == "add"
    assert call.metadata["framework"] == "crewai"
    assert all(node.status is not Status.RUNNING for node in nodes)


def test_a_failed_tool_is_recorded(file_place: Place) -> None:
    with file_place.engine() as engine:
        listener = LivingAIEventListener(engine, "crewai:run-1")
        crew(fails=True).kickoff()
        listener.close()
        nodes = engine.nodes_sync("crewai:run-1")
    failed = [n for n in nodes if n.type is NodeType.TOOL and n.status is Status.FAILED]
    assert failed
    assert failed[0].error is not None
    assert "out of numbers" in failed[0].error.message


def test_arguments_that_cannot_work(file_place: Place) -> None:
    with file_place.engine() as engine:
        with pytest.raises(ConfigurationError, match="CheckpointEngine"):
            LivingAIEventListener("a.db", "run")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="must not be empty"):
            LivingAIEventListener(engine, "")
