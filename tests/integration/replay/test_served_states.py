"""States that were recorded inside of a call: a replay that serves the call has them, too."""

from __future__ import annotations

from typing import Any

from livingai import CheckpointEngine, ReplaySession, SyncRun


def states(engine: CheckpointEngine, execution_id: str) -> list[Any]:
    """The states of an execution's checkpoints, in order."""
    return [
        engine.load_sync(node.id)[1]
        for node in engine.nodes_sync(execution_id)
        if node.metadata.get("role") == "checkpoint"
    ]


def work(run: SyncRun, number: int) -> int:
    run.state = {"done": number}
    run.checkpoint()
    return number


def program(run: SyncRun) -> int:
    first = run.step("first", work, run, 1)
    second = run.step("second", lambda: run.step("inner", work, run, 2))
    return run.step("last", int, first + second)


def test_checkpoints_inside_of_served_calls(engine: CheckpointEngine) -> None:
    with engine.run_sync("recorded") as run:
        program(run)
    result = ReplaySession(engine, "recorded").run_sync(
        program, mode="counterfactual", node_id="last", overrides={"output": 5}
    )
    assert result.output == 5
    assert states(engine, result.execution_id) == states(engine, "recorded")
    assert states(engine, "recorded") == [{"done": 1}, {"done": 2}]
