"""Conformance: retention and accounting. Part of :class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from livingai.errors import ConfigurationError
from livingai.node import NodeField, NodeType, Status
from livingai.stores.base import ExecutionFilter, Store
from livingai.testing.rows import EPOCH_S, commit, contents, listing, make_row, state

_DAY = 86_400.0


class KeepingTests:
    """Listing and dropping checkpoints, owners, filters and costs."""

    # -- checkpoints --

    def test_checkpoints_are_listed_oldest_first(self, store: Store) -> None:
        commit(store, [make_row(seq=3, claim="old", blob=state("3")), make_row(seq=4, claim="old")])
        rows = [
            make_row(seq=1, claim="new", blob=b"", content_hash=b"1" * 16),
            make_row(seq=2, claim="new", node_id="n", blob=b"22", base_hash=b"1" * 16),
        ]
        commit(store, rows)
        found = list(store.checkpoints("run"))
        assert [(c.epoch, c.seq, c.blob) for c in found] == [
            (1, 3, state("3")),
            (2, 1, b""),
            (2, 2, b"22"),
        ]
        last = found[-1]
        assert (last.node_id, last.wire[NodeField.ID], last.state_kind) == ("n", "n", 1)
        assert (last.base_hash, last.content_hash) == (b"1" * 16, rows[1].content_hash)
        assert (last.raw_bytes, last.stored_bytes, last.saved_at) == (2, 2, EPOCH_S + 2)
        light = list(store.checkpoints("run", blobs=False))
        assert [(c.epoch, c.seq, c.stored_bytes) for c in light] == [
            (c.epoch, c.seq, c.stored_bytes) for c in found
        ]
        assert not any(c.blob for c in light)
        assert list(store.checkpoints("other")) == []

    def test_many_checkpoints(self, store: Store) -> None:
        commit(store, [make_row(seq=seq, blob=state(str(seq))) for seq in range(600)])
        for blobs in (True, False):
            found = [c.seq for c in store.checkpoints("run", blobs=blobs)]
            assert found == list(range(600))

    # -- marks --

    def test_marks(self, store: Store) -> None:
        if store.marks() is None:
            pytest.skip("this store keeps no marks")
        assert store.marks() == {}
        store.mark("a", "1")
        store.mark("a", "2", keep=True)
        store.mark("b", "ü, or anything: '%s' {}")
        assert store.marks() == {"a": "1", "b": "ü, or anything: '%s' {}"}
        store.mark("a", "3")
        store.mark("b", None)
        store.mark("c", None)
        store.close()
        assert store.marks() == {"a": "3"}
        commit(store, [make_row()])
        assert [info.execution_id for info in store.list_executions()] == ["run"]

    # -- forget --

    def test_what_is_forgotten_may_come_again(self, store: Store) -> None:
        """Unlike a delete: with the epochs that it had, and an earlier owner's rows, too."""
        rows = [make_row(seq=seq, claim="old", epoch=3, blob=state(str(seq))) for seq in range(3)]
        rows += [make_row(seq=seq, claim="new", epoch=5, blob=state(str(seq))) for seq in (3, 4)]
        commit(store, [*rows, make_row("other", blob=state("o"))])
        before = contents(store)
        if not store.forget("run"):
            assert contents(store) == before
            pytest.skip("this store cannot forget")
        assert set(contents(store)) < set(before)
        assert (store.latest_checkpoint("run"), store.owners("run")) == (None, [])
        assert store.forget("run")
        commit(store, rows)
        assert contents(store) == before

    # -- drop_checkpoints --

    def test_dropped_checkpoint_is_gone_and_its_node_stays(self, store: Store) -> None:
        rows = [make_row(seq=seq, node_id="n", blob=bytes(10 + seq)) for seq in range(3)]
        commit(store, [*rows, make_row(seq=3, blob=b"3")])
        assert store.drop_checkpoints("run", [(1, 0), (1, 2), (1, 7), (2, 1)]) == 10 + 12
        assert [c.seq for c in store.checkpoints("run")] == [1, 3]
        assert listing(store)["run"][:5] == (1, 3, 2, 2, 12)
        found = store.load_node("n")
        assert found is not None
        assert (found.seq, found.blob) == (2, bytes(11)), "its newest state that is left"
        assert store.blob_by_hash("run", rows[0].content_hash or b"") is None
        assert store.drop_checkpoints("run", [(1, 0)]) == 0
        assert store.drop_checkpoints("other", [(1, 1)]) == 0

    def test_all_checkpoints_dropped(self, store: Store) -> None:
        commit(store, [make_row(seq=0, node_id="n", blob=state("0")), make_row(seq=1)])
        assert store.drop_checkpoints("run", [(1, 0)]) == len(state("0"))
        latest, node = store.latest_checkpoint("run"), store.load_node("n")
        assert latest is not None
        assert node is not None
        assert (latest.seq, latest.blob, node.blob) == (1, None, None)
        assert [found.has_state for found in store.nodes("run")] == [True, False]
        assert listing(store)["run"][2:5] == (2, 0, 0)

    def test_space_of_dropped_checkpoints_is_used_again(self, store: Store) -> None:
        def fill(first: int) -> int:
            for seq in range(first, first + 16):
                commit(store, [make_row(seq=seq, blob=bytes([seq]) * (1 << 20))])
            return store.size_bytes()

        once = fill(0)
        store.drop_checkpoints("run", [(1, seq) for seq in range(16)])
        twice = fill(16)
        assert twice < once + (8 << 20), "dropped checkpoints still take their space"

    # -- owners --

    def test_owners(self, store: Store) -> None:
        assert store.owners("run") == []
        commit(store, [make_row(claim="one"), make_row(claim="two")])
        store.claim("run", "three")
        commit(store, [make_row("other", claim="one")])
        assert [tuple(owner) for owner in store.owners("run")] == [
            (1, "one"),
            (2, "two"),
            (3, "three"),
        ]
        store.delete_execution("run")
        commit(store, [make_row(claim="five")])
        assert [tuple(owner) for owner in store.owners("run")][3:] == [(4, None), (5, "five")]

    def test_execution_can_be_copied_with_its_epochs(self, store: Store) -> None:
        """What :mod:`livingai.stores.copying` builds on: epochs brought along stay."""
        rows = [
            make_row("copy", 7, claim="one", epoch=3),
            make_row("copy", 0, claim="two", epoch=9),
        ]
        assert commit(store, rows) == [3, 9]
        before = contents(store)
        assert commit(store, rows) == [3, 9]
        assert contents(store) == before
        assert store.owners("copy") == [(3, "one"), (9, "two")]

    # -- filters --

    @pytest.mark.parametrize(
        ("where", "names"),
        [
            (ExecutionFilter(), "abcd"),
            (ExecutionFilter(statuses=("failed",)), "b"),
            (ExecutionFilter(statuses=("failed", "running")), "bc"),
            (ExecutionFilter(updated_after=EPOCH_S + 11), "cd"),
            (ExecutionFilter(updated_before=EPOCH_S + 11), "a"),
            (ExecutionFilter(updated_after=EPOCH_S + 10, updated_before=EPOCH_S + 12), "b"),
            (ExecutionFilter(metadata={"team": "x"}), "ab"),
            (ExecutionFilter(metadata={"team": "x", "n": 1}), "a"),
            (ExecutionFilter(metadata={"team": "old"}), ""),
            (ExecutionFilter(metadata={"n": "1"}), ""),
            (ExecutionFilter(metadata={"flag": True}), "c"),
            (ExecutionFilter(metadata={"flag": False}), ""),
            (ExecutionFilter(metadata={"ratio": 0.5}), "d"),
            (ExecutionFilter(metadata={"odd 'key\".[0]$": "é\0"}), "d"),
            (ExecutionFilter(metadata={"nested": "{}"}), ""),
            (ExecutionFilter(statuses=("success",), metadata={"team": "x"}), "a"),
        ],
    )
    def test_filters(self, store: Store, where: ExecutionFilter, names: str) -> None:
        details: dict[str, tuple[Status, dict[str, Any]]] = {
            "a": (Status.SUCCESS, {"team": "x", "n": 1}),
            "b": (Status.FAILED, {"team": "x", "n": 2, "flag": None}),
            "c": (Status.RUNNING, {"team": "y", "flag": True}),
            "d": (Status.SUCCESS, {"ratio": 0.5, "odd 'key\".[0]$": "é\0", "nested": {}}),
        }
        for seq, (name, (status, metadata)) in enumerate(details.items()):
            # An older node's metadata does not count.
            old = make_row(name, 0, metadata={"team": "old"}, status=Status.PENDING)
            new = make_row(name, 10 + seq, metadata=metadata, status=status)
            commit(store, [old, new])
        page = store.list_executions(where=where)
        assert [info.execution_id for info in page] == list(names)
        assert store.list_executions(where=where, limit=1) == page[:1]
        assert store.list_executions(where=where, after="b", prefix="c") == [
            info for info in page if info.execution_id == "c"
        ]

    def test_filter_sees_plain_entries_of_large_metadata(self, store: Store) -> None:
        metadata = {"large": "x" * 50_000, "team": "x", "list": [1] * 5000}
        commit(store, [make_row(metadata=metadata)])
        assert store.list_executions(where=ExecutionFilter(metadata={"team": "x"}))
        assert not store.list_executions(where=ExecutionFilter(metadata={"team": "y"}))

    # -- costs --

    def test_costs(self, store: Store) -> None:
        assert store.costs() == []
        named: dict[str, Any] = {"metadata": {"name": "search"}, "latency_ms": 1.5}
        rows = [
            make_row("b", 0, node_id="n", cost_tokens=100, **named),
            make_row("b", 1, node_id="n", cost_tokens=5, **named),
            make_row("a", 0, cost_tokens=7, type=NodeType.TOOL, latency_ms=2.0),
            make_row("a", 1, cost_tokens=1, **named),
        ]
        rows[3].wire[NodeField.CREATED_AT] = EPOCH_S + _DAY
        commit(store, rows)

        def lines(**how: str) -> list[tuple[str, int, int, float]]:
            found = store.costs(**how)
            return [(line.group, line.nodes, line.cost_tokens, line.latency_ms) for line in found]

        assert lines() == [("a", 2, 8, 3.5), ("b", 1, 5, 1.5)]
        assert lines(group="name") == [("search", 2, 6, 3.0), ("tool", 1, 7, 2.0)]
        assert lines(group="day") == [("2023-11-14", 2, 12, 3.5), ("2023-11-15", 1, 1, 1.5)]
        assert lines(prefix="a") == [("a", 2, 8, 3.5)]
        assert lines(group="name", prefix="b") == [("search", 1, 5, 1.5)]
        with pytest.raises(ConfigurationError):
            store.costs(group="no such")

    def test_costs_of_odd_numbers(self, store: Store) -> None:
        row = make_row(latency_ms=math.nan)
        row.wire[NodeField.CREATED_AT] = math.inf
        commit(store, [row])
        for group in ("execution", "name", "day"):
            (line,) = store.costs(group=group)
            assert (line.nodes, line.cost_tokens, line.latency_ms) == (1, 0, 0.0)
            assert isinstance(line.group, str)
