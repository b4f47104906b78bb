"""Agents of ADK that run on sessions of ours, with the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.adk")

from livingai import CheckpointEngine, ExecutionNode, NodeType, SQLiteStore, Status
from livingai.adapters.google_adk import LivingAIPlugin, LivingAISessionService
from livingai.errors import ConfigurationError
from tests.frameworks.google_adk import acts
from tests.support.framework_places import other_process
from tests.support.place import Place


async def recorded(engine: CheckpointEngine, invocation_id: str) -> list[ExecutionNode]:
    return await engine.nodes(f"google-adk:run/{acts.APP}/{acts.USER}/{invocation_id}")


def brief(nodes: list[ExecutionNode]) -> list[Any]:
    return [(each.type, each.metadata["name"], each.status) for each in nodes]


def called(place: Place) -> list[str]:
    path = place.folder / "calls"
    return path.read_text().split() if path.exists() else []


async def test_a_turn_is_stored_and_recorded(place: Place) -> None:
    async with place.engine(directory=place.directory.path) as engine:
        runner = acts.runner(engine, ["weather", "book"], str(place.folder))
        session = await runner.session_service.create_session(
            app_name=acts.APP, user_id=acts.USER, state={"user:name": "Ada"}
        )
        events = await acts.talk(runner, session.id)
        assert called(place) == ["weather", "book"]
        await acts.talk(runner, session.id)  # all answers are there: it only talks
        await runner.close()
        assert engine.sla().pending == 0, "the runner flushes"
        stored = await acts.load(runner.session_service, session.id)
        assert stored.state == {"user:name": "Ada", "user:journeys": ["Oslo", "home"]}
        assert [each.id for each in events] == [
            each.id for each in stored.events[1 : len(events) + 1]
        ]
        nodes = await recorded(engine, events[0].invocation_id)
        assert brief(nodes) == [
            (NodeType.PROMPT, "traveller", Status.SUCCESS),
            (NodeType.TOOL, "weather", Status.SUCCESS),
            (NodeType.PROMPT, "traveller", Status.SUCCESS),
            (NodeType.TOOL, "book", Status.SUCCESS),
            (NodeType.PROMPT, "traveller", Status.SUCCESS),
        ]
        assert [each.cost_tokens for each in nodes] == [7, 0, 7, 0, 7]
        assert nodes[1].input == {"name": "weather", "arguments": {"city": "Oslo"}}
        assert nodes[1].output == {"weather": "sun in Oslo"}
        assert nodes[0].input["model"] == "scripted"
        assert nodes[4].output["content"]["parts"][0]["text"].startswith("done")
        assert all(each.metadata["session_id"] == session.id for each in nodes)
        costs = await engine.costs("name", prefix="google-adk:run/")
        assert sum(each.cost_tokens for each in costs) == 28


async def test_a_tool_that_fails_is_recorded(place: Place) -> None:
    async with place.engine(directory=place.directory.path) as engine:
        runner = acts.runner(engine, ["fail"], str(place.folder))
        session = await runner.session_service.create_session(app_name=acts.APP, user_id=acts.USER)
        with pytest.raises(OSError, match="no way to Oslo"):
            await acts.talk(runner, session.id)
        stored = await acts.load(runner.session_service, session.id)
        _, tool = await recorded(engine, stored.events[0].invocation_id)
        assert (tool.status, tool.error and tool.error.type) == (Status.FAILED, "OSError")


async def killed_in(place: Place, tool: str) -> str:
    """A turn whose process is killed in a tool; the invocation."""
    agent = other_process(place)
    agent.call(acts.create, "s", {})
    agent.send(acts.take_a_turn, "s", ["weather", "book"], str(place.folder), tool)
    assert agent.died() == -9
    async with place.engine(directory=place.directory.path) as engine:
        stored = await acts.load(LivingAISessionService(engine), "s")
        return str(stored.events[-1].invocation_id)


@pytest.mark.parametrize(
    ("plugin", "calls", "said"),
    [
        ({"idempotent": ["book"]}, ["weather", "book", "book"], "booked Oslo"),
        ({"on_doubt": "call"}, ["weather", "book", "book"], "booked Oslo"),
        ({"on_doubt": "tell"}, ["weather", "book"], "may or may not have happened"),
        ({"idempotent": ["weather"]}, ["weather", "book"], None),
    ],
)
async def test_a_turn_goes_on_after_its_process_was_killed(
    place: Place, plugin: dict[str, Any], calls: list[str], said: str | None
) -> None:
    invocation_id = await killed_in(place, "book")
    assert called(place) == ["weather", "book"]
    async with place.engine(directory=place.directory.path) as engine:
        runner = acts.runner(engine, ["weather", "book"], str(place.folder), **plugin)
        if said is None:
            with pytest.raises(RuntimeError, match="may or may not have happened"):
                await acts.talk(runner, "s", invocation_id)
        else:
            events = await acts.talk(runner, "s", invocation_id)
            assert said in str([each.content for each in events])
            assert "done" in str(events[-2].content)
        assert called(place) == calls
        nodes = await recorded(engine, invocation_id)
        tools = [each for each in brief(nodes) if each[0] is NodeType.TOOL]
        again = Status.SUCCESS if len(calls) == 3 else Status.RUNNING
        assert tools == [
            (NodeType.TOOL, "weather", Status.SUCCESS),
            (NodeType.TOOL, "book", again),
        ]


@pytest.mark.parametrize("fresh", [True, False], ids=["another program", "the same one"])
async def test_a_result_that_was_recorded_is_not_fetched_again(place: Place, fresh: bool) -> None:
    """The program ends between the result and the event that tells of it."""
    async with place.engine(directory=place.directory.path) as engine:
        runner = acts.runner(engine, ["book"], str(place.folder))
        service = runner.session_service
        await service.create_session(app_name=acts.APP, user_id=acts.USER, session_id="s")
        append = service.append_event

        async def dies(session: Any, event: Any) -> Any:
            if event.get_function_responses():
                raise SystemExit
            return await append(session, event)

        service.append_event = dies
        with pytest.raises(SystemExit):
            await acts.talk(runner, "s")
        assert called(place) == ["book"]
        stored = await acts.load(LivingAISessionService(engine), "s")
        if fresh:
            runner = acts.runner(engine, ["book"], str(place.folder))
        service.append_event = append
        events = await acts.talk(runner, "s", stored.events[0].invocation_id)
        assert called(place) == ["book"], "it was booked once"
        assert "booked Oslo" in str(events[-2].content)
        shared = await service.get_user_state(app_name=acts.APP, user_id=acts.USER)
        assert shared == {"journeys": ["Oslo", "home"]}, "what the tool did to the state is there"


async def test_an_id_that_a_model_uses_again_is_another_call(place: Place) -> None:
    async with place.engine(directory=place.directory.path) as engine:
        calls = ["book", "book", "weather", "book"]
        runner = acts.runner(engine, calls, str(place.folder), same_id=True)
        await runner.session_service.create_session(
            app_name=acts.APP, user_id=acts.USER, session_id="s"
        )
        events = await acts.talk(runner, "s")
        assert called(place) == calls
        tools = [n for n in await recorded(engine, events[0].invocation_id) if n.type == "tool"]
        assert [each.metadata["name"] for each in tools] == calls


async def test_arguments_that_cannot_work_are_refused(tmp_path: Path) -> None:

    engine = CheckpointEngine(SQLiteStore(tmp_path / "a.db"))
    wrong: dict[str, Any]
    for wrong in ({"idempotent": "book"}, {"on_doubt": "ask"}, {"durability": 1}):
        with pytest.raises(ConfigurationError):
            LivingAIPlugin(engine, **wrong)
    with pytest.raises(ConfigurationError):
        LivingAIPlugin("x")  # type: ignore[arg-type]
