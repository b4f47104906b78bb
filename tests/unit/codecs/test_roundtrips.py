"""Every codec returns the state that it encoded."""

import pickle

import pytest
import xxhash

from livingai.codecs import Codec, base_of, content_hash, decode, encode
from tests.support.blobs import BASE, CODECS, GROWN, MB, STATES, decoded


@pytest.mark.parametrize("codec", [*CODECS, "auto"])
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("base", [b"", b"x", BASE, GROWN, bytes(300_000)], ids=len)
def test_roundtrip(codec: str, state: bytes, base: bytes) -> None:
    encoded = encode(state, codec=codec, base=base)
    assert decoded(encoded, base) == state
    assert encoded.raw_size == len(state)
    assert encoded.blob[0] == encoded.codec
    assert base_of(encoded.blob) == encoded.base_hash
    if codec != "auto":
        assert encoded.codec == Codec[codec.upper()]
    if encoded.codec in (Codec.DELTA, Codec.PREFIX):
        assert encoded.base_hash == content_hash(base)
    else:
        assert encoded.base_hash is None


@pytest.mark.parametrize("codec", CODECS)
def test_buffers_of_all_kinds(codec: str) -> None:
    wrapped = memoryview(bytearray(GROWN))
    encoded = encode(wrapped, codec=codec, base=memoryview(BASE))
    assert encoded == encode(GROWN, codec=codec, base=BASE)
    for blob in (encoded.blob, bytearray(encoded.blob), memoryview(encoded.blob)):
        assert decode(blob, fetch_base=lambda _: BASE, max_bytes=MB) == GROWN


@pytest.mark.parametrize("codec", ["zlib", "zstd", "delta", "prefix"])
def test_level(codec: str) -> None:
    for level in (1, 9):
        assert decoded(encode(GROWN, codec=codec, level=level, base=BASE), BASE) == GROWN
    with pytest.raises(ValueError, match="level"):
        encode(GROWN, codec=codec, level=100, base=BASE)


def test_encoded_crosses_processes() -> None:
    encoded = encode(GROWN, base=BASE)
    assert pickle.loads(pickle.dumps(encoded)) == encoded


def test_content_hash_is_xxh3_128() -> None:
    assert content_hash(b"") == bytes.fromhex("99aa06d3014798d86001c324468d497f")
    assert content_hash(memoryview(b"abc")) == xxhash.xxh3_128_digest(b"abc")


def test_misuse() -> None:
    with pytest.raises(ValueError, match="unknown codec 'lz4'; use auto, raw, zlib"):
        encode(b"x", codec="lz4")
    for codec in ("delta", "prefix"):
        with pytest.raises(ValueError, match="needs base="):
            encode(b"x", codec=codec)
