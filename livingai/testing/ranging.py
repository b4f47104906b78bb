"""Conformance: ranges of nodes. Part of :class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import itertools
from typing import Any, Final

import pytest

from livingai.node import NodeField, Status
from livingai.stores.base import NodeRange, Row, Store, StoredCheckpoint
from livingai.stores.ranges import MAX_NODES, Version
from livingai.testing.rows import commit, make_row, state

#: All nodes of an execution.
EVERYTHING: Final = NodeRange(limit=MAX_NODES, states=False)
#: In order of code point, which is neither that of UTF-16 nor that of any language.
_IDS = (
    "\0", "!", "A", "Z", "a", "a\0", "a\0b", "a!", "a:b", "aa", "a\x7f", "b%_'\"\\", "c", "i:a",
    "n", "n\uffff", "n\U00010000", "z", "\x80", "é", "\ud7ff", "\ue000", "\uffff", "\U00010000",
    "\U0010ffff",
)  # fmt: skip


def ids(store: Store, asked: NodeRange, execution_id: str = "run") -> list[str]:
    """The ids of a range's nodes, whose sections name them, too."""
    found = store.nodes_between(execution_id, asked)
    assert [one.wire[NodeField.ID] for one in found] == [one.node_id for one in found]
    assert {one.wire[NodeField.EXECUTION_ID] for one in found} <= {execution_id}
    return [one.node_id for one in found]


def delta(seq: int, base: int | None, **fields: Any) -> Row:
    """A row with the state of number ``seq``, a delta on that of number ``base``."""
    base_hash = None if base is None else b"%16d" % base
    fields = {"blob": state(f"{seq} "), "content_hash": b"%16d" % seq, **fields}
    return make_row(seq=seq, base_hash=base_hash, **fields)


class RangingTests:
    """Pages of nodes by id."""

    def test_ranges_are_in_order_of_code_point(self, store: Store) -> None:
        order = sorted(range(len(_IDS)), key=lambda number: number * 7 % len(_IDS))
        commit(store, [make_row(seq=seq, node_id=_IDS[at]) for seq, at in enumerate(order)])
        ends = ["", *_IDS[::2], "a\0\0", "~"]
        for first, behind in itertools.product(ends, [None, *ends]):
            inside = [one for one in _IDS if first <= one and (behind is None or one < behind)]
            assert ids(store, NodeRange(first, behind)) == inside
            assert ids(store, NodeRange(first, behind, backwards=True)) == inside[::-1]
            assert ids(store, NodeRange(first, behind, 3)) == inside[:3]
            assert ids(store, NodeRange(first, behind, 2, backwards=True)) == inside[::-1][:2]

    @pytest.mark.parametrize("backwards", [False, True])
    @pytest.mark.parametrize("limit", [1, 2, 7])
    def test_pages_of_a_range(self, store: Store, limit: int, backwards: bool) -> None:
        commit(store, [make_row(seq=seq, node_id=name) for seq, name in enumerate(_IDS)])
        asked, paged = NodeRange("!", "\uffff", limit, backwards), []
        while page := ids(store, asked):
            assert len(page) <= limit
            paged += page
            asked = asked.rest(page[-1])
        inside = [one for one in _IDS if "!" <= one < "\uffff"]
        assert paged == (inside[::-1] if backwards else inside)

    def test_many_nodes_and_large_ones_in_one_page(self, store: Store) -> None:
        names = [f"{number:04d}" for number in range(2500)]
        rows = [make_row("many", seq, node_id=name) for seq, name in enumerate(names)]
        for at in range(0, len(rows), 500):
            commit(store, rows[at : at + 500])
        assert ids(store, EVERYTHING, "many") == names
        assert ids(store, NodeRange(limit=2000, backwards=True), "many") == names[:-2001:-1]
        rows = [make_row(seq=seq, node_id=names[seq], blob=bytes(700_000)) for seq in range(14)]
        for row in rows:
            commit(store, [row])
        found = store.nodes_between("run", NodeRange(names[1], names[13]))
        assert [one.node_id for one in found] == names[1:13]
        assert {one.blob for one in found} == {bytes(700_000)}

    def test_window_of_first_versions(self, store: Store) -> None:
        """A node's first save counts, the one with the lowest version, whichever came first."""
        rows = [make_row(seq=seq, node_id=name, claim="a") for seq, name in enumerate("dabc", 9)]
        rows += [make_row(seq=seq, node_id=name, claim="b") for seq, name in enumerate("axc")]
        for row in [*rows, make_row(seq=100, node_id="y", claim="b")]:
            commit(store, [row])
        commit(store, [make_row(seq=50, node_id="y", claim="b")])
        first: dict[str, Version] = {
            "a": (1, 10), "b": (1, 11), "c": (1, 12), "d": (1, 9), "x": (2, 1), "y": (2, 50),
        }  # fmt: skip
        found = store.nodes_between("run", NodeRange())
        assert {one.node_id: tuple(one.first) for one in found} == first
        assert [(one.epoch, one.seq) for one in found][-1] == (2, 100)
        edges = [None, *first.values(), (-1, -1), (0, 5), (1, -1), (2, 0), (2, 99), (3, -1)]
        for after, upto in itertools.product(edges, edges):
            asked = NodeRange(after=after, upto=upto)
            inside = [name for name, version in first.items() if asked.has(name, version)]
            assert ids(store, asked) == inside
            last = NodeRange("b", "y", 2, True, False, after, upto)
            assert ids(store, last) == [one for one in inside[::-1] if "b" <= one < "y"][:2]

    def test_nodes_come_with_their_newest_state_that_is_left(self, store: Store) -> None:
        rows = [
            delta(0, None, node_id="a", output="old"), delta(1, 0, node_id="b"),
            delta(2, None, node_id="c"), delta(3, 1, node_id="a", status=Status.RUNNING),
            make_row(seq=4, node_id="d"), make_row(seq=5, node_id="a", output="new"),
            delta(6, None, node_id="e"),
        ]  # fmt: skip
        commit(store, rows)

        def found(*, states: bool = True) -> dict[str, tuple[Any, ...]]:
            return {one.node_id: brief(one) for one in
                    store.nodes_between("run", NodeRange(states=states))}  # fmt: skip

        told: dict[str, tuple[Any, ...]] = {
            "a": (5, "new", state("3 "), 1, b"%16d" % 3),
            "b": (1, None, state("1 "), 1, b"%16d" % 1),
            "c": (2, None, state("2 "), 1, b"%16d" % 2), "d": (4, None, None, 0, None),
            "e": (6, None, state("6 "), 1, b"%16d" % 6),
        }  # fmt: skip
        assert found() == told
        store.drop_checkpoints("run", [(1, 3), (1, 2)])
        told["a"] = (5, "new", state("0 "), 1, b"%16d" % 0)
        told["c"] = (2, None, None, 0, None)
        assert found() == told
        for name, (seq, output, *_) in told.items():
            assert found(states=False)[name] == (seq, output, None, 0, None)

    def test_ranges_of_one_execution_only(self, store: Store) -> None:
        commit(store, [make_row("run", 0, node_id="n", blob=state("run"))])
        commit(store, [make_row("rum", 9, node_id="n", blob=state("rum")), make_row("rum", 10)])
        (found,) = store.nodes_between("run", NodeRange())
        assert (found.blob, found.seq, found.wire[NodeField.EXECUTION_ID]) == (
            state("run"),
            0,
            "run",
        )
        assert ids(store, NodeRange("n", "o"), "rum") == ["n"]
        assert store.nodes_between("unknown", NodeRange()) == []
        store.delete_execution("run")
        assert store.nodes_between("run", NodeRange()) == []
        commit(store, [make_row(seq=3, node_id="m", claim="new")])
        assert ids(store, NodeRange()) == ["m"]
        assert ids(store, NodeRange(), "rum") == ["n", "rum/10"]


def brief(found: StoredCheckpoint) -> tuple[Any, ...]:
    """What a range says of a node, besides its id and its first version."""
    return (
        found.seq, found.wire[NodeField.OUTPUT], found.blob, found.state_kind, found.content_hash,
    )  # fmt: skip
