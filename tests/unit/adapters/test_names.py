"""Ids that adapters make: different parts, different ids; readable, short enough, and in order."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livingai.adapters.names import MAX_PART, behind_prefix, execution_name, part_name

#: What frameworks may take for an id: also lone surrogates and NUL.
PARTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("thread-7", "thread-7"),
        ("me@example.org", "me@example.org"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("a:b", "a%3Ab"),
        ("\0", "%00"),
        ("ä", "%C3%A4"),
        ("\ud800", "%ED%A0%80"),
        ("", ""),
    ],
)
def test_a_part_stays_readable(part: str, name: str) -> None:
    assert part_name(part) == name
    assert execution_name("crewai", part, "x") == f"crewai:{name}/x"


@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(PARTS, min_size=1, max_size=3))
@example(["a", "b"], ["a/b"])
@example(["x" * 200], ["x" * 201])
@example(["%" * 100], ["%" * 101])
def test_different_parts_give_different_ids(one: list[str], other: list[str]) -> None:
    assert (execution_name("f", *one) == execution_name("f", *other)) == (one == other)


@given(PARTS)
def test_a_part_is_short_ascii_without_a_separator(part: str) -> None:
    name = part_name(part)
    assert len(name) <= MAX_PART
    assert name.isascii()
    assert "/" not in name
    assert ":" not in name


def test_a_long_part_is_no_short_one() -> None:
    """What a long part is shortened to is a part of its own, too."""
    shortened = part_name("x" * 500)
    assert part_name(shortened) != shortened


@given(st.sampled_from(["log:a/", "log:a/e-", "~"]), PARTS, PARTS)
def test_the_end_of_a_prefix(prefix: str, rest: str, other: str) -> None:
    end = behind_prefix(prefix)
    assert prefix + rest < end
    assert (prefix <= other < end) == other.startswith(prefix)
