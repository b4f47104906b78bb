"""Bytes that were cut, changed or made up: refused, or decoded to plain values, at little cost."""

import struct
import time as clock
import tracemalloc
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livingai.errors import CorruptRecordError
from livingai.serial import pack, unpack
from tests.support.serialized import assert_survives

SAMPLE = {
    "m": [{"r": "user", "c": "hi ü", "t": 1.5}],
    (1, 2): {3},
    "b": bytearray(b"x"),
    "n": 2**70,
}


def test_every_truncation_is_refused() -> None:
    for packed in (pack(SAMPLE), pack([1, "ab", {"k": b"v"}, date(2024, 1, 1)])):
        for length in range(len(packed)):
            with pytest.raises(CorruptRecordError):
                unpack(packed[:length])


def test_trailing_bytes_are_refused() -> None:
    for packed in (pack(SAMPLE), pack([1]), pack("x" * 5000)):
        for tail in (b"\x00", b"\xc0", packed):
            with pytest.raises(CorruptRecordError):
                unpack(packed + tail)


@pytest.mark.parametrize("code", [0, 10, 99, 127, -128])
def test_a_type_code_that_is_not_known(code: int) -> None:
    """The reader is told what to do: the bytes are sound, and of a newer livingai perhaps."""
    ext = b"\xd4" + code.to_bytes(1, "big", signed=True) + b"\0"
    for data in (ext, b"\xc1" + ext, b"\xc1\x92" + TUPLE + ext):
        with pytest.raises(
            CorruptRecordError, match=f"^encoded state has unknown type code {code};"
        ):
            unpack(data)


@given(st.binary(max_size=200))
@example(b"\xc1")
@example(b"\xd6\xff\xff\xff\xff\xff")
@example(b"\x82\x90\x01\x01\x01")
def test_garbage_is_refused_or_decodes_to_values(data: bytes) -> None:
    for candidate in (data, b"\xc1" + data):
        try:
            value = unpack(candidate)
        except CorruptRecordError:
            continue
        assert_survives(value)


@given(st.integers(0, len(pack(SAMPLE)) * 8 - 1), st.binary(max_size=3))
def test_damage_is_refused_or_decodes_to_values(bit: int, tail: bytes) -> None:
    packed = bytearray(pack(SAMPLE))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        value = unpack(bytes(packed) + tail)
    except CorruptRecordError:
        return
    assert_survives(value)


TUPLE, SET = b"\xc7\x00\x10", b"\xc7\x00\x11"
HOSTILE = {
    "empty": b"",
    "only the prefix": b"\xc1",
    "prefix twice": b"\xc1\xc1\x90",
    "unknown ext": b"\xd4\x63\x00",
    "negative ext": b"\xd4\x80\x00",
    "mark without prefix": b"\x91" + TUPLE,
    "mark alone": b"\xc1" + TUPLE,
    "mark as second item": b"\xc1\x92\x01" + TUPLE,
    "two marks": b"\xc1\x92" + TUPLE + SET,
    "mark as value": b"\xc1\x81\x01" + TUPLE,
    "mark as key": b"\xc1\x81" + TUPLE + b"\x01",
    "mark with payload": b"\xc1\x91\xd4\x10\x00",
    "list in a set": b"\xc1\x92" + SET + b"\x90",
    "list as key": b"\x81\x90\x01",
    "dict as key": b"\x81\x80\x01",
    "tuple with a list as key": b"\xc1\x81\x92" + TUPLE + b"\x90\x01",
    "bad UTF-8": b"\xa2\xff\xff",
    "short uuid": b"\xd4\x05\x00",
    "short complex": b"\xd7\x03" + bytes(8),
    "decimal words": b"\xd6\x04abcd",
    "decimal not ASCII": b"\xd5\x04\xd9\xa3",  # an Arabic 3, which Decimal would take
    "date zero": b"\xd6\x06" + bytes(4),
    "date too late": b"\xd6\x06\xff\xff\xff\xff",
    "hour 24": b"\xd7\x07\x18" + bytes(7),
    "fold 2": b"\xd7\x07\x00\x00\x00\x02" + bytes(4),
    "zone cut short": b"\xc7\x09\x07" + bytes(9),
    "zone of unknown kind": b"\xc7\x11\x07" + bytes(8) + b"\x09" + bytes(8),
    "zone offset of years": b"\xc7\x11\x07" + bytes(8) + b"\x01\x7f" + bytes(7),
    "timedelta too long": b"\xc7\x0c\x09\x7f\xff\xff\xff" + bytes(8),
    "declared array": b"\xdd\xff\xff\xff\xff\xc0",
    "declared map": b"\xdf\xff\xff\xff\xff\xc0\xc0",
    "declared str": b"\xdb\xff\xff\xff\xffab",
    "declared bin": b"\xc6\xff\xff\xff\xffab",
    "declared ext": b"\xc9\xff\xff\xff\xff\x02ab",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        unpack(data)


def test_garbage_is_no_decimal_whatever_the_context() -> None:
    with localcontext() as context:
        context.traps[InvalidOperation] = False  # Decimal("abcd") is NaN here
        with pytest.raises(CorruptRecordError):
            unpack(HOSTILE["decimal words"])
        context.prec = 2
        assert unpack(pack(Decimal("1.2345"))) == Decimal("1.2345")


def test_timedelta_payload_is_normalized() -> None:
    assert unpack(b"\xc7\x0c\x09" + struct.pack(">iII", 0, 86400, 10**6)) == timedelta(1, 1)


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_nested_headers_cannot_ask_for_more_than_their_length(size: int) -> None:
    # Each of the headers declares as many items as there are bytes, and the decoder would
    # allocate room for them, level by level: 8 GB for 1 MB.
    header = b"\xdd" + size.to_bytes(4, "big")
    data = (header * 1000 + b"\xc0" * size)[:size]
    tracemalloc.start()
    try:
        begun = clock.thread_time()
        with pytest.raises(CorruptRecordError):
            unpack(data)
        used_s = clock.thread_time() - begun
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000 + 10 * size
    assert used_s < 1
