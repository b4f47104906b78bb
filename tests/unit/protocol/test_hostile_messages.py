"""Whatever comes over a connection, what reads it gives a typed value or a typed error."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livingai import ExecutionNode, serial
from livingai.errors import ConfigurationError, LivingAIError, ServiceError, StoreError
from livingai.protocol import verbs
from livingai.protocol.error_parts import error_from_parts
from livingai.protocol.executions import filter_from_wire
from livingai.protocol.frames import LENGTH, FrameBuffer, frame, parse, revision_of
from livingai.protocol.history import unpack_history
from livingai.protocol.sections import decode_checkpoint
from livingai.protocol.verbs import INTERNAL, VERBS, Verb

SECTION = serial.pack(ExecutionNode("run").to_wire())
#: Its ids are integers of more digits than Python shows.
HUGE_IDS = serial.pack([10**5000] * 13)
#: Of a status that a newer version has: the message names node and execution already.
NEWER = SECTION.replace(b"pending", b"archive")
#: The beginning of a msgpack array of one value.
ONE = b"\xdd\0\0\0\1"
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=40),
    st.sampled_from([SECTION, serial.pack(10**5000), ONE + SECTION]),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=30,
)
ANSWERS = st.one_of(
    VALUES,
    st.lists(LEAVES, min_size=2, max_size=5),
    st.lists(st.lists(LEAVES, min_size=4, max_size=15), max_size=3),
    st.tuples(
        st.none() | st.tuples(st.text(max_size=3), st.just(1), st.just(1), LEAVES).map(list),
        st.none() | st.tuples(st.integers(0, 5), st.binary(max_size=5)).map(list),
        st.sampled_from([b"\xdd\0\0\0\0", ONE + SECTION, ONE + b"\xc0", b"\xc1", b""]),
        st.lists(st.tuples(st.integers(-2, 2), st.sampled_from([SECTION, b"", b"\x90"])).map(list)),
        st.integers(0, 3).map(lambda count: bytes(13 * count)),
    ).map(list),
)  # fmt: skip


def used(verb: Verb[Any], answer: Any) -> None:
    """What an engine does with an answer."""
    found = verb.read(answer)
    if verb in (verbs.NODES, verbs.HISTORY):
        unpack_history(found, None, "run")
    elif verb in (verbs.LATEST, verbs.LOAD):
        node, kind, state = found
        decode_checkpoint(node, kind, state, "run" if verb is verbs.LATEST else None)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@given(answer=ANSWERS)
@example(answer=float("inf"))
@example(answer=[float("inf"), 1])
@example(answer=[SECTION, None, b""])
@example(answer=[7, 1, b""])
@example(answer=[None, None, b"\xdd\0\0\0\0", [], b"odd"])
@example(answer=[None, None, None, None, None])
@example(answer=[None, None, ONE + NEWER, [], bytes(13)])
@example(answer=[NEWER, 0, None])
@example(answer=[HUGE_IDS, 0, None])
@example(answer=[None, None, ONE + b"\xc0", [[0, HUGE_IDS]], bytes(13)])
@example(answer={"pids": None})
@example(answer={"pids": {"writers": 7}})
@example(answer=["text of fourteen characters"])
def test_an_answer_is_typed_or_a_typed_error(verb: Verb[Any], answer: Any) -> None:
    with suppress(ServiceError, StoreError):  # damage is a StoreError: it is the store's row
        used(verb, answer)


@pytest.mark.parametrize("verb", INTERNAL.values(), ids=INTERNAL)
@given(answer=ANSWERS)
def test_an_answer_of_a_writer(verb: Verb[Any], answer: Any) -> None:
    with suppress(ServiceError):
        verb.read(answer)


@given(VALUES)
@example([])
@example(["CorruptRowError"])
@example([[], "text"])
@example([7, "text", ["StoreError"]])
@example(["__doc__", "text", ["annotations", b"x", "StoreError"]])
@example(["StoreError", None, 7])
def test_an_error_of_any_form_is_one_of_ours(parts: Any) -> None:
    found = error_from_parts(parts)
    assert isinstance(found, LivingAIError)
    assert isinstance(str(found), str)


@given(VALUES)
def test_a_filter_of_any_form_is_a_filter_or_refused(wire: Any) -> None:
    with suppress(ConfigurationError):
        filter_from_wire(wire)


@given(st.binary(max_size=60) | VALUES.map(lambda value: frame(value)[LENGTH.size :]))
@example(b"\x81\x90\x01")  # a list as a key
@example(b"\x92\x01\xd7\xff" + b"\xff" * 8)  # a time of 2**34 s and 2**30 ns
@example(b"\x92\x01\xc7\x0c\xff" + b"\xff" * 12)  # a time with a negative number of seconds
@example(b"\x91" * 100_000)
def test_bytes_of_any_form_are_a_message_or_refused(body: bytes) -> None:
    for read in (
        parse,
        lambda data: list(FrameBuffer().feed(len(data).to_bytes(4, "little") + data)),
    ):
        with suppress(ValueError):
            assert isinstance(read(body), list)


@pytest.mark.parametrize(
    ("more", "revision"),
    [([], 0), ([1], 1), ([2, "x"], 2), ([True], 0), ([-1], 0), (["1"], 0), ([None], 0), ([[1]], 0)],
)
def test_the_revision_of_a_greeting(more: list[Any], revision: int) -> None:
    assert revision_of(more) == revision
