"""Recorded runs of a real agent: imported, replayed, and lived through with a death at every step.

Without the recorded runs, made-up ones take their place.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode, NodeType, ReplaySession, Status
from livingai.adapters.messages import RecordedRun, import_run_sync
from livingai.replay.compare import How
from tests.support.agents import environment
from tests.support.message_agent import Program
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.records import recorded_runs, rows_of

_RUNS = 50


def test_each_imported_run_replays_the_same(state_dir: Place) -> None:
    """All 200: MOCK_TOOLS calls no tool, and every node is the same."""
    runs = recorded_runs(200)
    with state_dir.engine() as engine:
        for run in runs:
            assert import_run_sync(engine, run)
        engine.flush_sync(timeout=patience(60))
        before = {run.execution_id: rows_of(state_dir.database, run.execution_id) for run in runs}
        for run in runs:
            _replay_import(engine, run)
        engine.flush_sync(timeout=patience(60))
        for run in runs:
            assert rows_of(state_dir.database, run.execution_id) == before[run.execution_id]


def _replay_import(engine: CheckpointEngine, run: RecordedRun) -> None:
    def model(node: ExecutionNode) -> Any:
        assert node.type is not NodeType.TOOL, "a tool was called"
        seen = node.input["messages"] if node.input else int(node.id.rsplit(":", 1)[1])
        return run.messages[seen]

    result = ReplaySession(engine, run.execution_id).run_sync(model)
    assert result.same, result.report()
    assert len(result.nodes) == len(run.messages)
    tools = [one for one in result.nodes if one.recorded and one.recorded.type is NodeType.TOOL]
    assert len(tools) == sum(message["role"] == "tool" for message in run.messages)
    assert all(one.how is How.SERVED for one in tools)


def live_through(place: Place, runs: list[RecordedRun]) -> None:
    """Kill at every boundary and inside each tool call, resume each time; then compare."""
    with place.engine(idle_s=1.0) as engine:  # one service for all lives
        engine.flush_sync()
        deaths = _nursery(place, runs)
        tools = sum(message["role"] == "tool" for run in runs for message in run.messages)
        assert deaths == sum(len(run.messages) for run in runs) + tools

        effects = Counter((place.folder / "effects").read_text().splitlines())
        expected = [
            f"{run.execution_id} {number}"
            for run in runs
            for number, message in enumerate(run.messages)
            if message["role"] == "tool"
        ]
        assert effects == Counter(expected), "each tool with side effects exactly once"
        doubts = (place.folder / "doubts").read_text().splitlines()
        assert Counter(doubts) == Counter(expected), "each one in doubt reported, once"

        for run in runs:
            _compare(place, engine, run)


def _nursery(place: Place, runs: list[RecordedRun]) -> int:
    file = place.folder / "runs.jsonl"
    file.write_text("".join(json.dumps(asdict(run)) + "\n" for run in runs))
    with open(place.folder / "agent-nursery.log", "wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.message_agent", str(place.database),
             str(place.folder), str(file)],
            stdout=subprocess.PIPE, stderr=log, env=environment(), check=False,
            timeout=patience(7000),
        )  # fmt: skip
    assert done.returncode == 0, (place.folder / "agent-nursery.log").read_text()
    return int(done.stdout)


def _compare(place: Place, engine: CheckpointEngine, run: RecordedRun) -> None:
    """The run that was killed so often against one that was not, and against its own replay."""

    def no_effect(number: int) -> None:
        pass

    def never(number: int) -> None:
        raise AssertionError("a tool was called")

    whole = f"{run.execution_id}/uninterrupted"
    with engine.run_sync(whole) as uninterrupted:
        Program(run, no_effect)(uninterrupted)
    assert engine.latest_sync(run.execution_id)[1] == engine.latest_sync(whole)[1] == run.messages
    engine.flush_sync(timeout=patience(60))
    before = rows_of(place.database, run.execution_id)
    program = Program(run, never)
    result = ReplaySession(engine, run.execution_id).run_sync(program)
    assert result.same, result.report()
    # Each message is a call and a checkpoint.
    assert result.counts == {"same": 2 * len(run.messages), "changed": 0, "new": 0, "missing": 0}
    assert result.output == len(run.messages)
    tools = [one for one in result.nodes if one.replayed and one.replayed.type is NodeType.TOOL]
    assert {one.how for one in tools} <= {How.SERVED}
    assert all(one.replayed.status is Status.SUCCESS for one in tools if one.replayed)
    engine.flush_sync(timeout=patience(60))
    assert rows_of(place.database, run.execution_id) == before


def test_killed_at_every_boundary_of_some(state_dir: Place) -> None:
    """A few of the runs, chosen by seed, of the 50 that the long campaign goes through."""
    seed = os.environ.get("LIVINGAI_SEED", "0")
    chosen = random.Random(f"replay/{seed}").sample(recorded_runs(_RUNS), 3)
    live_through(state_dir, chosen)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_killed_at_every_boundary_of_fifty(state_dir: Place) -> None:
    live_through(state_dir, recorded_runs(_RUNS))
