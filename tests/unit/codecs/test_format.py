"""The on-disk format of blobs, and the base that a blob names."""

import random
import struct
import zlib

import pytest
import xxhash
import zstandard

from livingai.codecs import Codec, base_of, content_hash, decode, encode
from livingai.errors import CorruptBlobError, MissingBaseError
from tests.support.blobs import BASE, CODECS, GOLDEN_BASE, GOLDEN_STATE, GROWN, MB

#: Blobs of GOLDEN_STATE, one of each codec; they must decode for ever.
GOLDEN: dict[str, str] = {
    "raw": (
        "005468652062617365206f6620616c6c206f6620746865736520626c6f62732c206b6e6f776e2074"
        "6f2077686f65766572207265616473207468656d2e205468652062617365206f6620616c6c206f66"
        "20746865736520626c6f62732c206b6e6f776e20746f2077686f6576657220726561647320746865"
        "6d2e20416e6420776861742063616d65206e6578742e"
    ),
    "zlib": (
        "017801a58cc109c02010045bd902823da4071b38e30621e60ef488293f5a435ecbc0ccc64224e984"
        "9d905ad778e1e4542df50d97da50b86114e3c38646c97d397740fc13ef9ae7a9380eb909e5ebe103"
        "b808318d"
    ),
    "zstd": (
        "0228b52ffd248d4d020002051016a025cd019fbb1242ecdcd14afbc3ae2e788d1655b106240bb56b"
        "90e0a43a13069818ad1c09eaf15142afce97db391b3c6039532eb6f2e236862eee22955b8101002d"
        "400a5016200053"
    ),
    "delta": (
        "038d0000000000000050313b810a6ed9cbfa099d5b6bcf2e8090241dc8744942b101000000000000"
        "0000000000007a000000416e6420776861742063616d65206e6578742e"
    ),
    "prefix": (
        "048d0000000000000050313b810a6ed9cbfa099d5b6bcf2e8090241dc8744942b128b52ffd208dd5"
        "000098416e6420776861742063616d65206e6578742e0100b74f0310"
    ),
}


@pytest.mark.parametrize("codec", CODECS)
def test_format_is_stable(codec: str) -> None:
    blob = bytes.fromhex(GOLDEN[codec])
    assert blob[0] == Codec[codec.upper()]
    assert decode(blob, fetch_base=lambda _: GOLDEN_BASE, max_bytes=1000) == GOLDEN_STATE


def test_head_is_as_documented() -> None:
    for codec in ("delta", "prefix"):
        size, base_hash, checksum = struct.unpack_from("<Q16sQ", bytes.fromhex(GOLDEN[codec]), 1)
        assert size == len(GOLDEN_STATE)
        assert base_hash == content_hash(GOLDEN_BASE) == base_of(bytes.fromhex(GOLDEN[codec]))
        assert checksum == xxhash.xxh3_64_intdigest(GOLDEN_STATE)


FOREIGN: dict[str, bytes] = {
    "raw": b"\x00" + GROWN,
    "zlib level 6": b"\x01" + zlib.compress(GROWN),
    "zlib, small window": b"\x01" + zlib.compress(GROWN, 9, 9),
    "zstd without checksum": b"\x02" + zstandard.ZstdCompressor(level=3).compress(GROWN),
    "zstd without length": b"\x02"
    + zstandard.ZstdCompressor(level=3, write_content_size=False).compress(GROWN),
    "zstd, level 19": b"\x02" + zstandard.ZstdCompressor(level=19).compress(GROWN),
    "zstd, streamed": b"\x02" + zstandard.ZstdCompressor().compressobj().compress(b""),
}
_STREAM = zstandard.ZstdCompressor(write_checksum=True).compressobj()
FOREIGN["zstd, streamed"] = b"\x02" + _STREAM.compress(GROWN) + _STREAM.flush()


@pytest.mark.parametrize("blob", FOREIGN.values(), ids=FOREIGN)
def test_plain_payloads_of_others_are_read(blob: bytes) -> None:
    assert decode(blob, max_bytes=len(GROWN)) == GROWN
    with pytest.raises(CorruptBlobError):
        decode(blob, max_bytes=len(GROWN) - 1)
    for wrong in (blob + b"\0", blob + blob[1:]):
        if blob[0] != Codec.RAW:
            with pytest.raises(CorruptBlobError, match=r"followed by|does not decompress"):
                decode(wrong, max_bytes=MB)


def test_frame_that_ends_with_a_slice_is_not_followed_by_anything() -> None:
    chance = random.Random(15)
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    frames = (compressor.compress(chance.randbytes(size)) for size in range(700, 800))
    frame = next(frame for frame in frames if len(frame) % 256 == 0)
    decode(b"\x02" + frame, max_bytes=MB)
    with pytest.raises(CorruptBlobError, match="followed by"):
        decode(b"\x02" + frame + b"\0", max_bytes=MB)


@pytest.mark.parametrize("codec", ["delta", "prefix"])
def test_base_that_is_missing_or_wrong(codec: str) -> None:
    blob = encode(GROWN, codec=codec, base=BASE).blob
    with pytest.raises(MissingBaseError, match=content_hash(BASE).hex()):
        decode(blob, max_bytes=MB)
    nothing: dict[bytes, bytes] = {}
    with pytest.raises(MissingBaseError, match=content_hash(BASE).hex()):
        decode(blob, fetch_base=nothing.__getitem__, max_bytes=MB)
    for wrong in (b"", BASE[:1000], bytes(len(BASE)), BASE[::-1]):
        with pytest.raises(CorruptBlobError):
            decode(blob, fetch_base={content_hash(BASE): wrong}.__getitem__, max_bytes=MB)

    def broken(_: bytes) -> bytes:
        raise ConnectionError("store is away")

    with pytest.raises(ConnectionError, match="store is away"):
        decode(blob, fetch_base=broken, max_bytes=MB)


@pytest.mark.parametrize("codec", ["delta", "prefix"])
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_declared_length_must_be_true(codec: str, change: int) -> None:
    blob = bytearray(encode(GROWN, codec=codec, base=BASE).blob)
    struct.pack_into("<Q", blob, 1, len(GROWN) + change)
    with pytest.raises(CorruptBlobError):
        decode(blob, fetch_base=lambda _: BASE, max_bytes=MB)


@pytest.mark.parametrize("codec", CODECS)
def test_limit_is_exact(codec: str) -> None:
    blob = encode(GROWN, codec=codec, base=BASE).blob
    assert decode(blob, fetch_base=lambda _: BASE, max_bytes=len(GROWN)) == GROWN
    with pytest.raises(CorruptBlobError, match="exceeds the limit"):
        decode(blob, fetch_base=lambda _: BASE, max_bytes=len(GROWN) - 1)


def test_base_of_needs_the_head() -> None:
    blob = encode(GROWN, codec="delta", base=BASE).blob
    assert base_of(memoryview(blob)[:33]) == content_hash(BASE)
    assert base_of(b"\x00") is None
    for short in (b"", blob[:1], blob[:32]):
        with pytest.raises(CorruptBlobError):
            base_of(short)


def test_expected_hash_covers_every_codec() -> None:
    for codec in CODECS:
        blob = encode(GROWN, codec=codec, base=BASE).blob
        right = content_hash(GROWN)
        assert decode(blob, fetch_base=lambda _: BASE, max_bytes=MB, expected_hash=right) == GROWN
        with pytest.raises(CorruptBlobError, match="content hash"):
            decode(blob, fetch_base=lambda _: BASE, max_bytes=MB, expected_hash=bytes(16))
