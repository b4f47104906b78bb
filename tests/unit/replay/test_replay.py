"""Replay without a store: requests, which nodes run, comparison and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from livingai import ExecutionNode, NodeType, ReplayMode, ReplayResult, Status
from livingai.errors import (
    ConfigurationError,
    ConsentRequiredError,
    NodeNotFoundError,
    StateEncodingError,
)
from livingai.node import MAX_ID_BYTES, ErrorInfo
from livingai.outcome import Durability
from livingai.replay.compare import Change, How, compare
from livingai.replay.graph import GraphReplay
from livingai.replay.handlers import Answer, CallHandler
from livingai.replay.mode import make_request
from livingai.replay.recording import Recording, fresh
from livingai.runs.diff import differences
from livingai.runs.effects import Save

# -- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"modus": "full"}, "unknown option of a replay: modus"),
        ({"mode": "again"}, "there is no replay mode 'again'; choose one of full, from_node"),
        ({"mode": "from_node"}, "FROM_NODE needs node_id"),
        ({"mode": "full", "overrides": {"output": 1}}, "FULL takes no overrides"),
        ({"mode": "mock_tools", "node_id": "a"}, "MOCK_TOOLS takes no node_id"),
        ({"mode": "counterfactual"}, "COUNTERFACTUAL needs overrides"),
        ({"mode": "counterfactual", "node_id": "a"}, "COUNTERFACTUAL needs overrides"),
        ({"mode": "counterfactual", "overrides": {"a": 5}}, "the override of 'a' must be"),
        ({"mode": "counterfactual", "node_id": "a", "overrides": {"x": 1}}, "the override of 'a'"),
        (
            {"mode": "counterfactual", "node_id": "a", "overrides": {"input": 1, "output": 2}},
            "replaces both",
        ),
    ],
)
def test_requests_that_make_no_sense(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        make_request(arguments)  # type: ignore[arg-type]


# -- which nodes run -----------------------------------------------------------------------------


def made(*specs: tuple[str, str, str | None], **status: Status) -> Recording:
    """A record of (id, type, parent); a name in capitals is an idempotent tool's."""
    nodes = [
        ExecutionNode(
            "run-1", NodeType(kind), status.get(node_id, Status.SUCCESS), id=node_id, parent_id=up,
            input={"in": node_id}, output={"out": node_id}, cost_tokens=7, latency_ms=3.0,
            metadata={"idempotent": True} if node_id.isupper() else {},
        )
        for node_id, kind, up in specs
    ]  # fmt: skip
    return Recording("run-1", nodes)


CHAIN = made(
    ("a", "prompt", None), ("b", "tool", "a"), ("C", "tool", "b"), ("d", "prompt", "C"),
    ("e", "memory", "a"), ("f", "prompt", None),
)  # fmt: skip


def play(
    recording: Recording,
    mode: ReplayMode,
    handler: Callable[[ExecutionNode], Any] = lambda node: node.output,
    *,
    node_id: str | None = None,
    overrides: Any = None,
    allow: bool = False,
    state: Any = None,
) -> tuple[list[str], list[Save], GraphReplay]:
    """(what ran, what was saved, the replay)."""
    request = make_request(
        {"mode": mode, "node_id": node_id, "overrides": overrides, "allow_side_effects": allow}
    )
    replay = GraphReplay(recording, request, "new-1", state)
    ran: list[str] = []
    saves: list[Save] = []
    answer = None
    work = replay.work(lambda node, inputs: handler(node))
    while True:
        try:
            step = work.send(answer)
        except StopIteration:
            return ran, saves, replay
        answer = None
        if isinstance(step, CallHandler):
            ran.append(step.node.id)
            try:
                answer = Answer(step.handler(step.node, step.inputs))
            except RuntimeError as error:
                answer = Answer(error=error)
        else:
            assert isinstance(step, Save)
            saves.append(step)


def test_full_runs_all_but_only_with_consent() -> None:
    with pytest.raises(ConsentRequiredError, match="would run 1 nodes with side effects"):
        play(CHAIN, ReplayMode.FULL)
    ran, saves, _ = play(CHAIN, ReplayMode.FULL, allow=True)
    assert ran == list("abCdef")
    intent = [save for save in saves if save.durability is Durability.FSYNC]
    assert [save.node.status for save in intent] == [Status.RUNNING]
    assert intent[0].node.output is None


def test_full_needs_no_consent_without_side_effects() -> None:
    harmless = made(("a", "prompt", None), ("B", "tool", "a"))
    assert play(harmless, ReplayMode.FULL)[0] == ["a", "B"]


def test_mock_tools_serves_every_tool() -> None:
    for allow in (False, True):
        ran, _, replay = play(CHAIN, ReplayMode.MOCK_TOOLS, allow=allow)
        assert ran == list("adef")
        assert all(node.change is Change.SAME for node in replay.nodes)


def test_from_node_serves_what_was_before() -> None:
    ran, saves, replay = play(CHAIN, ReplayMode.FROM_NODE, node_id="b", state={"n": 1})
    assert ran == list("Cdef"), "the tool with side effects is served without consent"
    assert play(CHAIN, ReplayMode.FROM_NODE, node_id="b", allow=True)[0] == list("bCdef")
    assert [save.state for save in saves][:2] == [None, {"n": 1}], "the restored checkpoint"
    assert replay.state == {"n": 1}
    with pytest.raises(NodeNotFoundError):
        play(CHAIN, ReplayMode.FROM_NODE, node_id="missing")


@pytest.mark.parametrize(
    ("node_id", "override", "runs"),
    [
        ("a", {"output": "other"}, "Cde"),
        ("a", {"input": "other"}, "aCde"),
        ("C", {"output": "other"}, "d"),
        ("f", {"input": "other"}, "f"),
        ("f", {"output": "other"}, ""),
        ("a", {"output": {"out": "a"}}, ""),
        ("a", {"input": {"in": "a"}}, ""),
    ],
)
def test_counterfactual_runs_what_depends_on_it(
    node_id: str, override: dict[str, Any], runs: str
) -> None:
    how = {"node_id": node_id, "overrides": override}
    ran, _, replay = play(CHAIN, ReplayMode.COUNTERFACTUAL, **how)  # type: ignore[arg-type]
    assert ran == list(runs)
    replaced = [node for node in replay.nodes if node.how is How.REPLACED]
    assert len(replaced) == ("output" in override)


def test_another_input_of_a_tool_needs_consent() -> None:
    other = {"b": {"input": "other"}}
    with pytest.raises(ConsentRequiredError):
        play(CHAIN, ReplayMode.COUNTERFACTUAL, overrides=other)
    ran, saves, _ = play(CHAIN, ReplayMode.COUNTERFACTUAL, overrides=other, allow=True)
    assert ran == list("bCd")
    assert {save.node.input for save in saves if save.node.metadata["replay_of"] == "b"} == {
        "other"
    }


def test_unknown_override() -> None:
    with pytest.raises(NodeNotFoundError):
        play(CHAIN, ReplayMode.COUNTERFACTUAL, overrides={"missing": {"output": 1}})


def test_parents_in_a_circle_come_to_an_end() -> None:
    circle = made(("a", "prompt", "b"), ("b", "prompt", "a"))
    ran, _, _ = play(circle, ReplayMode.COUNTERFACTUAL, overrides={"a": {"output": 0}})
    assert ran == ["b"]


def test_ten_thousand_nodes() -> None:
    specs = [(f"n{at}", "prompt", f"n{at - 1}" if at else None) for at in range(10_000)]
    recording = made(*specs)
    assert len(recording.descendants(["n0"])) == 9_999
    ran, _, replay = play(recording, ReplayMode.MOCK_TOOLS)
    assert len(ran) == len(replay.nodes) == 10_000


# -- what is written -----------------------------------------------------------------------------


def test_the_new_execution_names_its_parent() -> None:
    _, saves, _ = play(CHAIN, ReplayMode.MOCK_TOOLS)
    recorded = set(CHAIN.by_id)
    for save in saves:
        node = save.node
        assert node.execution_id == "new-1"
        assert node.id not in recorded
        assert node.parent_id is None or node.parent_id not in recorded
        assert node.metadata["parent_execution"] == "run-1"
        assert node.metadata["replay_of"] in recorded
        assert node.metadata["replay_mode"] == "mock_tools"
        assert node.cost_tokens == 0, "served or not, the recorded run has paid for that"
    assert len({save.node.id for save in saves}) == len(recorded)


def test_long_ids_stay_short_enough() -> None:
    _, saves, _ = play(made(("x" * MAX_ID_BYTES, "prompt", None)), ReplayMode.FULL)
    assert len(saves[0].node.id) <= MAX_ID_BYTES


def test_a_handler_cannot_change_the_record() -> None:
    def spoil(node: ExecutionNode) -> Any:
        node.input["in"] = node.output["out"] = "spoiled"
        node.id = node.execution_id = "spoiled"
        return "new"

    before = CHAIN.fingerprint()
    _, saves, _ = play(CHAIN, ReplayMode.MOCK_TOOLS, spoil)
    assert CHAIN.fingerprint() == before
    assert all(save.node.input == {"in": save.node.metadata["replay_of"]} for save in saves)
    assert fresh(CHAIN.nodes[0]) == CHAIN.nodes[0]


def test_nodes_that_depend_on_a_failed_one_are_missing() -> None:
    def fail(node: ExecutionNode) -> Any:
        if node.id == "a":
            raise RuntimeError("no")
        return node.output

    _, saves, replay = play(CHAIN, ReplayMode.MOCK_TOOLS, fail)
    changes = {node.recorded.id: node.change for node in replay.nodes if node.recorded}
    assert changes == {
        "a": "changed", "b": "missing", "C": "missing", "d": "missing", "e": "missing", "f": "same",
    }  # fmt: skip
    assert saves[0].node.status is Status.FAILED
    assert replay.error is not None
    assert (replay.error.type, replay.error.message) == ("RuntimeError", "no")


def test_what_cannot_be_encoded_is_saved_as_failed_and_raised() -> None:
    request = make_request({"mode": "mock_tools"})
    graph = GraphReplay(made(("a", "prompt", None)), request, "new-1")
    work = graph.work(lambda node, inputs: None)
    assert isinstance(next(work), CallHandler)
    assert isinstance(work.send(Answer(object())), Save)
    failed = work.throw(StateEncodingError("no"))
    assert isinstance(failed, Save)
    assert failed.node.status is Status.FAILED
    assert failed.node.output is None
    with pytest.raises(StateEncodingError):
        next(work)


# -- comparison and report -----------------------------------------------------------------------


def test_report() -> None:
    recorded = CHAIN.nodes[0]
    changed = fresh(recorded)
    changed.output = {"out": "other"}
    nodes = (
        compare(recorded, fresh(recorded), How.SERVED),
        compare(recorded, changed, How.RUN),
        compare(None, changed, How.RUN),
        compare(recorded, None),
    )
    result = ReplayResult("new-1", "run-1", ReplayMode.MOCK_TOOLS, nodes)
    assert not result.same
    assert result.counts == {"same": 1, "changed": 1, "new": 1, "missing": 1}
    assert result.report() == (
        "replay of run-1 (mock_tools) -> new-1\n"
        "diverged: 1 same, 1 changed, 1 new, 1 missing\n"
        "changed prompt prompt (run)  a\n"
        "    output.out: 'a' -> 'other'\n"
        "new     prompt prompt (run)  a\n"
        "    input: (nothing) -> {'in': 'a'}\n"
        "    output: (nothing) -> {'out': 'other'}\n"
        "missing prompt prompt  a"
    )
    assert len(result.report(full=True).splitlines()) == 9


def test_an_empty_result_is_the_same() -> None:
    assert ReplayResult("new-1", "run-1", ReplayMode.FULL, ()).same


FAILURE = ErrorInfo("ValueError", "no", "Traceback ...")
#: What is compared of two nodes: the field that differs, its value, and the difference in words.
COMPARED: list[tuple[str, Any, str]] = [
    ("metadata", {"name": "ask"}, "name: 'prompt' -> 'ask'"),
    ("type", NodeType.MEMORY, "type: 'prompt' -> 'memory'"),
    ("input", {"in": "b"}, "input.in: 'a' -> 'b'"),
    ("status", Status.FAILED, "status: 'success' -> 'failed'"),
    ("output", {"out": "b"}, "output.out: 'a' -> 'b'"),
    ("error", FAILURE, "error: None -> 'ValueError: no'"),
]


@pytest.mark.parametrize(("field", "value", "told"), COMPARED)
def test_what_is_compared_of_a_node(field: str, value: Any, told: str) -> None:
    recorded = CHAIN.nodes[0]
    replayed = fresh(recorded)
    assert compare(recorded, replayed).change is Change.SAME
    setattr(replayed, field, value)
    if field == "type":
        replayed.metadata["name"] = "prompt"  # else its name differs, too
    found = compare(recorded, replayed)
    assert (found.change, [str(each) for each in found.differences]) == (Change.CHANGED, [told])


def test_what_is_not_compared_of_a_node() -> None:
    recorded = fresh(CHAIN.nodes[0])
    recorded.error = FAILURE
    replayed = fresh(recorded)
    replayed.id, replayed.parent_id = "other", "another"
    replayed.created_at, replayed.completed_at = 1.0, 2.0
    replayed.cost_tokens, replayed.latency_ms = 99, 99.0
    replayed.metadata = {"attempts": []}
    replayed.error = replace(FAILURE, traceback="Traceback of another line")
    assert compare(recorded, replayed).change is Change.SAME


def test_last_states_that_differ() -> None:
    found = differences({"a": 1}, {"a": 2})
    result = ReplayResult("new-1", "run-1", ReplayMode.FULL, (), state_differences=found)
    assert not result.same
    assert "diverged" in result.report()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_replay_that_ends_with_an_error(recorded: bool) -> None:
    result = ReplayResult(
        "new-1", "run-1", ReplayMode.FULL, (), error=FAILURE, error_recorded=recorded
    )
    assert result.same == recorded
