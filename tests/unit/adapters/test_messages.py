"""Recorded message runs: from lines to graphs, without a store."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from livingai import NodeType, Status
from livingai.adapters.messages import RecordedRun, graph, read_runs
from livingai.demo.generator import make_run
from livingai.errors import RunFormatError
from tests.support.records import write_lines


def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


SAID = {"role": "user", "content": "hello"}


@pytest.mark.parametrize("name", ["runs.jsonl", "runs.jsonl.gz"])
def test_read(tmp_path: Path, name: str) -> None:
    path = write_lines(tmp_path / name, {"id": "one", "messages": [SAID], "reward": 1.0}, "",
                 {"messages": [SAID]})  # fmt: skip
    one, two = read_runs(path, "p/")
    assert (one.execution_id, two.execution_id) == ("p/one", "p/runs-3")
    assert one.about == {"reward": 1.0}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no json", "line 2 is not JSON"),
        ("[" * 5000, "line 2 is not JSON"),
        ("[]", "line 2 has no messages"),
        ({"messages": []}, "line 2 has no messages"),
        ({"messages": "x"}, "line 2 has no messages"),
        ({"messages": ["x"]}, "line 2, message 0: expected an object with a role"),
        ({"messages": [{"content": "x"}]}, "message 0: expected an object with a role"),
        ({"messages": [SAID, {**SAID, "tool_calls": 1}]}, "message 1: tool_calls is no list"),
        ({"messages": [{**SAID, "tool_calls": [1]}]}, "a tool call without function.name"),
        ({"messages": [{**SAID, "tool_calls": [{"function": {"name": "x"}}]}]}, "without an id"),
    ],
)
def test_bad_lines(tmp_path: Path, line: Any, why: str) -> None:
    path = write_lines(tmp_path / "runs.jsonl", {"messages": [SAID]}, line)
    runs = read_runs(path)
    next(runs)
    with pytest.raises(RunFormatError, match=why):
        next(runs)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 5000)[:-9])
    write_lines(tmp_path / "empty.jsonl")
    write_lines(tmp_path / "plain.jsonl", "x").rename(tmp_path / "plain.gz")
    for name in ("none.jsonl", "empty.jsonl", "", "cut.jsonl.gz", "plain.gz"):
        with pytest.raises(RunFormatError):
            list(read_runs(tmp_path / name))


def test_graph() -> None:
    messages: list[Any] = [
        SAID,
        {"role": "assistant", "content": None, "tool_calls": [call("c1", "look", '{"a": 1}')]},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "seen"},
        {"role": "assistant", "content": "done"},
    ]
    made = list(graph(RecordedRun("r", messages, {"reward": 1.0}), idempotent=["look"]))
    nodes = [node for node, _ in made]
    assert [node.type for node in nodes] == [
        NodeType.MEMORY, NodeType.PROMPT, NodeType.TOOL, NodeType.PROMPT,
    ]  # fmt: skip
    assert [node.parent_id for node in nodes] == [None, "r:0", "r:1", "r:2"]
    assert [len(state) for _, state in made] == [1, 2, 3, 4]
    tool = nodes[2]
    assert tool.input == {"name": "look", "arguments": {"a": 1}, "call_id": "c1"}
    assert (tool.output, tool.status) == ("seen", Status.SUCCESS)
    assert tool.metadata == {"name": "look", "idempotent": True, "caller": "r:1"}
    assert nodes[0].metadata["reward"] == 1.0


def test_an_id_that_is_used_again() -> None:
    """As the recorded runs do: 49 of 200 have a call id twice."""
    messages: list[Any] = []
    for name in ("first", "second"):
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call("same", name)]},
            {"role": "tool", "tool_call_id": "same", "name": name, "content": name},
        ]
    tools = [node for node, _ in graph(RecordedRun("r", messages)) if node.type is NodeType.TOOL]
    assert [tool.input["name"] for tool in tools] == ["first", "second"]
    assert [tool.metadata["caller"] for tool in tools] == ["r:0", "r:2"]


def test_several_calls_at_once_and_one_without_an_answer() -> None:
    messages: list[Any] = [
        {"role": "assistant", "tool_calls": [call("a", "one"), call("b", "two", "no json")]},
        {"role": "tool", "tool_call_id": "a", "content": 1},
    ]
    nodes = [node for node, _ in graph(RecordedRun("r", messages))]
    assert [node.status for node in nodes[1:]] == [Status.SUCCESS, Status.RUNNING]
    assert nodes[2].input == {"name": "two", "arguments": "no json", "call_id": "b"}
    assert [node.metadata["caller"] for node in nodes[1:]] == ["r:0", "r:0"]
    assert len({node.id for node in nodes}) == 3


def test_an_answer_that_nobody_asked_for() -> None:
    messages = [{"role": "tool", "tool_call_id": "x", "name": "odd", "content": 1}]
    ((node, _),) = graph(RecordedRun("r", messages))
    assert (node.type, node.metadata["name"]) == (NodeType.TOOL, "odd")


def test_generated_runs_are_runs() -> None:
    messages = make_run("import", 40)
    nodes = [node for node, _ in graph(RecordedRun("r", messages))]
    assert len(nodes) == len(messages)
    assert all(node.status is Status.SUCCESS for node in nodes)
