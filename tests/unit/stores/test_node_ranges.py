"""Ranges of nodes: what is one, what it contains, and the slow way to answer it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from livingai import NodeRange
from livingai.errors import ConfigurationError
from livingai.stores.base import Store
from livingai.stores.ranges import MAX_NODES
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, ranged, state

ODD: list[tuple[dict[str, Any], str]] = [
    ({"first": None}, "first must be text"),
    ({"first": "\ud800"}, "first must be text"),
    ({"behind": 7}, "behind must be text"),
    ({"behind": "\udfff"}, "behind must be text"),
    ({"limit": 0}, "limit must be an integer from 1 to 10000"),
    ({"limit": 10_001}, "limit must be"),
    ({"limit": True}, "limit must be"),
    ({"limit": 1.0}, "limit must be"),
    ({"after": 1}, r"after must be \(epoch, seq\)"),
    ({"after": [1, 2]}, "after must be"),
    ({"after": (1, 2, 3)}, "after must be"),
    ({"upto": (1, -2)}, "upto must be"),
    ({"upto": (1, True)}, "upto must be"),
    ({"upto": (1, 2.0)}, "upto must be"),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "agent.db") as store:
        yield store


@pytest.mark.parametrize(("fields", "says"), ODD)
def test_a_part_that_makes_no_sense(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        NodeRange(**fields)


@pytest.mark.parametrize("limit", [1, MAX_NODES])
def test_limits_that_are_taken(limit: int) -> None:
    assert NodeRange(limit=limit).limit == limit


ASKED = [
    NodeRange(),
    NodeRange("a\0", "\U0010ffff", 1, True, False, (-1, -1), (1 << 62, 0)),
    NodeRange("é", after=(1, 2)),
    NodeRange(behind="b", upto=(3, 4)),
]


@pytest.mark.parametrize("asked", ASKED)
def test_a_range_comes_back_from_the_wire(asked: NodeRange) -> None:
    sent = msgpack.unpackb(msgpack.packb(asked.to_wire()))
    assert NodeRange.from_wire(sent) == asked


@pytest.mark.parametrize(
    "wire",
    [None, 7, "range", [], ["", None, 1, False, True, None], ["", None, 1, 0, 1] + [None] * 3,
     ["", None, 0, False, True, None, None], ["", None, 1, False, True, [1], None],
     ["", None, 1, False, True, None, ["1", 2]], [b"", None, 1, False, True, None, None]],
)  # fmt: skip
def test_what_is_no_range_is_refused(wire: Any) -> None:
    with pytest.raises(ConfigurationError):
        NodeRange.from_wire(wire)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_rest_begins_right_behind_the_last_node(backwards: bool) -> None:
    asked = NodeRange("a", "c", 2, backwards, False, (1, 1), (2, 2))
    rest = asked.rest("b")
    ids = ["", "a", "a\0", "az", "b", "b\0", "b\0\0", "bz", "c"]
    inside = [one for one in ids if rest.has(one, (1, 2))]
    assert inside == (["a", "a\0", "az"] if backwards else ["b\0", "b\0\0", "bz"])
    assert (rest.limit, rest.backwards, rest.states, rest.after, rest.upto) == (
        2, backwards, False, (1, 1), (2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("asked", [
    NodeRange(), NodeRange("b", "d"), NodeRange(limit=2, backwards=True), NodeRange(states=False),
    NodeRange(after=(1, 0), upto=(1, 2)),
])  # fmt: skip
def test_a_store_without_an_index_answers_the_same(store: SQLiteStore, asked: NodeRange) -> None:
    """The contract's own way: it looks at all nodes of the execution."""
    names = ["c", "a", "d", "b"]
    commit(store, [
        make_row(seq=seq, node_id=name, blob=state(name) if seq % 2 else None)
        for seq, name in enumerate(names)
    ])  # fmt: skip
    assert ranged(Store.nodes_between(store, "run", asked)) == ranged(
        store.nodes_between("run", asked)
    )
