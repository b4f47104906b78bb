"""Agents whose runs go on where they were killed: nothing that finished is done again."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

pytest.importorskip("pydantic_ai.conversation_store")

from pydantic_ai import Agent, ModelRetry
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.exceptions import UserError
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

from livingai import NodeType, Status
from livingai.adapters.pydantic_ai import LivingAIDurability
from livingai.errors import ConfigurationError, InDoubtError
from livingai.runs.policy import Resolution
from tests.frameworks.pydantic_ai import travelling
from tests.frameworks.pydantic_ai.travelling import World
from tests.support.framework_places import other_process
from tests.support.place import Place

ONCE = {"model-0": 1, "look": 1, "weigh": 1, "model-1": 1, "book": 1, "model-2": 1}
SAID = "done: Oslo is booked trip:0"


async def test_a_run_is_recorded_and_replayed(place: Place) -> None:
    world = World(str(place.folder / "world"))
    async with place.engine() as engine:
        assert await travelling.travel(engine, world, "trip") == SAID
        assert world.counts() == ONCE
        assert await travelling.travel(engine, world, "trip") == SAID
        assert world.counts() == ONCE
        nodes = await engine.nodes("trip")
        tools = [each for each in nodes if each.type is NodeType.TOOL]
        names = [each.metadata["name"].rpartition(":")[2] for each in tools]
        assert sorted(names[:2]) == ["look", "weigh"], "called at once: in either order"
        assert names[2:] == ["book"]
        assert all(each.status is Status.SUCCESS for each in nodes)
        assert sum(each.cost_tokens for each in nodes) == 33


@pytest.mark.parametrize("units", range(1, 7))
def test_killed_behind_any_unit_it_goes_on_there(place: Place, units: int) -> None:
    """Three model requests and three tools are units. Behind the first tool of the two that are
    called at once, the other one is under way; both may be called again."""
    world = World(str(place.folder / "world"))
    one = other_process(place)
    one.send(travelling.run, str(world.path), "trip", "", units)
    assert one.died() == -9
    two = other_process(place)
    assert two.call(travelling.run, str(world.path), "trip") == SAID
    counts = world.counts()
    again = counts["look"] + counts["weigh"] - 2
    assert again <= (units == 2)
    assert {**counts, "look": 1, "weigh": 1} == ONCE


def test_killed_in_a_model_request_it_is_asked_again(place: Place) -> None:
    world = World(str(place.folder / "world"))
    one, two = other_process(place), other_process(place)
    one.send(travelling.run, str(world.path), "trip", "model-1")
    assert one.died() == -9
    assert two.call(travelling.run, str(world.path), "trip") == SAID
    assert world.counts() == {**ONCE, "model-1": 2}


async def test_a_tool_in_doubt_is_told_of_and_not_called(place: Place) -> None:
    world = World(str(place.folder / "world"))
    one = other_process(place)
    one.send(travelling.run, str(world.path), "trip", "book")
    assert one.died() == -9
    async with place.engine() as engine:
        with pytest.raises(InDoubtError, match="book"):
            await travelling.travel(engine, world, "trip")
        assert world.counts() == {key: n for key, n in ONCE.items() if key != "model-2"}
        asked: list[str] = []

        async def resolver(node: Any) -> Resolution:
            asked.append(node.metadata["name"])
            assert node.input["args"] == [{"city": "Oslo"}, "1-book"]
            return Resolution.done("it was booked")

        said = await travelling.travel(engine, world, "trip", resolver=resolver)
        assert said == "done: it was booked trip:0"
        assert [name.rpartition(":")[2] for name in asked] == ["book"]
        assert world.counts() == ONCE


async def test_two_runs_of_agents_in_one_run(file_place: Place) -> None:
    world = World(str(file_place.folder / "world"))
    async with file_place.engine() as engine:
        said = []
        for _ in range(2):
            async with engine.run("trips"):
                agent = travelling.agent_of(world)
                said.append([(await agent.run("plan")).run_id for _ in range(2)])
        assert said[0] == said[1]
        assert len(set(said[0])) == 2
        assert world.counts() == dict.fromkeys(ONCE, 2)


async def test_outside_of_a_run_nothing_is_recorded(file_place: Place) -> None:
    world = World(str(file_place.folder / "world"))
    result = await travelling.agent_of(world).run("plan")
    assert result.output == "done: Oslo is booked"
    async with file_place.engine() as engine:
        page = await engine.executions()
        assert len(page) == 0


async def test_what_a_tool_asks_for_is_recorded_as_that(file_place: Place) -> None:
    """A tool that wants the model to try again has had its call; options of a tool."""
    calls: list[str] = []
    agent = Agent(
        TestModel(call_tools=["odd", "plain"]), name="a", capabilities=[LivingAIDurability()]
    )

    @agent.tool_plain(retries=2)
    def odd(x: int) -> str:
        """Fails once."""
        calls.append("odd")
        if calls.count("odd") == 1:
            raise ModelRetry("again, please")
        return "fine"

    @agent.tool_plain(metadata={"livingai": False})
    def plain(x: int) -> str:
        """Is not recorded."""
        calls.append("plain")
        return "plain"

    async with file_place.engine() as engine:
        outputs = []
        for _ in range(2):
            async with engine.run("r"):
                outputs.append((await agent.run("go")).output)
        assert outputs[0] == outputs[1]
        assert calls.count("odd") == 2
        assert calls.count("plain") == 2
        tools = [each for each in await engine.nodes("r") if each.type is NodeType.TOOL]
        assert [each.output["kind"] for each in tools] == ["model_retry", "tool_return"]


async def test_replayed_work_is_in_no_trace_again(
    file_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
    export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
    memory: Any = importlib.import_module(f"{export.__name__}.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))

    def spans() -> list[str]:
        names = sorted(each.name.split()[0] for each in exporter.get_finished_spans())
        exporter.clear()
        return names

    world = World(str(file_place.folder / "world"))
    settings = InstrumentationSettings(tracer_provider=provider)

    async def live(engine: Any, run_id: str) -> None:
        agent = travelling.agent_of(world)
        async with engine.run(run_id):
            await agent.run("plan", capabilities=[Instrumentation(settings)])

    one = other_process(file_place)
    one.send(travelling.run, str(world.path), "trip", "model-2")
    assert one.died() == -9
    async with file_place.engine() as engine:
        await live(engine, "whole")
        assert spans() == ["chat"] * 3 + ["execute_tool"] * 3 + ["invoke_agent"]
        await live(engine, "trip")
        assert spans() == ["chat", "invoke_agent"]
        await live(engine, "trip")
        assert [each for each in spans() if each != "invoke_agent"] == []


async def test_what_cannot_work_is_refused(file_place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"model_options: retries"):
        LivingAIDurability(model_options={"retries": -1})
    with pytest.raises(UserError, match="unique `name`"):
        Agent(TestModel(), capabilities=[LivingAIDurability()])
    agent = Agent(TestModel(), name="a", capabilities=[LivingAIDurability()])

    @agent.tool_plain(metadata={"livingai": "x"})
    def odd() -> str:
        """Has metadata that make no sense."""
        return ""

    async with file_place.engine() as engine:
        with pytest.raises(ConfigurationError, match="'odd' must be a dict"):
            async with engine.run("r"):
                await agent.run("go")
