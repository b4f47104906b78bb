"""Data that reaches a call past its arguments: a counterfactual cannot follow it, and says so."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from livingai import CheckpointEngine, ReplaySession, SyncRun
from livingai.replay.program import variables_of
from tests.support.runs import engine_in, new_id


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointEngine]:
    yield from engine_in(tmp_path_factory.mktemp("variables"))


def by_closure(run: SyncRun) -> str:
    report = run.tool("weather", lambda: {"sky": "rain"})

    def plan() -> str:
        return f"{report['sky']}: museum"

    run.step("unrelated", len, "abc")
    return run.step("plan", plan)


def by_argument(run: SyncRun) -> str:
    report = run.tool("weather", lambda: {"sky": "rain"})
    return run.step("plan", lambda sky: f"{sky}: museum", report["sky"])


def replay(engine: CheckpointEngine, program: Any, sky: str) -> Any:
    run_id = new_id()
    with engine.run_sync(run_id) as run:
        program(run)
    (weather,) = [n for n in engine.nodes_sync(run_id) if n.metadata["name"] == "weather"]
    return ReplaySession(engine, run_id).run_sync(
        program, mode="counterfactual", node_id=weather.id, overrides={"output": {"sky": sky}}
    )


def test_a_changed_closure_variable_is_reported(engine: CheckpointEngine) -> None:
    result = replay(engine, by_closure, "sun")
    assert result.output == "rain: museum", "served: its arguments are the same, there are none"
    assert result.unseen == {"plan": ("report",)}
    assert "note     plan was served, though it also uses report" in result.report()


def test_a_changed_argument_makes_the_call_run_again(engine: CheckpointEngine) -> None:
    result = replay(engine, by_argument, "sun")
    assert (result.output, dict(result.unseen)) == ("sun: museum", {})


def test_an_unchanged_closure_variable_is_not_reported(engine: CheckpointEngine) -> None:
    result = replay(engine, by_closure, "rain")
    assert result.same
    assert dict(result.unseen) == {}


def test_variables_of_a_function_are_found() -> None:
    data, later = [1], None
    helper = functools.partial(len, data)

    def uses() -> Any:
        return data, later, helper, functools

    def unassigned() -> Any:
        return never

    assert variables_of(uses) == variables_of(functools.partial(uses)) == ("data", "later")
    assert variables_of(unassigned) == ()
    assert variables_of(len) == variables_of(5) == ()
    if len(data) > 1:
        never = 1
