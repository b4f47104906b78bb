"""Differences between two values, in words."""

from __future__ import annotations

from typing import Any

import pytest

from livingai.runs.diff import MAX_DIFFERENCES, NOTHING, differences


@pytest.mark.parametrize(
    ("recorded", "replayed", "told"),
    [
        ({"a": 1}, {"a": 2}, "output.a: 1 -> 2"),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": 0}]}, "output.a[1].b: None -> 0"),
        ({"a": 1}, {}, "output.a: 1 -> (nothing)"),
        ([1], [1, 2], "output[1]: (nothing) -> 2"),
        ({2: "x"}, {2: "y"}, "output[2]: 'x' -> 'y'"),
        ({"not a name": 1}, {"not a name": 2}, "output['not a name']: 1 -> 2"),
        (1, True, "output: 1 -> True"),
        (1, 1.0, "output: 1 -> 1.0"),
        ((1,), [1], "output: (1,) -> [1]"),
        (None, "", "output: None -> ''"),
        (b"a" * 200, b"b", f"output: {b'a' * 70!r}... (200 in all) -> b'b'"),
        (list(range(100)), None, "output: <list of 100> -> None"),
    ],
)
def test_difference_in_words(recorded: Any, replayed: Any, told: str) -> None:
    assert [str(one) for one in differences(recorded, replayed, "output")] == [told]


@pytest.mark.parametrize(
    "value", [None, 1, "a", [1, (2, {"x": {3}})], float("nan"), [float("nan")]]
)
def test_a_value_equals_itself(value: Any) -> None:
    assert differences(value, value) == ()


def test_long_texts_show_where_they_part() -> None:
    text = "word " * 400
    (one,) = differences(text, text[:1000] + "HERE" + text[1004:], "output")
    assert "HERE" in str(one)
    assert len(str(one)) < 250
    (cut,) = differences(text, text[:1000], "output")
    assert len(str(cut)) < 250


def test_order_of_keys_does_not_count() -> None:
    assert differences({"a": 1, "b": 2}, {"b": 2, "a": 1}) == ()


def test_differences_are_bounded_and_deep_values_do_not_recurse() -> None:
    assert len(differences(list(range(1000)), list(range(1, 1001)))) == MAX_DIFFERENCES
    one: Any = 1
    other: Any = 2
    for _ in range(5000):
        one, other = [one], [other]
    assert len(differences(one, other)) == 1
    assert str(differences(one, 1)[0])


def test_a_missing_value_is_not_none() -> None:
    (one,) = differences({"a": None}, {})
    assert one.recorded is None
    assert one.replayed is NOTHING
