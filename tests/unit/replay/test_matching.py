"""Which recorded call a call of a replayed program is matched with."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from livingai import ExecutionNode, NodeType, Status
from livingai.node import new_id
from livingai.replay.matching import ReplayTape, frozen
from livingai.replay.recording import Recording
from livingai.runs.calls import CALL, Call, CallOptions, Input


def record(*arguments: Any) -> ReplayTape:
    """A tape with a step "think" for each argument."""
    nodes = [
        ExecutionNode(
            "old", NodeType.PROMPT, Status.SUCCESS, Input.capture((value,), {}).recorded(),
            metadata={"name": "think", CALL: str(place)}, id=f"{place}/{new_id()}",
        )
        for place, value in enumerate(arguments)
    ]  # fmt: skip
    return ReplayTape(Recording("old", nodes))


def call(place: int, argument: Any) -> Call:
    return Call(
        NodeType.PROMPT, "think", str(place), None, Input.capture((argument,), {}), str,
        (argument,), {}, CallOptions(),
    )  # fmt: skip


def places(tape: ReplayTape, *arguments: Any) -> list[str]:
    """The place of the recorded call for each, with ! if its arguments are others."""
    told = []
    for place, argument in enumerate(arguments):
        node, same = tape.match(call(place, argument))
        told.append("-" if node is None else f"{node.metadata[CALL]}{'' if same else '!'}")
    return told


@pytest.mark.parametrize(
    ("recorded", "now", "found"),
    [
        ("abc", "abc", ["0", "1", "2"]),
        ("abc", "cab", ["2", "0", "1"]),
        ("aab", "baa", ["2", "1", "0"]),
        ("ab", "aaa", ["0", "0", "0"]),
        ("ab", "xy", ["0!", "1!"]),
        ("ab", "xyz", ["0!", "1!", "-"]),
        ("abc", "xab", ["0!", "0", "1"]),
        ("ab", "bx", ["1", "0!"]),
    ],
)
def test_the_closest_call(recorded: str, now: str, found: list[str]) -> None:
    assert places(record(*recorded), *now) == found


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (float("nan"), float("nan")),
        ({"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}),
        ([{"x": bytearray(b"y")}], [{"x": bytearray(b"y")}]),
        ((1, (2.0,)), (1, (2.0,))),
        (Decimal("sNaN"), Decimal("sNaN")),
        ("x" * 20_000, "x" * 20_000),
    ],
)
def test_same_arguments_elsewhere(value: Any, same: Any) -> None:
    assert places(record("other", value), same)[0] == "1"


def test_deeply_nested_arguments() -> None:
    value: Any = []
    for _ in range(400):
        value = [value]
    assert frozen(value) == frozen(value)
    assert places(record("other", value), value) == ["1"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shift", [10_000, 1, 0])
def test_ten_thousand_calls_that_are_all_others(shift: int) -> None:
    """No call looks through all others: that took minutes."""
    size = 10_000
    tape = record(*range(size))
    for place in range(size):
        node, same = tape.match(call(place, place + shift))
        assert node is not None
        assert same is (place + shift < size)


@pytest.mark.timeout(60)
def test_ten_thousand_equal_calls() -> None:
    tape = record(*["poll"] * 10_000)
    nodes = [tape.match(call(place + 1, "poll")).node for place in range(10_000)]
    assert len({node.id for node in nodes if node is not None}) == 10_000
