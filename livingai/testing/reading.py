"""Conformance: what the read methods answer. Part of
:class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from livingai.node import ErrorInfo, ExecutionNode, NodeField, NodeType, Status
from livingai.serial import pack
from livingai.stores.base import Store
from livingai.testing.rows import commit, listing, make_row, state

VALUES: dict[str, Any] = {
    "none": None,
    "NUL": "a\0b\0",
    "lone surrogates": "\ud800 \udfff",
    "not a number": [math.nan, math.inf, -math.inf, -0.0],
    "huge integers": [1 << 63, -(1 << 200), 1 << 20_000],
    "bytes": bytes(range(256)),
    "any text": "ünï 漢字 \U0001f600 \x7f ' \" \\ % _ $1 ; --",
    "mixed keys": {2: "int", "2": "str", b"\0": None, None: 1, True: False},
    "a tuple": {"t": (1, (2, 3))},
    "nested": [[[[{"deep": [[[[]]]]}]]]],
    "large": {"text": "x" * 200_000},
}


class ReadingTests:
    """Reads, one by one, and what survives a round trip."""

    def test_what_is_not_there(self, store: Store) -> None:
        commit(store, [make_row("there", blob=state("s"), content_hash=b"1" * 16)])
        assert store.latest_checkpoint("not there") is None
        assert store.load_node("not there") is None
        assert list(store.nodes("not there")) == []
        assert store.blob_by_hash("not there", b"1" * 16) is None
        assert store.blob_by_hash("there", b"2" * 16) is None
        assert store.list_executions(prefix="not there") == []
        assert store.list_executions(after="there") == []

    # -- latest_checkpoint --

    def test_latest_without_any_state_is_the_newest_node(self, store: Store) -> None:
        commit(store, [make_row(seq=0), make_row(seq=1, node_id="n"), make_row(seq=2, node_id="m")])
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert (latest.wire[NodeField.ID], latest.epoch, latest.seq) == ("m", 1, 2)
        assert (latest.blob, latest.state_kind) == (None, 0)

    def test_latest_is_the_newest_write_with_a_state(self, store: Store) -> None:
        commit(store, [make_row(seq=0, blob=state("0")), make_row(seq=1, blob=state("1"))])
        commit(store, [make_row(seq=2), make_row(seq=3)])
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert (latest.wire[NodeField.ID], latest.seq, latest.blob) == ("run/1", 1, state("1"))
        assert latest.state_kind == 1

    def test_latest_has_the_newest_version_of_its_node(self, store: Store) -> None:
        running = make_row(seq=0, node_id="n", status=Status.RUNNING, blob=state("s"))
        commit(store, [running, make_row(seq=1, node_id="n", status=Status.SUCCESS)])
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert (latest.seq, latest.blob, latest.wire[NodeField.STATUS]) == (
            0,
            state("s"),
            "success",
        )

    def test_empty_blob_is_a_state(self, store: Store) -> None:
        commit(store, [make_row(blob=b"")])
        latest, node = store.latest_checkpoint("run"), store.load_node("run/0")
        assert latest is not None
        assert node is not None
        assert latest.blob == node.blob == b""
        assert listing(store)["run"][3:5] == (1, 0)

    @pytest.mark.parametrize("kind", [1, 2, 3, 200])
    def test_state_kind_comes_back(self, store: Store, kind: int) -> None:
        row = make_row(blob=state("s"))
        row.state_kind = kind
        commit(store, [row])
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert latest.state_kind == kind

    # -- load_node, nodes --

    def test_load_node_joins_newest_version_and_newest_state(self, store: Store) -> None:
        commit(store, [make_row(seq=0, node_id="n", blob=state("0"), output=0)])
        commit(store, [make_row(seq=1, node_id="n", blob=state("1"), output=1)])
        commit(store, [make_row(seq=2, node_id="n", output=2), make_row(seq=3, node_id="m")])
        found = store.load_node("n")
        assert found is not None
        assert (found.wire[NodeField.OUTPUT], found.epoch, found.seq, found.blob) == (
            2,
            1,
            2,
            state("1"),
        )

    def test_executions_may_share_a_node_id(self, store: Store) -> None:
        commit(store, [make_row("x", 0, node_id="n", output="x", blob=state("x"))])
        commit(store, [make_row("y", 5, node_id="n", output="y")])
        for name in "xy":
            (node,) = store.nodes(name)
            assert (node.wire[NodeField.EXECUTION_ID], node.wire[NodeField.OUTPUT]) == (name, name)
        found = store.load_node("n")  # the one saved last
        assert found is not None
        assert (found.wire[NodeField.EXECUTION_ID], found.blob) == ("y", None)
        assert store.delete_execution("y") == 1
        found = store.load_node("n")
        assert found is not None
        assert (found.wire[NodeField.EXECUTION_ID], found.blob) == ("x", state("x"))

    def test_nodes_come_in_order_of_their_first_save(self, store: Store) -> None:
        rows = [make_row(seq=seq, node_id=name) for seq, name in enumerate("zyxzaby")]
        commit(store, rows)
        commit(store, [make_row(seq=0, claim="next", node_id="a", blob=state("a"))])
        found = [
            (node.wire[NodeField.ID], node.epoch, node.seq, node.has_state)
            for node in store.nodes("run")
        ]
        assert found == [
            ("z", 1, 3, False),
            ("y", 1, 6, False),
            ("x", 1, 2, False),
            ("a", 2, 0, True),
            ("b", 1, 5, False),
        ]

    def test_packed_nodes_are_the_nodes_packed(self, store: Store) -> None:
        rows = [make_row(seq=seq, output=value) for seq, value in enumerate(VALUES.values())]
        commit(store, [*rows, make_row(seq=100, node_id="run/3", blob=state("s"))])
        assert list(store.packed_nodes("run")) == [
            (pack(node.wire), node.epoch, node.seq, node.has_state, node.wire[NodeField.STATUS])
            for node in store.nodes("run")
        ]
        assert list(store.packed_nodes("not there")) == []

    def test_many_nodes_and_writes_while_they_are_listed(self, store: Store) -> None:
        commit(store, [make_row(seq=seq) for seq in range(700)])
        listed = store.nodes("run")
        first = next(listed).wire[NodeField.ID]
        commit(store, [make_row(seq=700 + seq, node_id=f"run/{seq}") for seq in range(700)])
        ids = [first, *(node.wire[NodeField.ID] for node in listed)]
        assert ids == [f"run/{seq}" for seq in range(700)]

    # -- blob_by_hash --

    def test_blob_by_hash(self, store: Store) -> None:
        one, two = b"1" * 16, b"2" * 16
        commit(store, [make_row("x", 0, blob=state("full"), content_hash=one)])
        commit(store, [make_row("x", 1, blob=state("d"), content_hash=two, base_hash=one)])
        assert store.blob_by_hash("x", one) == state("full")
        assert store.blob_by_hash("x", two) == state("d")
        assert store.blob_by_hash("y", one) is None, "another execution's checkpoint"

    def test_blob_by_hash_never_leads_in_a_circle(self, store: Store) -> None:
        one, two, three = b"1" * 16, b"2" * 16, b"3" * 16
        chain = [(one, None), (two, one), (one, two), (three, two), (two, three)]
        for seq, (content, base) in enumerate(chain):
            row = make_row(seq=seq, blob=b"%d" % seq, content_hash=content, base_hash=base)
            commit(store, [row])
        assert store.blob_by_hash("run", one) == b"0"
        assert store.blob_by_hash("run", two) == b"1"
        commit(store, [make_row(seq=9, blob=b"9", content_hash=two)])
        assert store.blob_by_hash("run", two) == b"9", "a full checkpoint saves its chain"

    # -- list_executions, size --

    def test_line_of_an_execution(self, store: Store) -> None:
        commit(store, [make_row(seq=3, node_id="n", blob=b"12345", status=Status.RUNNING)])
        commit(store, [make_row(seq=4, node_id="n", blob=b"678", status=Status.FAILED)])
        commit(store, [make_row(seq=5, node_id="m", claim="next", status=Status.PENDING)])
        (info,) = store.list_executions()
        assert (info.execution_id, info.epoch, info.seq, info.status) == ("run", 2, 5, "pending")
        assert (info.nodes, info.checkpoints, info.stored_bytes) == (2, 2, 8)
        assert info.created_at == make_row(seq=3).saved_at
        assert info.updated_at == make_row(seq=5).saved_at

    def test_pages(self, store: Store) -> None:
        names = sorted(f"run-{number:03}" for number in range(57))
        commit(store, [make_row(name) for name in reversed(names)])
        found: list[str] = []
        while page := store.list_executions(after=found[-1] if found else None, limit=10):
            assert len(page) == min(10, 57 - len(found))
            found += [info.execution_id for info in page]
        assert found == names
        assert [info.execution_id for info in store.list_executions(after="run-0499")] == names[50:]
        assert store.list_executions(limit=0) == []

    def test_order_and_prefixes_are_by_code_point(self, store: Store) -> None:
        names = [
            "a",
            "a b",
            "a%",
            "a%b",
            "a*",
            "a_",
            "a[b]",
            "A",
            "Z",
            "z",
            "é",
            "漢",
            "\U0001f600",
        ]
        names += ["\uffff", "a\0", "a\0b", "a\\", "ab", "\U0010ffff", "\U0010ffffx"]
        commit(store, [make_row(name) for name in names])
        names.sort()
        assert [info.execution_id for info in store.list_executions()] == names
        for prefix in [*names, "a\0b\0", "\ud7ff", "no"]:
            page = store.list_executions(prefix=prefix)
            assert [info.execution_id for info in page] == [
                name for name in names if name.startswith(prefix)
            ]
        page = store.list_executions(prefix="a", after="a%", limit=2)
        assert [info.execution_id for info in page] == ["a%b", "a*"]

    def test_size_grows(self, store: Store) -> None:
        before = store.size_bytes()
        commit(store, [make_row(seq=seq, blob=bytes([seq]) * 300_000) for seq in range(10)])
        assert store.size_bytes() > before

    # -- round trips --

    @pytest.mark.parametrize("what", VALUES)
    def test_value_comes_back(self, store: Store, what: str) -> None:
        value = VALUES[what]
        row = make_row(input=value, output=[value], metadata={"name": what, "value": value})
        commit(store, [row])
        found = store.load_node("run/0")
        assert found is not None
        assert pack(found.wire) == pack(row.wire)

    def test_whole_node_comes_back(self, store: Store) -> None:
        error = ErrorInfo("ValueError", "bad \0 \ud800", "Traceback ...", retryable=True)
        row = make_row(
            type=NodeType.TOOL, status=Status.FAILED, error=error, parent_id="parent",
            cost_tokens=3, latency_ms=1.5, completed_at=5.0,
        )  # fmt: skip
        commit(store, [row])
        found = store.load_node("run/0")
        assert found is not None
        node = ExecutionNode.from_wire(found.wire)
        assert node.to_wire() == row.wire
        assert node.error == error

    @pytest.mark.parametrize(
        "fields", [{"cost_tokens": 1 << 70}, {"latency_ms": math.nan}, {"completed_at": math.inf}]
    )
    def test_odd_numbers_come_back(self, store: Store, fields: dict[str, Any]) -> None:
        row = make_row(**fields)
        commit(store, [row])
        (node,) = store.nodes("run")
        assert pack(node.wire) == pack(row.wire)

    @pytest.mark.parametrize(
        "name", ["a\0b", "漢字", "x" * 512, " ", "'; DROP TABLE nodes; --", "{a}"]
    )
    def test_any_text_is_an_id(self, store: Store, name: str) -> None:
        commit(store, [make_row(name, node_id=f"{name}/n", claim=name, blob=state(name))])
        latest, node = store.latest_checkpoint(name), store.load_node(f"{name}/n")
        assert latest is not None
        assert node is not None
        assert latest.wire[:2] == node.wire[:2] == [name, f"{name}/n"]
        assert list(listing(store)) == [name]
        assert store.delete_execution(name) == 1

    def test_large_blobs(self, store: Store) -> None:
        blob = bytes(range(256)) * (8 << 12)  # 8 MB, every byte value
        commit(store, [make_row(seq=0, blob=blob), make_row(seq=1, blob=state("small"))])
        commit(store, [make_row("b", blob=blob[::-1])])
        first, second = store.load_node("run/0"), store.latest_checkpoint("b")
        assert first is not None
        assert second is not None
        assert first.blob == blob
        assert second.blob == blob[::-1]
