"""Conformance: the removal of single nodes, alone and beside commits. Part of
:class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

from livingai.node import NodeField, Status
from livingai.stores.base import DroppedNodes, NodeRange, Store
from livingai.testing.racing import at_once, patiently, taken
from livingai.testing.ranging import EVERYTHING, delta, ids
from livingai.testing.rows import BASE_MISSING, STORED, commit, contents, listing, make_row, state
from livingai.testing.standing import life


def check_counts(store: Store) -> None:
    """The line of each execution counts what is there, and no state lacks its base."""
    for name, line in listing(store).items():
        states = list(store.checkpoints(name))
        assert line[2] == len(list(store.nodes(name))) == len(ids(store, EVERYTHING, name))
        assert line[3:5] == (len(states), sum(len(one.blob or b"") for one in states))
        for one in states:
            base = one.base_hash
            assert base is None or store.blob_by_hash(name, base) is not None, "its base is gone"


class DroppingTests:
    """Nodes that go, and those that cannot."""

    def make_store(self, tmp_path: Path) -> Store:
        """See :class:`~livingai.testing.StoreConformance`."""
        raise NotImplementedError

    def test_dropped_nodes_are_gone_with_all_they_had(self, store: Store) -> None:
        rows = [
            make_row(seq=0, node_id="a", blob=bytes(10), cost_tokens=1),
            make_row(seq=1, node_id="a", blob=bytes(11), cost_tokens=2),
            make_row(seq=2, node_id="b", cost_tokens=4),
            make_row(seq=3, node_id="c", blob=bytes(13), cost_tokens=8),
            make_row(seq=4, node_id="d", blob=bytes(14), cost_tokens=16),
        ]
        twin = make_row("twin", 0, node_id="a", blob=state("twin"))
        commit(store, [*rows, twin])
        assert store.drop_nodes("run", ["a", "b"]) == DroppedNodes(2, 21, ())
        assert listing(store)["run"][:5] == (1, 4, 2, 2, 27)
        assert [node.wire[NodeField.ID] for node in store.nodes("run")] == ["c", "d"]
        assert ids(store, NodeRange()) == ["c", "d"]
        assert [c.seq for c in store.checkpoints("run")] == [3, 4]
        assert store.blob_by_hash("run", rows[1].content_hash or b"") is None
        assert [(line.nodes, line.cost_tokens) for line in store.costs()] == [(2, 24), (1, 0)]
        found = store.load_node("a")
        assert found is not None
        assert (found.wire[NodeField.EXECUTION_ID], found.blob) == ("twin", state("twin"))
        assert store.load_node("b") is None
        check_counts(store)

    def test_nodes_that_cannot_go_are_kept(self, store: Store) -> None:
        commit(store, [
            life(0, Status.RUNNING), delta(1, None, node_id="base"), delta(2, 1, node_id="delta"),
            delta(3, 2, node_id="middle"), life(4, Status.FAILED),
            delta(5, 3, node_id="newest state"), delta(6, None, node_id="away"),
            delta(7, 5, node_id="last state"), make_row(seq=8, node_id="away"),
            make_row(seq=9, node_id="newest"),
        ])  # fmt: skip
        before = contents(store)
        kept = ("base", "delta", "last state", "life", "middle", "newest", "newest state")
        assert store.drop_nodes("run", kept) == DroppedNodes(0, 0, kept)
        assert contents(store) == before
        assert store.drop_nodes("run", [*kept, "away"]) == DroppedNodes(1, 3, kept)
        assert listing(store)["run"][7:9] == ("failed", True)
        # What nobody builds on any more goes, all of it at once.
        commit(store, [delta(10, None, node_id="full"), life(11, Status.SUCCESS, node_id="second")])
        assert store.drop_nodes("run", [*kept, "full"]) == DroppedNodes(7, 15, ("full",))
        assert ids(store, NodeRange()) == ["full", "second"]
        assert listing(store)["run"][7:9] == ("success", True)
        check_counts(store)

    def test_dropping_again_and_what_is_not_there(self, store: Store) -> None:
        nothing = DroppedNodes(0, 0, ())
        assert store.drop_nodes("unknown", ["a"]) == nothing
        commit(store, [make_row(seq=seq, node_id=name) for seq, name in enumerate("abcd")])
        before = contents(store)
        assert store.drop_nodes("run", []) == store.drop_nodes("run", ["x", "", "\0"]) == nothing
        assert store.drop_nodes("unknown", ["a"]) == nothing
        assert contents(store) == before
        assert store.drop_nodes("run", ["b", "x", "b", "d"]) == DroppedNodes(1, 0, ("d",))
        before = contents(store)
        assert store.drop_nodes("run", ["b", "x"]) == nothing
        assert contents(store) == before
        store.delete_execution("run")
        assert store.drop_nodes("run", ["a"]) == nothing

    def test_what_was_dropped_is_noted_up_to_its_newest_save(
        self, store: Store, tmp_path: Path
    ) -> None:
        commit(store, [make_row(seq=seq, node_id=name) for seq, name in enumerate("abcab")])
        commit(store, [make_row("other", 0), make_row("other", 1)])
        assert store.dropped_upto("run") is store.dropped_upto("unknown") is None
        assert store.drop_nodes("run", ["b", "x"]).kept == ("b",), "it was saved last"
        assert store.dropped_upto("run") is None
        expected = (("c", (1, 2)), ("a", (1, 3)))
        for name, upto in expected:
            assert store.drop_nodes("run", [name]).nodes == 1
            assert store.dropped_upto("run") == upto
        commit(store, [make_row(seq=0, claim="next", node_id=name) for name in "d"])
        commit(store, [make_row(seq=1, claim="next", node_id="e")])
        assert store.drop_nodes("run", ["d"]).nodes == 1
        with self.make_store(tmp_path) as other:
            assert other.dropped_upto("run") == (2, 0)
            assert other.dropped_upto("other") is None
        assert store.drop_nodes("run", ["b"]).nodes == 1
        assert store.dropped_upto("run") == (2, 0), "an older one goes later"
        store.delete_execution("run")
        assert store.dropped_upto("run") is None

    def test_an_empty_state_is_dropped(self, store: Store) -> None:
        for claim in "xy":
            commit(store, [make_row(seq=seq, claim=claim, node_id=f"{claim}{seq}", blob=b"")
                           for seq in range(3)])  # fmt: skip
            assert store.drop_checkpoints("run", [(1, 0)]) == 0
            assert store.drop_nodes("run", [f"{claim}1"]) == DroppedNodes(1, 0, ())
            check_counts(store)

    def test_nothing_builds_on_a_dropped_state(self, store: Store) -> None:
        commit(store, [delta(0, None), delta(1, None, node_id="a"), delta(2, None, node_id="b")])
        assert store.drop_nodes("run", ["a", "b"]) == DroppedNodes(1, 3, ("b",))
        commit(store, [delta(3, 1)], BASE_MISSING)
        commit(store, [delta(3, 2)])
        check_counts(store)

    def test_a_dropped_node_may_be_saved_again(self, store: Store) -> None:
        rows = [delta(seq, None, node_id=name) for seq, name in enumerate("abc")]
        commit(store, rows)
        assert store.drop_nodes("run", ["a", "b"]).nodes == 2
        commit(store, [delta(7, None, node_id="a"), delta(8, 7)])
        found = store.nodes_between("run", NodeRange())
        firsts = {one.node_id: tuple(one.first) for one in found}
        assert firsts == {"a": (1, 7), "c": (1, 2), "run/8": (1, 8)}
        commit(store, rows)  # as if their journal had been read again
        found = store.nodes_between("run", NodeRange(behind="c"))
        assert [(one.seq, one.first[1], one.blob) for one in found] == [
            (7, 0, state("7 ")), (1, 1, state("1 ")),
        ]  # fmt: skip
        check_counts(store)

    def test_a_content_that_stays_elsewhere_is_found(self, store: Store) -> None:
        """The one that answered goes; a delta keeps the one that answers."""
        same: dict[str, Any] = {"content_hash": b"s" * 16}
        commit(store, [
            make_row(seq=0, node_id="a", blob=b"full 0", **same), delta(1, None, node_id="b"),
            make_row(seq=2, node_id="c", blob=b"delta", base_hash=b"%16d" % 1, **same),
            make_row(seq=3, node_id="d", blob=b"full 3", **same), delta(4, None, node_id="e"),
        ])  # fmt: skip
        for going, answer in (("a", b"full 3"), ("d", b"delta"), ("c", None)):
            assert store.drop_nodes("run", [going]).nodes == 1
            assert store.blob_by_hash("run", b"s" * 16) == answer
            check_counts(store)

    def test_many_nodes_go_at_once(self, store: Store) -> None:
        names = [f"{number:05d}" for number in range(6000)]
        rows = [make_row(seq=seq, node_id=name) for seq, name in enumerate(names[:4500])]
        rows += [
            delta(seq, seq - 1 if seq % 50 else None, node_id=names[seq])
            for seq in range(4500, 6000)
        ]
        for at in range(0, len(rows), 500):
            commit(store, rows[at : at + 500])
        dropped = store.drop_nodes("run", names[100:-20])
        assert (dropped.nodes, dropped.kept) == (5850, tuple(names[5950:-20]))
        assert ids(store, EVERYTHING) == names[:100] + names[5950:]
        assert listing(store)["run"][:4] == (1, 5999, 150, 50)
        check_counts(store)

    def test_dropping_under_writes_takes_nothing_that_is_needed(
        self, store: Store, tmp_path: Path
    ) -> None:
        """Of three states the first goes unless a delta builds on it, which comes four later; a
        writer that is told that its base is missing sends the state in full."""
        done = threading.Event()
        gone: list[str] = []

        def writes() -> list[int]:
            told = []
            for seq in range(150):
                base = seq - 4 if seq % 3 == 1 and seq > 3 else None
                (result,) = taken(store, [delta(seq, base, node_id=f"{seq:03d}")])
                if result.status == BASE_MISSING:
                    (result,) = taken(store, [delta(seq, None, node_id=f"{seq:03d}")])
                told.append(int(result.status))
            done.set()
            return told

        def drops(other: Store) -> list[int]:
            while True:
                last = done.is_set()
                there = [name for name in ids(other, EVERYTHING) if int(name) % 3 == 0]
                dropped: DroppedNodes = patiently(partial(other.drop_nodes, "run", there))
                gone.extend(set(there) - set(dropped.kept))
                assert len(dropped.kept) + dropped.nodes == len(there)
                if last and not dropped.nodes:
                    return []

        with self.make_store(tmp_path) as other:
            assert at_once(writes, lambda: drops(other)) == [STORED] * 150
        left = ids(store, EVERYTHING)
        assert sorted([*left, *gone]) == [f"{seq:03d}" for seq in range(150)]
        assert len(set(gone)) == len(gone)
        check_counts(store)
