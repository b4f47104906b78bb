"""Each thing that decoding compares is compared: a blob that is wrong in this one thing is refused,
and the same blob without it is read."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable

import pytest
import xxhash
import zstandard

from livingai import codecs
from livingai.codecs import Codec, base_of, content_hash, decode, encode
from livingai.codecs.blob import _SLICE_BYTES
from livingai.errors import CorruptBlobError, MissingBaseError
from tests.support.blobs import CODECS, GOLDEN_BASE, GOLDEN_STATE

WITH_HEAD = ["delta", "prefix"]
SIZE_AT, BASE_AT, SUM_AT, BODY_AT = 1, 9, 25, 33
MOST = 10_000


def blob_of(codec: str, state: bytes = GOLDEN_STATE) -> bytes:
    return encode(state, codec=codec, base=GOLDEN_BASE).blob


def read(blob: bytes, most: int = MOST, expected: bytes | None = None) -> bytes:
    return decode(
        blob, fetch_base={content_hash(GOLDEN_BASE): GOLDEN_BASE}.__getitem__, max_bytes=most,
        expected_hash=expected,
    )  # fmt: skip


def silent_frame(state: bytes) -> bytes:
    """A zstd frame that says neither how much it holds nor what its checksum is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False, write_checksum=False)
    stream = compressor.compressobj()
    return stream.compress(state) + stream.flush()


@pytest.mark.parametrize("codec", CODECS)
def test_the_content_hash(codec: str) -> None:
    blob = blob_of(codec)
    assert read(blob, expected=content_hash(GOLDEN_STATE)) == GOLDEN_STATE
    for wrong in (content_hash(GOLDEN_BASE), bytes(16), b"x"):
        with pytest.raises(CorruptBlobError, match="content hash"):
            read(blob, expected=wrong)


@pytest.mark.parametrize("codec", [*CODECS, "silent zstd"])
def test_the_bound_of_the_length(codec: str) -> None:
    silent = codec == "silent zstd"
    blob = b"\x02" + silent_frame(GOLDEN_STATE) if silent else blob_of(codec)
    assert read(blob, len(GOLDEN_STATE)) == GOLDEN_STATE
    for less in (1, 2, len(GOLDEN_STATE)):
        with pytest.raises(CorruptBlobError, match="exceeds the limit"):
            read(blob, len(GOLDEN_STATE) - less)


@pytest.mark.parametrize("codec", WITH_HEAD)
def test_the_checksum_in_the_head(codec: str) -> None:
    blob = bytearray(blob_of(codec))
    blob[SUM_AT] ^= 1
    with pytest.raises(CorruptBlobError, match="does not match its checksum"):
        read(bytes(blob))


def test_the_length_in_the_head_of_a_frame() -> None:
    """The sum fits the state, but the head declares another length."""
    blob = blob_of("prefix")
    longer = blob[:1] + struct.pack("<Q", len(GOLDEN_STATE) + 1) + blob[BASE_AT:]
    with pytest.raises(CorruptBlobError, match="does not match its checksum"):
        read(longer)


@pytest.mark.parametrize("codec", WITH_HEAD)
def test_the_name_of_the_base(codec: str) -> None:
    blob = blob_of(codec)
    assert blob[BASE_AT:SUM_AT] == base_of(blob) == content_hash(GOLDEN_BASE)
    wrong = blob[:BASE_AT] + content_hash(b"another") + blob[SUM_AT:]
    with pytest.raises(MissingBaseError, match="is not there"):
        read(wrong)
    with pytest.raises(MissingBaseError, match="pass fetch_base="):
        decode(blob, max_bytes=MOST)
    # A store that has another state under the name: its bytes are no part of the result.
    other = os.urandom(len(GOLDEN_BASE))
    with pytest.raises(CorruptBlobError):
        decode(blob, fetch_base=lambda _: other, max_bytes=MOST)


@pytest.mark.parametrize("error", [LookupError, KeyError, IndexError])
def test_any_lookup_error_says_that_the_base_is_missing(error: type[Exception]) -> None:
    def gone(name: bytes) -> bytes:
        raise error(name)

    for codec in WITH_HEAD:
        with pytest.raises(MissingBaseError, match="is not there"):
            decode(blob_of(codec), fetch_base=gone, max_bytes=MOST)


@pytest.mark.parametrize("error", [OSError, ValueError, CorruptBlobError])
def test_other_errors_of_whoever_fetches_the_base_pass_through(error: type[Exception]) -> None:
    trouble = error("the store is away")

    def fail(name: bytes) -> bytes:
        raise trouble

    for codec in WITH_HEAD:
        with pytest.raises(error) as caught:
            decode(blob_of(codec), fetch_base=fail, max_bytes=MOST)
        assert caught.value is trouble


def test_the_base_of_a_blob() -> None:
    for codec in CODECS:
        blob = blob_of(codec)
        if codec not in WITH_HEAD:
            assert base_of(blob) is None
            continue
        for length in range(BODY_AT):
            with pytest.raises(CorruptBlobError, match="cut short"):
                base_of(blob[:length])
        assert base_of(blob[:BODY_AT]) == content_hash(GOLDEN_BASE)


ENDS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda state: b"\x01" + zlib.compress(state),
    "zstd": lambda state: b"\x02" + zstandard.ZstdCompressor().compress(state),
    "silent zstd": lambda state: b"\x02" + silent_frame(state),
}


@pytest.mark.parametrize("make", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("size", [100, 255, 256, 257, 2000])
def test_the_end_of_a_stream(make: Callable[[bytes], bytes], size: int) -> None:
    state = os.urandom(size)
    blob = make(state)
    assert read(blob) == state
    for tail in (b"\0", b"\0" * 255, b"\0" * 256, b"\0" * 300, blob[1:]):
        with pytest.raises(CorruptBlobError):
            read(blob + tail)
    for less in range(1, 30):
        with pytest.raises(CorruptBlobError):
            read(blob[:-less])


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_a_stream_that_ends_where_a_slice_does(slices: int) -> None:
    """zstd is given slices: none is left over that it never saw."""
    whole = slices * _SLICE_BYTES
    state = os.urandom(whole)
    state = state[: 2 * whole - len(silent_frame(state))]
    frame = silent_frame(state)
    assert len(frame) == whole
    assert read(b"\x02" + frame) == state
    for tail in (b"\0", bytes(_SLICE_BYTES), frame):
        with pytest.raises(CorruptBlobError, match="followed by"):
            read(b"\x02" + frame + tail)


def delta(
    copies: list[tuple[int, int, int]], literals: bytes, state: bytes, form: int = 0
) -> bytes:
    """A delta blob of the golden base whose head fits."""
    table = b"".join(struct.pack("<III", *copy) for copy in copies)
    head = struct.pack(
        "<Q16sQ", len(state), content_hash(GOLDEN_BASE), xxhash.xxh3_64_intdigest(state)
    )
    return b"\x03" + head + struct.pack("<IB", len(copies), form) + table + literals


def test_what_a_delta_copies_lies_in_its_base() -> None:
    last = len(GOLDEN_BASE) - 10
    assert read(delta([(0, last, 10)], b"", GOLDEN_BASE[last:])) == GOLDEN_BASE[last:]
    for copy in ((0, last, 11), (0, last + 1, 10), (0, len(GOLDEN_BASE), 1), (0, 2**32 - 1, 1)):
        with pytest.raises(CorruptBlobError, match="beyond its base"):
            # Its head is that of the part which Python's slices would give.
            read(delta([copy], b"", GOLDEN_BASE[copy[1] :]))


def test_the_form_of_a_deltas_literals() -> None:
    assert read(delta([], b"abc", b"abc")) == b"abc"
    for form in (2, 255):
        with pytest.raises(CorruptBlobError, match="impossible table"):
            read(delta([], b"abc", b"abc", form))
        with pytest.raises(CorruptBlobError, match="impossible table"):
            codecs.compress_patch(delta([], b"abc", b"abc", form))


def test_a_patch_that_is_compressed_has_its_table() -> None:
    whole = delta([(0, 0, 5), (3, 9, 5)], b"abc", b"-")
    for length in range(BODY_AT + 5 + 24):
        with pytest.raises(CorruptBlobError):
            codecs.compress_patch(whole[:length])
    for codec in Codec:
        if codec is not Codec.DELTA:
            with pytest.raises(CorruptBlobError, match="not a delta"):
                codecs.compress_patch(bytes((codec,)) + whole[1:])


@pytest.mark.parametrize("first", [True, False])
def test_a_kept_compressor_is_one_of_the_same_kind(first: bool) -> None:
    """A frame with a checksum follows one without, and the other way round."""
    state = GOLDEN_STATE * 20
    base = os.urandom(300)
    for turn in range(3):
        if bool(turn % 2) is first:
            encode(state, codec="delta", base=base)
        has_sum = zstandard.get_frame_parameters(encode(state, codec="zstd").blob[1:]).has_checksum
        assert has_sum
    body = encode(state, codec="delta", base=base).blob[BODY_AT + 5 :]
    assert not zstandard.get_frame_parameters(body).has_checksum
