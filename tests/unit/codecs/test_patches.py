"""Patches: deltas with literals as they are, made against a mapped base, and compressed later."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livingai import codecs
from livingai.errors import CorruptBlobError

RNG = random.Random(4711)
BASE = b" ".join(RNG.choices([b"plan", b"call", b"answer", b"receipt", b"order"], k=20_000))


def patch(state: bytes, base: bytes, most: int = 1 << 30) -> codecs.Patched:
    return codecs.encode_patch(state, memoryview(base), base.find, most=most)


def decoded(blob: bytes, base: bytes) -> bytes:
    return codecs.decode(blob, fetch_base=lambda _: memoryview(base), max_bytes=1 << 30)


@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 300), st.binary(max_size=300)),
                   max_size=4),
)  # fmt: skip
def test_a_patch_compressed_or_not_gives_the_state(edits: list[tuple[float, int, bytes]]) -> None:
    state = bytearray(BASE[:20_000])
    base = bytes(state)
    for part, gone, fresh in edits:
        at = int(part * len(state))
        state[at : at + gone] = fresh
    found = patch(bytes(state), base)
    assert found.encoded is not None
    assert found.encoded.base_hash == codecs.content_hash(base)
    assert codecs.size_of(found.encoded.blob) == len(state)
    smaller = codecs.compress_patch(found.encoded.blob)
    assert len(smaller) <= len(found.encoded.blob)
    assert codecs.base_of(smaller) == codecs.base_of(found.encoded.blob)
    assert decoded(found.encoded.blob, base) == decoded(smaller, base) == state
    assert codecs.compress_patch(smaller) == smaller


def test_literals_are_compressed_by_whoever_has_time() -> None:
    state = BASE + b"another message of the same kind " * 100
    found = patch(state, BASE).encoded
    assert found is not None
    assert 3300 < len(found.blob) < 3500
    assert len(codecs.compress_patch(found.blob)) < 200


def test_a_base_in_a_larger_file_is_searched_within_its_bounds() -> None:
    around = b"x" * 100 + BASE + b"y" * 100 + BASE
    view = memoryview(around)[100 : 100 + len(BASE)]

    def find(part: bytes, origin: int) -> int:
        return around.find(part, 100 + origin, 100 + len(BASE)) - 100

    state = BASE[5000:] + b"!" * 50
    found = codecs.encode_patch(state, view, find, most=1000).encoded
    assert found is not None
    assert decoded(found.blob, BASE) == state


def test_too_much_of_its_own_is_no_patch() -> None:
    fresh = RNG.randbytes(2000)
    assert patch(BASE + fresh, BASE, most=2000).encoded is not None
    assert patch(BASE + fresh, BASE, most=1999) == codecs.Patched(None, len(BASE))
    assert patch(RNG.randbytes(9000), BASE, most=1000) == codecs.Patched(None, 0)


@pytest.mark.parametrize("blob", [b"", b"\x02", b"\x03", bytes(60), b"\x03" + b"\xff" * 60])
def test_what_is_no_patch_is_not_compressed(blob: bytes) -> None:
    with pytest.raises(CorruptBlobError):
        codecs.compress_patch(blob)


def test_the_size_of_what_has_no_head() -> None:
    with pytest.raises(CorruptBlobError):
        codecs.size_of(b"\x03short")
