"""Blobs that are damaged or cut: the damage is detected, or the state is the same."""

import random

import pytest

from livingai.codecs import Codec, Encoded, content_hash, decode, encode
from livingai.errors import CorruptBlobError
from tests.support.blobs import GOLDEN_BASE, GOLDEN_STATE, GROWN, MB

_EDIT = GOLDEN_STATE[:40] + b"edit" + GOLDEN_STATE[44:] + random.Random(7).randbytes(60)
DAMAGE_CASES = {
    f"{codec} {name}": (encode(state, codec=codec, base=GOLDEN_BASE), state)
    for codec in ("zstd", "delta", "prefix")
    for name, state in {
        "grown": GOLDEN_STATE,
        "edited": _EDIT,
        "nothing": b"",
        "runs": bytes(700),
    }.items()
}


@pytest.mark.parametrize(("encoded", "state"), DAMAGE_CASES.values(), ids=DAMAGE_CASES)
def test_every_flipped_bit_is_detected_or_harmless(encoded: Encoded, state: bytes) -> None:
    detected = 0
    for bit in range(8 * len(encoded.blob)):
        blob = bytearray(encoded.blob)
        blob[bit // 8] ^= 1 << bit % 8
        try:
            # Even where the store hands out the base for any name.
            result = decode(blob, fetch_base=lambda _: GOLDEN_BASE, max_bytes=10_000)
        except CorruptBlobError:
            detected += 1
            continue
        if blob[0] == Codec.RAW:
            # No blob can protect its first byte: this is a valid one. Its content hash differs.
            with pytest.raises(CorruptBlobError):
                decode(blob, max_bytes=10_000, expected_hash=content_hash(state))
        else:
            assert result == state
    assert detected > 4 * len(encoded.blob) - 16 * 8  # the base's name is all that may be wrong


@pytest.mark.parametrize(("encoded", "state"), DAMAGE_CASES.values(), ids=DAMAGE_CASES)
def test_every_truncation_is_detected(encoded: Encoded, state: bytes) -> None:
    for length in range(len(encoded.blob)):
        with pytest.raises(CorruptBlobError):
            decode(encoded.blob[:length], fetch_base=lambda _: GOLDEN_BASE, max_bytes=10_000)
    for tail in (b"\0", encoded.blob):
        with pytest.raises(CorruptBlobError):
            decode(encoded.blob + tail, fetch_base=lambda _: GOLDEN_BASE, max_bytes=10_000)


def test_every_truncation_of_zlib_is_detected() -> None:
    blob = encode(GOLDEN_STATE, codec="zlib").blob
    for length in range(len(blob)):
        with pytest.raises(CorruptBlobError):
            decode(blob[:length], max_bytes=10_000)


@pytest.mark.parametrize("codec", [5, 0x28, 0x80, 0xFF])
def test_unknown_codec_is_refused(codec: int) -> None:
    with pytest.raises(CorruptBlobError, match=f"unknown codec 0x{codec:02x}"):
        decode(bytes((codec,)) + GROWN, max_bytes=MB)
