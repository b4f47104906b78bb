"""Nodes that a replay is asked to change, named in more than one way."""

from __future__ import annotations

import itertools

import pytest

from livingai import CheckpointEngine, ReplaySession, SyncRun
from livingai.errors import ConfigurationError


def program(run: SyncRun) -> int:
    return run.step("last", int, run.step("first", int, 1))


def test_a_node_gets_one_override(engine: CheckpointEngine) -> None:
    """Of two, one would be dropped without a word."""
    with engine.run_sync("recorded") as run:
        program(run)
    (node,) = [n for n in engine.nodes_sync("recorded") if n.metadata.get("name") == "first"]
    session = ReplaySession(engine, "recorded")
    names = (node.id, str(node.metadata["call"]), "first")
    for one, other in itertools.permutations(names, 2):
        overrides = {one: {"output": 5}, other: {"output": 6}}
        with pytest.raises(ConfigurationError, match="two of the overrides name the same node"):
            session.run_sync(program, mode="counterfactual", overrides=overrides)
    for name in names:
        result = session.run_sync(
            program, mode="counterfactual", overrides={name: {"output": 5}, "last": {"output": 7}}
        )
        assert result.output == 7
