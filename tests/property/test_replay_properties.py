"""Replay of random graphs through a real engine: the record never changes, and modes agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livingai import (
    CheckpointEngine,
    ExecutionNode,
    NodeType,
    ReplayResult,
    ReplaySession,
    SQLiteStore,
    Status,
    SyncRun,
)  # fmt: skip
from livingai.node import ErrorInfo
from livingai.runs.calls import CallKeywords
from tests.support.patience import patience
from tests.support.records import rows_of

_numbers = itertools.count()

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, list[tuple[ExecutionNode, Any]]]:
    """An execution's id, and its nodes with their states (or None)."""
    execution = f"run-{next(_numbers)}"
    made: list[tuple[ExecutionNode, Any]] = []
    for number in range(draw(st.integers(1, 8))):
        status = draw(st.sampled_from([Status.SUCCESS, Status.SUCCESS, Status.FAILED]))
        earlier = [None, *(node.id for node, _ in made)]
        node = ExecutionNode(
            execution, draw(st.sampled_from(NodeType)), status, id=f"{execution}/{number}",
            input=draw(VALUES), output=draw(VALUES) if status is Status.SUCCESS else None,
            error=ErrorInfo("ValueError", "no") if status is Status.FAILED else None,
            parent_id=draw(st.sampled_from(earlier)),
            metadata=draw(st.sampled_from([{}, {"idempotent": True}, {"name": "x"}])),
        )  # fmt: skip
        made.append((node, draw(st.none() | VALUES)))
    return execution, made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CheckpointEngine, Path]]:
    database = tmp_path_factory.mktemp("replay") / "agent.db"
    with CheckpointEngine(SQLiteStore(database), idle_s=0.2, compressors=1) as engine:
        yield engine, database


def unchanged(node: ExecutionNode) -> Any:
    """The program as it was: it fails where it failed."""
    if node.error is not None:
        raise ValueError(node.error.message)
    return node.output


def content(result: ReplayResult) -> list[tuple[Any, ...]]:
    """What a replay did, without the names and times of its run."""
    return [
        (node.change, repr(node.replayed.input), repr(node.replayed.output), node.replayed.status)
        for node in result.nodes if node.replayed
    ]  # fmt: skip


@settings(max_examples=60)
@given(graph=graphs(), data=st.data())
def test_modes_agree_and_the_record_stays(
    place: tuple[CheckpointEngine, Path],
    graph: tuple[str, list[tuple[ExecutionNode, Any]]],
    data: st.DataObject,
) -> None:
    engine, database = place
    execution, made = graph
    for node, state in made:
        engine.save_sync(node, state)
    engine.flush_sync(timeout=patience(30))
    before = rows_of(database, execution)
    session = ReplaySession(engine, execution)

    mocked = session.run_sync(unchanged)
    assert mocked.same, mocked.report()
    assert session.run_sync(unchanged, mode="full", allow_side_effects=True).same

    node, _ = data.draw(st.sampled_from(made))
    assert session.run_sync(unchanged, mode="from_node", node_id=node.id).same
    fields = ["input", "output"] if node.status is Status.SUCCESS else ["input"]
    field = data.draw(st.sampled_from(fields))
    as_it_was = session.run_sync(
        unchanged, mode="counterfactual", node_id=node.id, overrides={field: getattr(node, field)}
    )
    assert as_it_was.same, as_it_was.report()
    assert content(as_it_was) == content(mocked)

    other = session.run_sync(
        unchanged, mode="counterfactual", node_id=node.id, allow_side_effects=True,
        overrides={field: data.draw(VALUES)},
    )  # fmt: skip
    elsewhere = [one for one in other.diverged if one.recorded and one.recorded.id != node.id]
    assert elsewhere == [], "the handler gives what it gave, so nothing but the node may differ"

    engine.flush_sync(timeout=patience(30))
    assert rows_of(database, execution) == before


# -- programs --------------------------------------------------------------------------------------


class Failed(Exception):
    """What a call of a random program raises."""


@st.composite
def programs(draw: st.DrawFn, depth: int = 0) -> list[tuple[Any, ...]]:
    """Calls in order: (kind, name, seed, whether it fails, calls inside of it)."""
    calls = []
    for _ in range(draw(st.integers(1, 4 if depth == 0 else 2))):
        kind = draw(st.sampled_from(["step", "tool", "safe", "checkpoint"]))
        nested = depth < 2 and kind == "step" and draw(st.booleans())
        inside = draw(programs(depth + 1)) if nested else []
        calls.append((kind, draw(st.sampled_from("ab")), draw(st.integers(0, 2)),
                      draw(st.integers(0, 4)) == 0, inside))  # fmt: skip
    return calls


class Program:
    """A random program: what a call returns depends on its arguments, and on no more."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.tools = 0

    def __call__(self, run: SyncRun) -> int:
        return self.go(run, self.calls, 0)

    def go(self, run: SyncRun, calls: list[tuple[Any, ...]], so_far: int) -> int:
        for kind, name, seed, fails, inside in calls:
            if kind == "checkpoint":
                run.state = {"so_far": so_far}
                run.checkpoint()
                continue
            with suppress(Failed):
                if kind == "step":
                    so_far += run.step(name, self.step, run, so_far, seed, fails, inside)
                else:
                    options: CallKeywords = {"idempotent": True} if kind == "safe" else {}
                    so_far += run.using(**options).tool(name, self.tool, so_far, seed, fails)
        return so_far

    def step(
        self, run: SyncRun, so_far: int, seed: int, fails: bool, inside: list[tuple[Any, ...]]
    ) -> int:
        found = self.go(run, inside, so_far)
        if fails:
            raise Failed(f"step {seed}")
        return found * 3 + seed

    def tool(self, so_far: int, seed: int, fails: bool) -> int:
        self.tools += 1
        if fails:
            raise Failed(f"tool {seed}")
        return so_far + seed


@settings(max_examples=60)
@given(calls=programs(), data=st.data())
def test_programs(
    place: tuple[CheckpointEngine, Path], calls: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    engine, database = place
    execution = f"program-{next(_numbers)}"
    with engine.run_sync(execution) as run:
        output = Program(calls)(run)
    engine.flush_sync(timeout=patience(30))
    before = rows_of(database, execution)
    session = ReplaySession(engine, execution)

    program = Program(calls)
    mocked = session.run_sync(program)
    assert mocked.same, mocked.report(full=True)
    assert (mocked.output, program.tools) == (output, 0)

    made = [node for node in engine.nodes_sync(execution) if "function" in node.metadata]
    if made:
        node = data.draw(st.sampled_from(made))
        whole = session.run_sync(program, mode="from_node", node_id=node.id)
        assert whole.same, whole.report(full=True)
        field = "output" if node.status is Status.SUCCESS else "input"
        if "run" not in str(node.input) or field == "output":
            program.tools = 0
            as_it_was = session.run_sync(
                program, mode="counterfactual", node_id=node.id,
                overrides={field: getattr(node, field)},
            )  # fmt: skip
            assert as_it_was.same, as_it_was.report(full=True)
            assert program.tools == 0
            # A call that is served comes before what is inside of it, one that runs may not.
            assert sorted(content(as_it_was)) == sorted(content(mocked))

    full = session.run_sync(program, mode="full", allow_side_effects=True)
    assert full.same, full.report(full=True)
    engine.flush_sync(timeout=patience(30))
    assert rows_of(database, execution) == before
