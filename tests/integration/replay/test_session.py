"""Replay with a real store and real processes: what is written, what is refused, the record."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    ExecutionNode,
    NodeType,
    ReplayMode,
    ReplaySession,
    Status,
)  # fmt: skip
from livingai.errors import (
    ConfigurationError,
    ConsentRequiredError,
    ExecutionNotFoundError,
    InvalidNodeError,
    NodeNotFoundError,
    ReplayDivergedError,
    StillBeingWrittenError,
)
from tests.support import acts
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.records import recorded_runs, rows_of, write_lines


def record(engine: CheckpointEngine, execution: str = "run-1") -> list[ExecutionNode]:
    """ask (state) -> look (tool, state) -> answer (state) -> pay (tool)"""
    specs = [
        ("ask", NodeType.PROMPT, "look up 7"), ("look", NodeType.TOOL, 42),
        ("answer", NodeType.PROMPT, "it is 42"), ("pay", NodeType.TOOL, {"paid": 5}),
    ]  # fmt: skip
    nodes: list[ExecutionNode] = []
    for number, (name, kind, output) in enumerate(specs):
        node = ExecutionNode(
            execution, kind, Status.RUNNING, id=f"{execution}/{name}", input={"number": number},
            parent_id=nodes[-1].id if nodes else None, metadata={"name": name}, cost_tokens=10,
        )  # fmt: skip
        if kind is NodeType.TOOL:
            engine.save_sync(node)
        node.status, node.output = Status.SUCCESS, output
        engine.save_sync(node, None if name == "pay" else {"after": name})
        nodes.append(node)
    engine.flush_sync()
    return nodes


def same(node: ExecutionNode) -> Any:
    return node.output


async def test_async_and_sync_do_the_same(state_dir: Place, engine: CheckpointEngine) -> None:
    record(engine)
    before = rows_of(state_dir.database, "run-1")
    session = ReplaySession(engine, "run-1")

    async def handler(node: ExecutionNode) -> Any:
        return node.output

    results = [await session.run(handler), await session.run(same), session.run_sync(same)]
    assert [result.same for result in results] == [True] * 3, results[0].report()
    assert len({result.execution_id for result in results}) == 3
    for result in results:
        nodes = await engine.nodes(result.execution_id)
        assert [node.metadata["name"] for node in nodes] == ["ask", "look", "answer", "pay"]
        assert {node.metadata["parent_execution"] for node in nodes} == {"run-1"}
        assert [node.metadata["replayed"] for node in nodes] == ["run", "served", "run", "served"]
    await engine.flush()
    assert rows_of(state_dir.database, "run-1") == before


def test_all_modes_leave_the_record_alone(state_dir: Place, engine: CheckpointEngine) -> None:
    nodes = record(engine)
    before = rows_of(state_dir.database, "run-1")
    session = ReplaySession(engine, "run-1")
    full = session.run_sync(same, mode="full", allow_side_effects=True)
    assert full.counts["same"] == 4
    other = session.run_sync(
        lambda node, inputs: f"it is {inputs.parent_output}", mode=ReplayMode.COUNTERFACTUAL,
        node_id=nodes[1].id, overrides={"output": 43},
    )  # fmt: skip
    assert [node.change for node in other.nodes] == ["same", "changed", "changed", "same"]
    assert "output: 'it is 42' -> 'it is 43'" in other.report()
    engine.flush_sync()
    assert rows_of(state_dir.database, "run-1") == before


def test_from_node_restores_the_checkpoint_before_it(engine: CheckpointEngine) -> None:
    nodes = record(engine)
    seen = []

    def handler(node: ExecutionNode, inputs: Any) -> Any:
        seen.append((node.metadata["name"], inputs.state))
        inputs.state = {"after": "replayed"}
        inputs.cost_tokens = 3
        return node.output

    session = ReplaySession(engine, "run-1")
    result = session.run_sync(handler, mode="from_node", node_id=nodes[2].id)
    assert seen == [("answer", {"after": "look"})]
    assert engine.latest_sync(result.execution_id)[1] == {"after": "replayed"}
    copies = engine.nodes_sync(result.execution_id)
    assert engine.load_sync(copies[1].id)[1] == {"after": "look"}
    assert [node.cost_tokens for node in copies] == [0, 0, 3, 0]
    first = session.run_sync(lambda node: node.output, mode="from_node", node_id=nodes[0].id)
    assert first.state is None


async def test_unknown_executions_and_nodes_are_refused(engine: CheckpointEngine) -> None:
    record(engine)
    with pytest.raises(ExecutionNotFoundError):
        await ReplaySession(engine, "missing").run(same)
    with pytest.raises(NodeNotFoundError):
        await ReplaySession(engine, "run-1").run(same, mode="from_node", node_id="missing")
    record(engine, "run-2")
    with pytest.raises(NodeNotFoundError, match="'run-1' has no node"):
        ReplaySession(engine, "run-1").run_sync(same, mode="from_node", node_id="run-2/ask")


@pytest.mark.parametrize("handler", [5, "name", lambda a, b, c: 1])
def test_handlers_that_cannot_be_called(engine: CheckpointEngine, handler: Any) -> None:
    record(engine)
    with pytest.raises(ConfigurationError, match=r"handler (is|must be)"):
        ReplaySession(engine, "run-1").run_sync(handler)


def test_a_coroutine_function_is_not_for_the_sync_twin(engine: CheckpointEngine) -> None:
    record(engine)

    async def handler(node: ExecutionNode) -> Any:
        return node.output

    with pytest.raises(ConfigurationError, match="await"):
        ReplaySession(engine, "run-1").run_sync(handler)


def test_a_replay_never_writes_into_an_existing_execution(
    state_dir: Place, engine: CheckpointEngine
) -> None:
    record(engine)
    before = rows_of(state_dir.database, "run-1")
    session = ReplaySession(engine, "run-1")
    with pytest.raises(ConfigurationError, match="never writes into one that exists"):
        session.run_sync(same, new_id="run-1")
    assert session.run_sync(same, new_id="mine").execution_id == "mine"
    with pytest.raises(ConfigurationError, match="never writes into one that exists"):
        session.run_sync(same, new_id="mine")
    engine.flush_sync()
    assert rows_of(state_dir.database, "run-1") == before


def test_consent_is_asked_for_before_anything_is_written(engine: CheckpointEngine) -> None:
    record(engine)
    called: list[str] = []
    with pytest.raises(ConsentRequiredError):
        ReplaySession(engine, "run-1").run_sync(
            lambda node: called.append(node.id), mode="full", new_id="mine"
        )
    assert called == []
    with pytest.raises(ExecutionNotFoundError):
        engine.nodes_sync("mine")


def test_a_handler_that_raises(state_dir: Place, engine: CheckpointEngine) -> None:
    record(engine)
    before = rows_of(state_dir.database, "run-1")

    def handler(node: ExecutionNode) -> Any:
        raise LookupError("no model today")

    session = ReplaySession(engine, "run-1")
    result = session.run_sync(handler)
    assert not result.same
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("LookupError", "no model today")
    assert result.counts == {"same": 0, "changed": 1, "new": 0, "missing": 3}
    (saved,) = engine.nodes_sync(result.execution_id)
    assert saved.status is Status.FAILED
    assert saved.error is not None
    assert saved.error.message == "no model today"
    with pytest.raises(ReplayDivergedError, match="no model today"):
        session.run_sync(handler, strict=True)
    engine.flush_sync()
    assert rows_of(state_dir.database, "run-1") == before


@pytest.mark.parametrize("value", [object(), {"a": {1: lambda: 1}}])
def test_what_cannot_be_encoded(state_dir: Place, engine: CheckpointEngine, value: Any) -> None:
    record(engine)
    before = rows_of(state_dir.database, "run-1")
    session = ReplaySession(engine, "run-1")
    with pytest.raises(InvalidNodeError, match=r"cannot be encoded: node\.output") as caught:
        session.run_sync(lambda node: value, new_id="mine")
    assert "what the handler returned for" in caught.value.__notes__[0]
    (saved,) = engine.nodes_sync("mine")
    assert saved.status is Status.FAILED
    with pytest.raises(InvalidNodeError, match="cannot be encoded"):
        session.run_sync(
            same, mode="counterfactual", node_id="run-1/ask", overrides={"output": value}
        )
    engine.flush_sync()
    assert rows_of(state_dir.database, "run-1") == before


def test_strict_accepts_equal_results(engine: CheckpointEngine) -> None:
    record(engine)
    assert ReplaySession(engine, "run-1").run_sync(same, strict=True).same


# -- a run that is still being written -------------------------------------------------------------


def test_a_live_run_is_refused(state_dir: Place, engine: CheckpointEngine) -> None:
    """Another process is inside a tool call; once it is dead, the tool is in doubt and served as
    it is."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.call(acts.save, "run-1", 1, size=None, node={"type": "tool", "status": "running"})
    session = ReplaySession(engine, "run-1")
    with pytest.raises(StillBeingWrittenError, match=f"process {agent.pid} owns it"):
        session.run_sync(same)
    live = session.run_sync(same, allow_live=True)
    assert live.same
    assert not live.record_changed
    agent.kill()
    before = rows_of(state_dir.database, "run-1")
    result = session.run_sync(same)
    assert result.same
    assert engine.nodes_sync(result.execution_id)[1].status is Status.RUNNING
    assert rows_of(state_dir.database, "run-1") == before


def test_our_own_unfinished_run_is_refused(engine: CheckpointEngine) -> None:
    engine.save_sync(ExecutionNode("run-1", NodeType.TOOL, Status.RUNNING))
    with pytest.raises(StillBeingWrittenError):
        ReplaySession(engine, "run-1").run_sync(same)


def test_a_record_that_grows_meanwhile_is_noticed(
    state_dir: Place, engine: CheckpointEngine
) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)

    def handler(node: ExecutionNode) -> Any:
        agent.call(acts.save, "run-1", 1)
        return node.output

    result = ReplaySession(engine, "run-1").run_sync(handler)
    assert len(result.nodes) == 1
    assert result.record_changed
    assert "written to during the replay" in result.report()


# -- imported runs -------------------------------------------------------------------------------


def test_import_runs_by_the_command_line(state_dir: Place, engine: CheckpointEngine) -> None:
    run = recorded_runs(1)[0]
    path = write_lines(state_dir.folder / "runs.jsonl", {"id": "one", "messages": run.messages})
    command = [sys.executable, "-m", "livingai.cli", "import-runs", str(path)]

    def imported(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(state_dir.database), *options], env=environment(), text=True,
            capture_output=True, timeout=patience(60), check=False,
        )  # fmt: skip

    assert f"imported 1 runs with {len(run.messages)} messages" in imported().stdout
    assert "imported 0 runs with 0 messages; 1 were there already" in imported().stdout
    assert engine.latest_sync("one")[1] == run.messages
    assert len(engine.nodes_sync("one")) == len(run.messages)
    record(engine, "x/one")
    failed = imported("--prefix", "x/")
    assert failed.returncode == 2
    assert "that is not this run" in failed.stderr
    write_lines(path, "no json")
    failed = imported()
    assert "RunFormatError" in failed.stderr
    assert "Traceback" not in failed.stderr
