"""Agent Framework's ``CheckpointStorage`` on an engine: contract, values, killed workflows."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip("agent_framework")

from agent_framework import (
    AgentExecutorRequest,
    Message,
    WorkflowCheckpoint,
    WorkflowCheckpointException,
    WorkflowEvent,
    WorkflowMessage,
)

from livingai import ExecutionNode, NodeType
from livingai.adapters.agent_framework import LivingAICheckpointStorage
from livingai.errors import ConfigurationError
from tests.frameworks.agent_framework import workflows
from tests.frameworks.agent_framework.workflows import Color, Odd, Order, Part
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place

START = datetime(2026, 1, 1, tzinfo=UTC)


def checkpoint(number: int, name: str = "w", **fields: Any) -> WorkflowCheckpoint:
    fields.setdefault("timestamp", (START + timedelta(seconds=number)).isoformat())
    return WorkflowCheckpoint(name, "hash", f"{name}-{number}", iteration_count=number, **fields)


async def test_checkpoints_are_saved_listed_and_deleted(place: Place) -> None:
    async with place.engine() as engine:
        storage = LivingAICheckpointStorage(engine)
        assert await storage.list_checkpoints(workflow_name="w") == []
        assert await storage.list_checkpoint_ids(workflow_name="w") == []
        assert await storage.get_latest(workflow_name="w") is None
        assert await storage.delete("w-1") is False
        with pytest.raises(WorkflowCheckpointException, match="No checkpoint found with ID w-1"):
            await storage.load("w-1")
        saved = [checkpoint(number, state={"n": number}) for number in (2, 1, 3)]
        for each in saved:
            assert await storage.save(each) == each.checkpoint_id
        other = checkpoint(9, "w/other")
        await storage.save(other)
        for each in (*saved, other):
            assert await storage.load(each.checkpoint_id) == each
        assert await storage.list_checkpoint_ids(workflow_name="w") == ["w-1", "w-2", "w-3"]
        assert await storage.list_checkpoints(workflow_name="w") == [saved[1], saved[0], saved[2]]
        assert await storage.get_latest(workflow_name="w") == saved[2]
        assert await storage.delete("w-3") is True
        assert await storage.delete("w-3") is False
        with pytest.raises(WorkflowCheckpointException, match="No checkpoint found"):
            await storage.load("w-3")
        assert await storage.get_latest(workflow_name="w") == saved[0]
        assert await storage.list_checkpoint_ids(workflow_name="w") == ["w-1", "w-2"]
        await storage.save(saved[2])
        assert await storage.get_latest(workflow_name="w") == saved[2]
        assert await storage.load("w-3") == saved[2]
        assert await storage.list_checkpoints(workflow_name="w/other") == [other]
        apart = LivingAICheckpointStorage(engine, namespace="other")
        assert await apart.get_latest(workflow_name="w") is None
        with pytest.raises(WorkflowCheckpointException):
            await apart.load("w-1")


async def test_one_of_the_same_id_is_replaced_and_copies_are_returned(file_place: Place) -> None:
    async with file_place.engine() as engine:
        storage = LivingAICheckpointStorage(engine)
        made = checkpoint(1, state={"list": [1]})
        await storage.save(made)
        made.state["list"].append(2)
        loaded = await storage.load("w-1")
        assert loaded.state == {"list": [1]}
        loaded.state["list"].append(3)
        await storage.save(made)
        assert [each.state for each in await storage.list_checkpoints(workflow_name="w")] == [
            {"list": [1, 2]}
        ]
        assert (await storage.load("w-1")).state == {"list": [1, 2]}


async def test_times_of_any_zone_are_in_order(file_place: Place) -> None:
    times = ["2026-01-01T12:00:00+02:00", "2026-01-01T10:30:00", "2026-01-01T10:30:00.000001Z"]
    async with file_place.engine() as engine:
        storage = LivingAICheckpointStorage(engine)
        for number in (2, 0, 1):
            await storage.save(checkpoint(number, timestamp=times[number]))
        assert await storage.list_checkpoint_ids(workflow_name="w") == ["w-0", "w-1", "w-2"]
        with pytest.raises(WorkflowCheckpointException, match="ISO 8601"):
            await storage.save(checkpoint(5, timestamp="yesterday"))


async def test_what_a_checkpoint_may_hold(place: Place) -> None:
    order = Order(["one"], (Part(name="p"),))
    order.total = 7
    request = AgentExecutorRequest(messages=[Message("user", ["hi"])], should_respond=True)
    event = WorkflowEvent.request_info(
        request_id="r", source_executor_id="one", request_data=order, response_type=bool
    )
    state = {
        "plain": {"at": START, "tuple": (1, (2,)), "set": {1}, "bytes": b"\0", "d": Decimal("1.5"),
                  "uuid": UUID(int=1), "big": 1 << 80, 3: "int key", "nul": "\0", "nan": None},
        "order": order, "color": Color.RED, "in": [{"deep": (order,)}],
        "marked": {"livingai:type": "x", "value": order}, "request": request,
        "message": Message("assistant", ["text"], additional_properties={"k": [1]}),
    }  # fmt: skip
    made = checkpoint(1, state=state)
    made.messages = {"one": [WorkflowMessage(data=order, source_id="a", target_id="b")]}
    made.pending_request_info_events = {"r": event}
    async with place.engine() as engine:
        await workflows.storage_of(engine).save(made)
        loaded = await workflows.storage_of(engine).load("w-1")
        for name in ("plain", "order", "color", "in", "marked"):
            assert loaded.state[name] == state[name]
        assert loaded.state["in"][0]["deep"][0].total == 7
        assert loaded.messages == made.messages
        assert loaded.state["message"].to_dict() == state["message"].to_dict()
        assert isinstance(loaded.state["request"], AgentExecutorRequest)
        assert loaded.state["request"].messages[0].text == "hi"
        back = loaded.pending_request_info_events["r"]
        assert (back.request_id, back.data, back.request_type) == ("r", order, Order)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Odd(), r"state\['odd'\]|state.*odd"),
        (lambda: None, "function"),
        (defaultdict(list), "defaultdict"),
        ([{"deep": Odd()}], "Odd"),
        (Part(name="unnamed"), r"state\['odd'\] is a .*Part, which could not be read again"),
    ],
)
async def test_what_cannot_be_stored_is_refused(file_place: Place, value: Any, why: str) -> None:
    async with file_place.engine() as engine:
        storage = LivingAICheckpointStorage(engine)
        with pytest.raises(WorkflowCheckpointException, match=why):
            await storage.save(checkpoint(1, state={"odd": value}))
        assert await storage.list_checkpoint_ids(workflow_name="w") == []
        with pytest.raises(WorkflowCheckpointException):
            await storage.load("w-1")


async def test_arguments_that_cannot_work(file_place: Place) -> None:
    async with file_place.engine() as engine:
        for odd in (Odd, "module:Class"):
            with pytest.raises(ConfigurationError, match="allowed_types"):
                LivingAICheckpointStorage(engine, allowed_types=[odd])  # type: ignore[list-item]
        refuses_odd_places(LivingAICheckpointStorage, engine)
        with pytest.raises(WorkflowCheckpointException, match="no WorkflowCheckpoint"):
            await LivingAICheckpointStorage(engine).save({})


HOSTILE = [
    "text",
    {"workflow_name": "w"},
    {"no": "field"},
    *(
        {"workflow_name": "w", "graph_signature_hash": "h", "checkpoint_id": "w-1", "state": {
            "x": {"livingai:type": name, "value": value}}}
        for name, value in (
            ("os:system", "true"), ("builtins:eval", "1"), ("subprocess:Popen", ["true"]),
            ("agent_framework._workflows._checkpoint_encoding:pickle.Unpickler", {}),
            ("agent_framework:Agent", {"client": None}),
            ("agent_framework._agents:Agent", {"client": None}),
            ("agent_framework._types:SerializationMixin", {}),
            ("agent_framework._workflows._executor:Executor", {"id": "x"}),
            ("tests.frameworks.agent_framework.workflows:Order", {"done": []}),
            ("agent_framework:nothing", {}),
            ("agent_framework:Message", 5), ("agent_framework._types:json.JSONDecoder", {}),
            ("agent_framework:WorkflowCheckpoint", {"no": 1}), ("dict", 5), (7, {}), (None, {}),
        )
    ),
]  # fmt: skip


async def test_hostile_rows_make_nothing(file_place: Place) -> None:
    async with file_place.engine() as engine:
        storage = LivingAICheckpointStorage(engine)
        await storage.save(checkpoint(1))
        run = "agent-framework:workflow/default/w"
        [node] = await engine.nodes(run)
        for number, odd in enumerate(HOSTILE):
            entry = f"{node.id[:-25]}{'e' * 16}-{number:08x}"
            about = {"checkpoint": "w-1"}
            await engine.save(ExecutionNode(run, NodeType.MEMORY, id=entry, metadata=about), odd)
            with pytest.raises(WorkflowCheckpointException):
                await storage.load("w-1")
            with pytest.raises(WorkflowCheckpointException):
                await storage.get_latest(workflow_name="w")


# -- with other processes --


@pytest.mark.parametrize("die_in", workflows.STEPS)
def test_a_workflow_killed_in_a_step_goes_on_with_it(
    place: Place, tmp_path: Path, die_in: str
) -> None:
    agent = other_process(place)
    agent.send(workflows.run, str(tmp_path), die_in)
    with pytest.raises(AgentDied):
        agent.receive()
    assert agent.died() == -9
    other = other_process(place)
    saved = other.call(workflows.ids)
    assert len(saved) >= workflows.STEPS.index(die_in) + 1
    names = list(workflows.STEPS)
    assert other.call(workflows.run, str(tmp_path), resume=True) == [names, names, 3, "red"]
    begun = {name: (tmp_path / name).read_text() for name in workflows.STEPS}
    assert begun == {name: "xx" if name == die_in else "x" for name in workflows.STEPS}


def test_two_processes_write_at_once(place: Place, tmp_path: Path) -> None:
    agents = [other_process(place) for _ in range(2)]
    for agent in agents:
        agent.send(workflows.run, str(tmp_path))
    for agent in agents:
        agent.receive()
    saved = agents[0].call(workflows.ids)
    assert len(saved) == len(set(saved)) == 2 * 4
