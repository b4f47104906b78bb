"""A step store of ours does what the harness's own ones do, and outlives its processes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip("pydantic_ai_harness")

from pydantic_ai.messages import (
    BinaryImage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    InMemoryStepStore,
    RunRecord,
    StepEvent,
    StepStore,
    ToolEffectRecord,
    continue_run,
)

from livingai.adapters.pydantic_ai_harness import LivingAIStepStore
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode, NodeType, Status
from tests.frameworks.pydantic_ai_harness import runs
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place


def snapshot(number: int, state: Any = "complete", key: str | None = None) -> ContinuableSnapshot:
    picture = BinaryImage(data=b"\xff\x00", media_type="image/png", identifier="picture")
    return ContinuableSnapshot(
        run_id="r", step_index=number, state=state, idempotency_key=key,
        messages=[
            ModelRequest(parts=[UserPromptPart(["nul \0 and 😀", picture])]),
            ModelResponse(parts=[TextPart(f"answer {number}")]),
        ],
    )  # fmt: skip


async def test_it_answers_as_the_harness_store_in_memory_does(place: Place) -> None:
    async with place.engine(directory=place.directory.path) as engine:
        ours = LivingAIStepStore(engine)
        assert isinstance(ours, StepStore)
        theirs = InMemoryStepStore()

        async def both(method: str, *arguments: Any, **keywords: Any) -> Any:
            answers = [
                await getattr(store, method)(*arguments, **keywords) for store in (theirs, ours)
            ]
            assert answers[1] == answers[0], (method, arguments, keywords)
            return answers[1]

        async def look(run_id: str) -> None:
            await both("get_run", run_id=run_id)
            await both("list_events", run_id=run_id)
            for every in (False, True):
                await both("latest_snapshot", run_id=run_id, include_interrupted=every)
                await both("list_snapshots", run_id=run_id, include_interrupted=every)
            await both("list_unresolved_tool_effects", run_id=run_id)
            await both("get_tool_effect", run_id=run_id, tool_call_id="c/1")

        await look("r")
        late = datetime(2030, 1, 1, tzinfo=UTC)
        for record in (
            RunRecord(run_id="r", conversation_id="c", metadata={"a": "b"}, started_at=late),
            RunRecord(run_id="r/2", conversation_id="c", parent_run_id="r", agent_name="x"),
            RunRecord(run_id="", conversation_id="d", parent_run_id="r"),
        ):
            await both("register_run", record)
        assert [each.run_id for each in await both("list_runs")] == ["r/2", "", "r"]
        await both("list_runs", conversation_id="c")
        await both("list_runs", parent_run_id="r", conversation_id="c")
        await both("list_runs", parent_run_id="none")

        for number, key in enumerate((None, None, "k1", "k2", "k1", None)):
            event = StepEvent(
                run_id="r", kind="tool_call_failed", step_index=number, idempotency_key=key,
                tool_call_id="c", tool_name="t", error="e", metadata={"n": f"{number}"},
            )  # fmt: skip
            await both("append_event", event)
        assert len(await both("list_events", run_id="r")) == 5
        keys = (
            "-", "0:0:complete", "2:1:complete", "2:1:interrupted", "2:1:complete", "1:9:complete",
            "3:2:interrupted", "own:complete", "own:complete", "-",
        )  # fmt: skip
        for number, key in enumerate(keys):
            state = "complete" if "complete" in key else "interrupted"
            await both("save_snapshot", snapshot(number, state, None if key == "-" else key))
            await look("r")
        for call, status in (("c/1", "completed"), ("c2", "failed"), ("c3", "completed")):
            begun = ToolEffectRecord(run_id="r", tool_call_id=call, tool_name="t", status="started")
            await both("record_tool_effect", begun)
            await look("r")
            ended: Any = {"status": status, "ended_at": late, "effect_summary": "did it"}
            await both("record_tool_effect", replace(begun, **ended))
            await look("r")
        await both("record_tool_effect", replace(begun, tool_call_id="c4"))
        await look("r")
        await ours.flush()
        assert engine.sla().pending == 0


async def test_an_agent_is_recorded_and_continued(place: Place) -> None:
    async with place.engine(directory=place.directory.path) as engine:
        store = LivingAIStepStore(engine)
        result = await runs.agent_of(store, run_id="one").run("plan")
        assert result.output == "done"
        history = await continue_run(store, run_id="one")
        assert history == result.all_messages()
        assert await store.list_unresolved_tool_effects(run_id="one") == []
        tools = [n for n in await engine.nodes("pydantic-ai:run/one") if n.type is NodeType.TOOL]
        assert [(each.metadata["name"], each.status) for each in tools] == [
            ("look", Status.SUCCESS),
            ("book", Status.SUCCESS),
        ]
        with pytest.raises(ValueError, match="one"):
            await runs.agent_of(store, run_id="one").run("again")


async def test_what_a_killed_process_was_doing_is_known(place: Place) -> None:
    one = other_process(place)
    one.send(runs.run, "killed", "book")
    assert one.died() == -9
    async with place.engine(directory=place.directory.path) as engine:
        store = LivingAIStepStore(engine)
        [doubtful] = await store.list_unresolved_tool_effects(run_id="killed")
        assert (doubtful.tool_name, doubtful.status) == ("book", "started")
        looked = await store.get_tool_effect(run_id="killed", tool_call_id="call-0")
        assert looked is not None
        assert looked.status == "completed"
        kinds = [each.kind for each in await store.list_events(run_id="killed")]
        assert kinds[-1] == "tool_call_started"
        history = await continue_run(store, run_id="killed")
        assert "Oslo is far" in str(history)
        result = await runs.agent_of(store, run_id="next").run(message_history=history)
        assert result.output == "done"


def test_of_processes_that_register_one_run_one_succeeds(place: Place) -> None:
    agents = [other_process(place) for _ in range(3)]
    for number in range(4):
        for agent in agents:
            agent.send(runs.register, f"r{number}", None)
        errors = [agent.receive() for agent in agents]
        assert errors.count("") == 1, errors
        assert sum("is taken" in each for each in errors) == 2
    # Registered again by the same call that is repeated, a run is the same run.
    assert [agent.call(runs.register, "same", "id-1") for agent in agents] == ["", "", ""]
    assert "is taken" in agents[0].call(runs.register, "same", "id-2")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_what_another_program_wrote_is_refused(place: Place) -> None:
    async with place.engine(directory=place.directory.path) as engine:
        refuses_odd_places(LivingAIStepStore, engine)
        store = LivingAIStepStore(engine)
        for kind in ("begin", "event", "snapshot", "tool"):
            node = ExecutionNode("pydantic-ai:run/r", id=f"pydantic-ai:run/r/{kind}/0")
            node.output, node.metadata = {"run_id": 1}, {"state": "complete"}
            await engine.save(node, [{"kind": "odd"}])
        for question in (
            store.get_run(run_id="r"), store.list_events(run_id="r"), store.list_runs(),
            store.latest_snapshot(run_id="r"), store.list_unresolved_tool_effects(run_id="r"),
        ):  # fmt: skip
            with pytest.raises(CorruptRowError, match="another program"):
                await question
