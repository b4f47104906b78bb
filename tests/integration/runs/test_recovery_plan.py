"""Recovery plans: where an execution goes on, and what has happened behind that point."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livingai import ExecutionNode, NodeType, RecoveryEngine, Status
from tests.support import acts
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.states import state_of

Fields = dict[str, Any]


def tool(status: str, **metadata: Any) -> Fields:
    """Fields of a TOOL node."""
    return {"type": "tool", "status": status, "metadata": metadata}


#: What is recorded behind the checkpoint: fields of the node, and the class it belongs to.
CASES: list[tuple[Fields, str]] = [
    ({"type": "prompt"}, "replay"),
    ({"type": "memory", "status": "running"}, "replay"),
    ({"type": "branch", "status": "failed"}, "replay"),
    (tool("success"), "skipped"),
    (tool("running"), "in_doubt"),
    (tool("pending"), "pending"),
    (tool("failed"), "failed"),
    (tool("success", idempotent=True), "replay"),
    (tool("running", idempotent=True), "replay"),
    (tool("running", idempotent=False), "in_doubt"),
    ({"type": "prompt", "status": "success", "metadata": {"idempotent": False}}, "skipped"),
]


def record(place: Place, agent: Agent) -> str:
    """A run that has a checkpoint at step 100 and :data:`CASES` behind it; the checkpoint's id."""
    agent.call(acts.save, place.run, 98)
    agent.call(acts.save, place.run, 99, size=None, node=tool("success"))
    resume = agent.call(acts.save, place.run, 100)
    for step, (fields, _) in enumerate(CASES):
        agent.call(acts.save, place.run, step, size=None, node=fields)
    return str(resume)


def expected(place: Place, resume: str) -> dict[str, Any]:
    """The plan of :func:`record`."""
    classes = {
        name: [step for step, (_, cls) in enumerate(CASES) if cls == name]
        for name in acts.PLAN_CLASSES
    }
    return {"found": True, "resume": resume, "state": state_of(place.run, 100), **classes}


def test_classes(served: Place) -> None:
    agent = served.agent()
    resume = record(served, agent)
    assert agent.call(acts.plan, served.run) == expected(served, resume)


def test_by_another_process_after_a_crash(served: Place) -> None:
    """Right after kill -9: what was queued is in the plan, too."""
    agent = served.agent()
    resume = record(served, agent)
    agent.kill()
    assert served.agent().call(acts.plan, served.run) == expected(served, resume)


def test_from_the_store_alone(state_dir: Place) -> None:
    agent = state_dir.agent()
    resume = record(state_dir, agent)
    assert agent.leave() == 0
    state_dir.empty()
    assert state_dir.journals() == []
    assert state_dir.agent().call(acts.plan, state_dir.run) == expected(state_dir, resume)


def test_a_result_settles_the_doubt(served: Place) -> None:
    """The tool's intent is recorded, then its result, under the same id."""
    agent = served.agent()
    resume = agent.call(acts.save, served.run, 0)
    for end, cls in (("success", "skipped"), ("failed", "")):
        node = agent.call(acts.save, served.run, 1, size=None, node=tool("running"))
        assert agent.call(acts.plan, served.run)["in_doubt"] == [1]
        agent.call(acts.save, served.run, 1, size=None, node={**tool(end), "id": node})
        plan = agent.call(acts.plan, served.run)
        assert plan["in_doubt"] == []
        assert plan["skipped"] == ([1] if cls else [])
        assert plan["resume"] == resume
        resume = agent.call(acts.save, served.run, 0)  # a checkpoint: the tool is behind us
        assert agent.call(acts.plan, served.run)["skipped"] == []


def test_a_tool_in_doubt_that_began_before_the_checkpoint(served: Place) -> None:
    """In parallel to what the checkpoint says, and not known to it."""
    agent = served.agent()
    agent.call(acts.save, served.run, 1, size=None, node=tool("running"))
    resume = agent.call(acts.save, served.run, 0)
    plan = agent.call(acts.plan, served.run)
    assert (plan["resume"], plan["in_doubt"]) == (resume, [1])


def test_a_tool_that_ended_behind_the_checkpoint(served: Place) -> None:
    """Begun before it: its output is served, its effect is not repeated."""
    agent = served.agent()
    node = agent.call(acts.save, served.run, 1, size=None, node=tool("running"))
    resume = agent.call(acts.save, served.run, 0)
    agent.call(acts.save, served.run, 1, size=None, node={**tool("success"), "id": node})
    plan = agent.call(acts.plan, served.run)
    assert (plan["resume"], plan["in_doubt"], plan["skipped"]) == (resume, [], [1])


def test_without_a_checkpoint(served: Place) -> None:
    agent = served.agent()
    agent.call(acts.save, served.run, 0, size=None)
    agent.call(acts.save, served.run, 1, size=None, node=tool("running"))
    assert agent.call(acts.plan, served.run) == {
        "found": True, "resume": None, "state": None,
        "replay": [0], "skipped": [], "in_doubt": [1], "failed": [], "pending": [],
    }  # fmt: skip


def test_checkpoint_last(served: Place) -> None:
    agent = served.agent()
    agent.call(acts.save, served.run, 0, size=None, node=tool("success"))
    resume = agent.call(acts.save, served.run, 1)
    plan = agent.call(acts.plan, served.run)
    assert (plan["resume"], plan["state"]) == (resume, state_of(served.run, 1))
    assert plan["replay"] == plan["skipped"] == plan["in_doubt"] == []


def test_unknown(served: Place) -> None:
    agent = served.agent()
    assert agent.call(acts.plan, "missing") == {
        "found": False, "resume": None, "state": None,
        "replay": [], "skipped": [], "in_doubt": [], "failed": [], "pending": [],
    }  # fmt: skip


def test_an_empty_state_is_one(served: Place) -> None:
    agent = served.agent()
    agent.call(acts.save, served.run, 0)
    with served.engine() as engine:
        empty = ExecutionNode("empty", status=Status.SUCCESS)
        engine.save_sync(empty, b"")
        plan = RecoveryEngine(engine).plan_sync("empty")
        assert (plan.resume_node_id, plan.state) == (empty.id, b"")


def test_async_twin_and_recorded_outputs(served: Place) -> None:
    async def main() -> None:
        async with served.engine() as engine:
            step = ExecutionNode(served.run, status=Status.SUCCESS)
            await engine.save(step, {"messages": [1, 2]})
            charge = ExecutionNode(
                served.run, NodeType.TOOL, Status.SUCCESS, output={"receipt": "R-1"}
            )
            await engine.save(charge)
            recovery = RecoveryEngine(engine)
            plan = await recovery.plan(served.run)
            assert plan == await asyncio.to_thread(recovery.plan_sync, served.run)
            assert (plan.resume_node_id, plan.state) == (step.id, {"messages": [1, 2]})
            assert plan.skipped_nodes == (charge,)
            assert plan.skipped_nodes[0].output == {"receipt": "R-1"}
            with pytest.raises(AttributeError):
                plan.found = False  # type: ignore[misc]

    asyncio.run(main())
