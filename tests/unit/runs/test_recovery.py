"""Plans and recoveries: every node in its class, and no tool that is run again unasked."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import pickle
import time
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    ExecutionNode,
    NodeType,
    RecoveryEngine,
    Resolution,
    Status,
)
from livingai.errors import ExecutionNotFoundError, FencedError, InDoubtError, RecordedError
from livingai.protocol.history import pack_history, unpack_history
from livingai.runs.recovery import RecoveryPlan, make_plan
from livingai.serial import pack
from livingai.stores.records import PackedNode
from tests.support.runs import new_id


class Run:
    """Records nodes by name, and says in which classes of the plan they are."""

    def __init__(self, engine: CheckpointEngine) -> None:
        self.engine, self.id = engine, new_id()
        self.recovery = RecoveryEngine(engine)
        self._nodes: dict[str, ExecutionNode] = {}

    def save(self, name: str, kind: str, status: str, state: Any = None, **fields: Any) -> None:
        """Save a node, or its next version."""
        metadata = {"name": name, **fields.pop("metadata", {})}
        node = self._nodes.get(name)
        if node is None:
            node = ExecutionNode(self.id, NodeType(kind), metadata=metadata)
        node = dataclasses.replace(node, status=Status(status), **fields)
        self._nodes[name] = node
        self.engine.save_sync(node, state)

    def plan(self) -> RecoveryPlan:
        return self.recovery.plan_sync(self.id)

    def classes(self) -> dict[str, list[str]]:
        """Names of the nodes in each class that is not empty."""
        return names(self.plan())


def names(plan: RecoveryPlan) -> dict[str, list[str]]:
    found = {
        "replay": plan.replay_nodes, "skipped": plan.skipped_nodes,
        "in_doubt": plan.in_doubt_nodes, "failed": plan.failed_nodes,
        "pending": plan.pending_nodes,
    }  # fmt: skip
    return {cls: [str(n.metadata["name"]) for n in nodes] for cls, nodes in found.items() if nodes}


@pytest.fixture
def run(engine: CheckpointEngine) -> Run:
    return Run(engine)


def test_an_unknown_execution_has_an_empty_plan(run: Run) -> None:
    assert run.plan() == RecoveryPlan(run.id, found=False)
    for call in (run.recovery.recover_sync, lambda e: run.recovery.replay_sync(e, print)):
        with pytest.raises(ExecutionNotFoundError):
            call(run.id)
    with pytest.raises(ExecutionNotFoundError):
        run.engine.nodes_sync(run.id)


def test_without_a_state_everything_is_in_the_plan(run: Run) -> None:
    run.save("a", "prompt", "success")
    run.save("b", "tool", "running")
    plan = run.plan()
    assert (plan.found, plan.resume_node_id, plan.state) == (True, None, None)
    assert names(plan) == {"replay": ["a"], "in_doubt": ["b"]}


def test_each_kind_of_node_is_in_its_class(run: Run) -> None:
    run.save("before", "tool", "success")
    run.save("checkpoint", "prompt", "success", b"state")
    for status in ("pending", "running", "success", "failed"):
        for kind in ("tool", "prompt"):
            run.save(f"{kind} {status}", kind, status)
    run.save("marked tool", "tool", "running", metadata={"idempotent": True})
    run.save("marked prompt", "prompt", "running", metadata={"idempotent": False})
    assert run.plan().state == b"state"
    assert run.classes() == {
        "replay": ["prompt pending", "prompt running", "prompt success", "prompt failed",
                   "marked tool"],
        "skipped": ["tool success"],
        "in_doubt": ["tool running", "marked prompt"],
        "failed": ["tool failed"],
        "pending": ["tool pending"],
    }  # fmt: skip


def test_nodes_begun_before_the_checkpoint_are_in_the_plan(run: Run) -> None:
    """Under way when the checkpoint was taken: finished behind it, or never."""
    for name, kind in (("t1", "tool"), ("t2", "tool"), ("t3", "tool"), ("p1", "prompt"),
                       ("p2", "prompt")):  # fmt: skip
        run.save(name, kind, "running")
    run.save("done before", "tool", "success")
    run.save("checkpoint", "memory", "success", {"step": 1})
    run.save("t1", "tool", "success", output="R")
    run.save("t2", "tool", "failed")
    run.save("p1", "prompt", "success")
    assert run.classes() == {
        "replay": ["p1", "p2"], "skipped": ["t1"], "failed": ["t2"], "in_doubt": ["t3"],
    }  # fmt: skip
    assert run.plan().skipped_nodes[0].output == "R"


def test_a_tool_that_carries_the_state(run: Run) -> None:
    run.save("step", "prompt", "running", b"1")  # a checkpoint, whatever its status says
    run.save("tool", "tool", "running", b"2")
    assert run.classes() == {"in_doubt": ["tool"]}
    run.save("tool", "tool", "success")
    assert run.plan().state == b"2"
    assert run.classes() == {"skipped": ["tool"]}


def test_branches(run: Run) -> None:
    run.save("root", "branch", "success", {"s": 0})
    root = run.plan().resume_node_id
    for side in ("left", "right"):
        run.save(side, "branch", "running", parent_id=root)
        for number in range(3):
            run.save(f"{side} {number}", "tool", "success", parent_id=root)
    run.save("right", "branch", "success")
    assert run.classes() == {
        "replay": ["left", "right"],
        "skipped": [f"{side} {n}" for side in ("left", "right") for n in range(3)],
    }


def test_a_node_in_many_versions_counts_once(run: Run) -> None:
    run.save("c", "prompt", "success", b"1")
    for status in ("pending", "running", "failed", "running", "success"):
        run.save("t", "tool", status)
    assert run.classes() == {"skipped": ["t"]}
    run.save("c", "prompt", "success", b"2")
    assert run.classes() == {}


def test_plan_is_immutable_and_picklable(run: Run) -> None:
    run.save("t", "tool", "running", {"odd": (1, {2})})
    plan = run.plan()
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.state = None  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(plan)) == plan
    error = InDoubtError("why", ("a",))
    assert pickle.loads(pickle.dumps(error)).node_ids == ("a",)
    assert pickle.loads(pickle.dumps(RecordedError("m", "T"))).type_name == "T"


# -- carried out --------------------------------------------------------------------------------


def test_recover_claims_and_decides(run: Run) -> None:
    run.save("c", "prompt", "success", b"1")
    for name in ("done", "retry", "fail"):
        run.save(name, "tool", "running")
    run.save("skipped", "tool", "success", output=7)
    first = run.recovery.recover_sync

    with pytest.raises(InDoubtError, match="done") as caught:
        first(run.id)
    assert len(caught.value.node_ids) == 3
    decide = {"done": Resolution.done("R-1"), "retry": Resolution.retry(),
              "fail": Resolution.fail("no money")}  # fmt: skip
    recovery = first(run.id, resolver=lambda node: decide[node.metadata["name"]])
    assert recovery.epoch == 3
    assert recovery.plan.state == b"1"
    ids = {node.metadata["name"]: node.id for node in run.engine.nodes_sync(run.id)}
    assert recovery.outputs == {ids["done"]: "R-1", ids["skipped"]: 7}
    assert str(recovery.errors[ids["fail"]]) == "no money"
    assert [node.id for node in recovery.retry_nodes] == [ids["retry"]]
    assert run.classes() == {
        "skipped": ["done", "skipped"], "failed": ["fail"], "in_doubt": ["retry"],
    }  # fmt: skip


async def test_replay_does_the_work_again(run: Run) -> None:
    run.save("c", "prompt", "success", b"1")
    run.save("p", "prompt", "running", input=3)
    run.save("skipped", "tool", "success", output="S")
    run.save("t", "tool", "running", input=4)
    seen: list[str] = []

    async def handler(node: ExecutionNode) -> Any:
        await asyncio.sleep(0)
        seen.append(node.metadata["name"])
        return node.input * 10

    recovery = await run.recovery.replay(run.id, handler, resolver=lambda _: Resolution.retry())
    assert seen == ["p", "t"]
    assert sorted(map(str, recovery.outputs.values())) == ["30", "40", "S"]
    assert run.classes() == {"replay": ["p"], "skipped": ["skipped", "t"]}


def test_handler_that_raises(run: Run) -> None:
    run.save("p", "prompt", "running")
    run.save("t", "tool", "running")

    def handler(node: ExecutionNode) -> None:
        if node.type is NodeType.TOOL:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run.recovery.replay_sync(run.id, handler, resolver=lambda _: Resolution.retry())
    assert run.classes() == {"replay": ["p"], "failed": ["t"]}


def test_a_run_that_is_recovered_ends(run: Run) -> None:
    """The process that was in it may not go on."""
    with run.engine.run_sync(run.id) as entered:
        entered.tool("a", str, 1)
        run.recovery.recover_sync(run.id)
        with pytest.raises(FencedError):
            entered.tool("b", str, 2)
    assert run.classes() == {"skipped": ["a"]}


# -- ten thousand nodes -------------------------------------------------------------------------


def big_run(count: int) -> list[PackedNode]:
    """Nodes as the store hands them out; some hold values that msgpack has no type for."""
    return [
        PackedNode(
            pack(
                ExecutionNode(
                    "run", NodeType.TOOL if n % 3 else NodeType.BRANCH, Status.SUCCESS,
                    input={"n": n}, output=(n,) if n % 10 == 0 else [n], id=f"n{n}",
                    parent_id=f"n{n // 2}" if n else None,
                ).to_wire()
            ),
            1 + n // 5000, n, False, "success",
        )
        for n in range(count)
    ]  # fmt: skip


def test_ten_thousand_nodes_are_complete() -> None:
    message = pack_history(("n99", 1, 99, "owner"), [1, b"state"], big_run(10_000))
    plan = make_plan("run", unpack_history(message, None))
    assert plan.state == b"state"
    ids = [n.id for n in (*plan.replay_nodes, *plan.skipped_nodes)]
    assert sorted(ids) == sorted(f"n{n}" for n in range(100, 10_000))
    assert all(type(n.output) is (tuple if int(n.id[1:]) % 10 == 0 else list)
               for n in plan.skipped_nodes)  # fmt: skip


def test_the_agents_part_of_a_large_plan_is_quick() -> None:
    """Processor time, so that a busy machine does not matter; bench/steps.py has the whole."""
    message = pack_history(None, None, big_run(10_000))
    best = 1e9
    for _ in range(5):
        gc.collect()
        began = time.process_time()
        make_plan("run", unpack_history(message, None))
        best = min(best, time.process_time() - began)
    assert best < 0.15
