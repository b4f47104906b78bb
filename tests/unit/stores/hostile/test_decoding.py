"""Parts of rows that no livingai wrote are decoded to what was written, or refused as corrupt.

What can be wrong: types, NULLs, short arrays, other shapes of msgpack, bytes that are no text,
numbers out of range, words of a newer version; each with a checksum that is right.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest as sum_of

from livingai import ExecutionNode, NodeType, Status
from livingai.errors import CorruptBlobError, CorruptRecordError, CorruptRowError, LivingAIError
from livingai.protocol.history import pack_history, unpack_history
from livingai.protocol.sections import decode_state
from livingai.serial import pack
from livingai.stores.base import ExecutionInfo, PackedNode
from livingai.stores.checked import execution_line, node_section, rows_of
from livingai.stores.redis.rows import parsing, read_checkpoint
from livingai.testing.rows import make_row

WIRE = make_row("run", 1, output="answer").wire


def tried(what: Callable[[], Any]) -> tuple[Any, str]:
    """What it gives, or the text of its CorruptRecordError."""
    try:
        return what(), ""
    except CorruptRecordError as error:
        return None, str(error)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 65) | st.floats() | st.text(max_size=4)
    | st.binary(max_size=4) | st.sampled_from(["prompt", "success", "archived", "run", "run/1"]),
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)  # fmt: skip


@st.composite
def wires(draw: Any) -> Any:
    """A section with a few fields changed, cut short, made longer, or something else altogether."""
    wire = list(WIRE)
    for _ in range(draw(st.integers(0, 3))):
        wire[draw(st.integers(0, 12))] = draw(values)
    return draw(st.sampled_from([wire, wire[: draw(st.integers(0, 13))], [*wire, 1], draw(values)]))


def _packed(wire: Any) -> bytes:
    try:
        return pack(wire)
    except LivingAIError:
        return b""


@given(wires())
def test_a_wire_is_a_node_or_corrupt(wire: Any) -> None:
    try:
        node = ExecutionNode.from_wire(wire)
    except CorruptRecordError:
        return
    assert isinstance(node.type, NodeType)
    assert isinstance(node.status, Status)
    assert node.idempotent in (True, False)
    assert node.to_wire()[:3] == wire[:3]


@given(st.lists(wires(), max_size=4), st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=3))))
def test_a_history_is_nodes_or_corrupt(parts: list[Any], spoilt: list[tuple[int, bytes]]) -> None:
    packed = []
    for wire in parts:
        try:
            packed.append(pack(wire))
        except LivingAIError:
            packed.append(b"\xc1")
    for index, data in spoilt:
        if index < len(packed):
            packed[index] = data or b"\x90"
    nodes = [PackedNode(wire, 1, n, False, "success") for n, wire in enumerate(packed)]
    history, problem = tried(lambda: unpack_history(pack_history(None, None, nodes), None, "run"))
    assert history is not None or "run" in problem
    if history is not None:
        assert [recorded.node.execution_id for recorded in history.nodes] == ["run"] * len(nodes)


@given(st.one_of(wires().map(_packed), st.binary(max_size=40)))
def test_a_section_is_of_that_node_or_corrupt(packed: bytes) -> None:
    fields, problem = tried(lambda: node_section("run", "run/1", packed))
    if fields is None:
        assert "run/1 of execution run" in problem
    else:
        assert fields[:2] == ["run", "run/1"]
        assert len(fields) >= 13


@given(st.lists(values, min_size=12, max_size=12))
def test_a_line_makes_sense_or_says_that_it_does_not(fields: list[Any]) -> None:
    info = execution_line(ExecutionInfo("run", *fields))
    assert info.execution_id == "run"
    if not info.damage:
        assert [type(value) for value in fields[:5]] == [int] * 5
        assert info.status == fields[7]


@given(st.integers() | values, st.binary(max_size=20))
def test_a_state_decodes_or_is_corrupt(kind: Any, raw: bytes) -> None:
    _, problem = tried(lambda: decode_state(kind, raw))
    assert kind in (0, 1, 2, 3) or "newer" in problem


@given(st.lists(values, max_size=10) | values)
def test_a_checkpoint_in_redis_is_one_or_corrupt(fields: Any) -> None:
    try:
        packed = msgpack.packb(fields, use_bin_type=False, unicode_errors="surrogatepass")
    except (OverflowError, ValueError):
        return
    found, problem = tried(lambda: read_checkpoint("run", sum_of(packed) + packed))
    if found is None:
        assert "run" in problem
    else:
        assert found.raw_bytes >= 0


def test_words_of_a_newer_version_are_reported_as_such() -> None:
    for place, word in ((2, "dream"), (3, "archived")):
        wire = list(WIRE)
        wire[place] = word
        with pytest.raises(CorruptRecordError, match="newer one may have written it: upgrade"):
            ExecutionNode.from_wire(wire)


@pytest.mark.parametrize("inside", [rows_of, parsing])
@pytest.mark.parametrize(
    ("error", "cls"),
    [
        (CorruptRecordError("does not decode"), CorruptRowError),
        (CorruptRecordError("node 1 of run does not decode"), CorruptRowError),
        (CorruptRowError("does not decode"), CorruptRowError),
        (CorruptBlobError("does not decode"), CorruptBlobError),
        (CorruptBlobError("the blob of run does not decode"), CorruptBlobError),
        (ValueError("is no text"), CorruptRowError),
    ],
)
def test_damage_in_rows_is_one_of_the_store_and_names_the_execution(
    inside: Callable[[str], AbstractContextManager[None]], error: Exception, cls: type[Exception]
) -> None:
    with pytest.raises(CorruptRecordError) as caught, inside("run"):
        raise error
    assert type(caught.value) is cls
    assert "run" in str(caught.value)


def test_a_row_with_an_epoch_that_no_store_gives() -> None:
    with pytest.raises(CorruptRowError, match="epoch 4294967296"):
        pack_history(None, None, [PackedNode(pack(WIRE), 1 << 32, 1, False, "success")])
