"""Blobs: the rule of choice, the on-disk format, damage and hostile blobs."""

import os
import pickle
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import xxhash
import zstandard

from livingai.codecs import Codec, Encoded, base_of, content_hash, decode, encode
from livingai.codecs.copies import compare
from livingai.errors import CorruptBlobError, MissingBaseError

MB = 1 << 20
CODECS = ["raw", "zlib", "zstd", "delta", "prefix"]


def messages(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Chat-like messages of about 540 bytes each."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(2000)]
    return [
        {
            "role": chance.choice(["user", "assistant"]),
            "content": " ".join(chance.choices(words, k=65)),
            "id": f"{chance.getrandbits(128):032x}",
            "tokens": chance.randrange(4096),
        }
        for _ in range(count)
    ]


def chat(items: list[dict[str, Any]], step: int = 0) -> bytes:
    packed: bytes = msgpack.packb({"messages": items, "step": step})
    return packed


MESSAGES = messages(200)
BASE = chat(MESSAGES)
GROWN = chat([*MESSAGES, *messages(1, seed=2)], step=1)


def decoded(encoded: Encoded, base: bytes | None = None, max_bytes: int = 64 * MB) -> bytes:
    """The state, where the store has `base` and nothing else."""
    bases = {} if base is None else {content_hash(base): base}
    return decode(encoded.blob, fetch_base=bases.__getitem__, max_bytes=max_bytes)


# --- roundtrips ----------------------------------------------------------------------------------

STATES = {
    "empty": b"",
    "one byte": b"x",
    "small": b"small state" * 3,
    "one block": random.Random(3).randbytes(4096),
    "zeros": bytes(300_000),
    "random": random.Random(4).randbytes(100_000),
    "chat": GROWN,
    "base": BASE,
}


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


# --- the rule of choice --------------------------------------------------------------------------


def _shuffled() -> bytes:
    items = list(MESSAGES)
    random.Random(5).shuffle(items)
    return chat(items)


def _edited(every: int) -> bytes:
    return chat(
        [
            {**item, "content": "EDIT" + item["content"]} if n % every == 1 else item
            for n, item in enumerate(MESSAGES)
        ]
    )


def _overwritten(spots: range) -> bytes:
    state = bytearray(BASE)
    for start in spots:
        state[start : start + 4] = b"EDIT"
    return bytes(state)


def _overwritten_where_samples_are_taken() -> bytes:
    edited = _overwritten(range(900, len(BASE), 900)) + random.Random(11).randbytes(10_000)
    state = bytearray(edited)
    for eighth in (1, 3, 5, 7):
        start = eighth * len(state) // 8
        state[start : start + 32] = bytes(32)
    return bytes(state)


def _mixed(share: float) -> bytes:
    """As much of the base, and then something else."""
    cut = int(share * len(BASE))
    return BASE[:cut] + chat(messages(200, seed=9))[cut:]


def _phrase_base() -> bytes:
    chance = random.Random(12)
    phrase = b"a phrase that stands in every message of this conversation"
    parts = [chance.randbytes(442) + phrase for _ in range(40)]
    return b"".join(parts)


def _phrase_state() -> bytes:
    # Where the first sample is taken there is a phrase that also stands somewhere before.
    cut = 2005
    base = _phrase_base()
    phrase_at = base.index(b"a phrase", cut + 1500)
    fresh = random.Random(13).randbytes(2048 - (phrase_at - cut))
    return base[:cut] + fresh + base[cut:]


def _edited_all_over() -> bytes:
    return b"EDIT".join(BASE[start : start + 200] for start in range(0, len(BASE), 200))


CHOICES: dict[str, tuple[Callable[[], bytes], bytes | None, Codec, int]] = {
    "small": (lambda: b"x" * 255, None, Codec.RAW, 256),
    "small with base": (lambda: BASE[:255], BASE, Codec.RAW, 256),
    "no longer small": (lambda: b"x" * 256, None, Codec.ZSTD, 50),
    "incompressible": (lambda: STATES["random"], None, Codec.RAW, 100_001),
    "incompressible, other base": (lambda: STATES["random"], BASE, Codec.RAW, 100_001),
    "no base": (lambda: GROWN, None, Codec.ZSTD, len(GROWN) // 2),
    "same": (lambda: BASE, BASE, Codec.DELTA, 60),
    "message appended": (lambda: GROWN, BASE, Codec.DELTA, 700),
    "message removed at the end": (lambda: BASE, GROWN, Codec.DELTA, 200),
    "half of a small state": (
        lambda: GROWN[-600:-300] + b"!" * 300,
        GROWN[-600:],
        Codec.DELTA,
        150,
    ),
    "edited in place": (
        lambda: BASE[:50_000] + b"EDIT" + BASE[50_004:],
        BASE,
        Codec.DELTA,
        100,
    ),
    "inserted early": (
        lambda: chat([*MESSAGES[:3], *messages(2, seed=2), *MESSAGES[3:]]),
        BASE,
        Codec.DELTA,
        1200,
    ),
    "removed early": (lambda: chat([*MESSAGES[:3], *MESSAGES[20:]]), BASE, Codec.DELTA, 200),
    "shifted by a byte": (lambda: b"\x00" + BASE, BASE, Codec.DELTA, 120),
    "new first key": (lambda: b"\x83\xa1k\x01" + BASE[1:], BASE, Codec.DELTA, 120),
    "incompressible tail": (
        lambda: BASE + STATES["random"][:20_000],
        BASE,
        Codec.DELTA,
        20_100,
    ),
    "edited here and there": (lambda: _edited(20), BASE, Codec.DELTA, 1000),
    "a third and more": (lambda: _mixed(0.4), BASE, Codec.DELTA, int(0.4 * len(BASE))),
    "less than a third": (lambda: _mixed(0.25), BASE, Codec.ZSTD, len(BASE) // 2),
    "overwritten in many spots": (
        lambda: _overwritten(range(700, len(BASE), 700)),
        BASE,
        Codec.PREFIX,
        5000,
    ),
    "overwritten in too many spots": (
        _overwritten_where_samples_are_taken,
        BASE,
        Codec.DELTA,
        len(BASE) * 3 // 4,
    ),
    "misleading phrase": (_phrase_state, _phrase_base(), Codec.DELTA, 700),
    "reordered": (_shuffled, BASE, Codec.PREFIX, 5000),
    "edited all over": (_edited_all_over, BASE, Codec.PREFIX, 6000),
    "unrelated": (lambda: chat(messages(200, seed=9)), BASE, Codec.ZSTD, len(BASE) // 2),
}


@pytest.mark.parametrize(("state", "base", "codec", "at_most"), CHOICES.values(), ids=CHOICES)
def test_auto_chooses(
    state: Callable[[], bytes], base: bytes | None, codec: Codec, at_most: int
) -> None:
    encoded = encode(state(), base=base)
    assert Codec(encoded.codec) is codec
    assert len(encoded.blob) <= at_most
    assert decoded(encoded, base) == state()


def test_large_region_replaced_in_place() -> None:
    chance = random.Random(14)
    base = chance.randbytes(400_000)
    state = base[:100_000] + chance.randbytes(150_000) + base[250_000:]
    comparison = compare(state, base)
    assert comparison.complete
    assert comparison.copied_bytes == 250_000
    assert len(encode(state, base=base).blob) < 150_100


def test_prefix_serves_large_states() -> None:
    items = messages(4000)
    base = chat(items)
    random.Random(5).shuffle(items)
    encoded = encode(chat(items), base=base)
    assert encoded.codec == Codec.PREFIX
    assert len(encoded.blob) < len(base) // 20  # 1/3 with zstd's own parameters
    assert decoded(encoded, base) == chat(items)


def test_chain_of_appends() -> None:
    store: dict[bytes, Encoded] = {}

    def fetch(name: bytes) -> bytes:
        return decode(store[name].blob, fetch_base=fetch, max_bytes=MB)

    state, base = b"", None
    for count in range(1, 40):  # past 16, where the array's header grows and shifts everything
        state = chat(MESSAGES[:count], step=count)
        store[content_hash(state)] = encode(state, base=base)
        base = state
    assert fetch(content_hash(state)) == state
    assert sum(item.codec == Codec.DELTA for item in store.values()) >= 36
    assert sum(len(item.blob) for item in store.values()) < 2.5 * len(state)


def test_append_is_encoded_much_faster_than_by_zstd() -> None:
    base = chat(messages(1450))
    state = chat(messages(1451))

    def best_ns(codec: str) -> int:
        def once() -> int:
            begun = time.perf_counter_ns()
            encode(state, codec=codec, base=base)
            return time.perf_counter_ns() - begun

        return min(once() for _ in range(20))

    # 25 times is typical: 0.08 ms and 2.1 ms for 0.8 MB.
    assert best_ns("auto") * 5 < best_ns("zstd")


def test_copies_are_ordered_true_and_disjoint() -> None:
    state = chat([*MESSAGES[:9], *messages(1, seed=2), *MESSAGES[11:90], *MESSAGES[120:]])
    state = state[:30_000] + b"edit" + state[30_004:] + BASE[:1000]
    comparison = compare(state, BASE)
    done = 0
    for start, source, length in comparison.copies:
        assert start >= done
        assert length >= 32
        assert state[start : start + length] == BASE[source : source + length]
        done = start + length
    assert done <= len(state)
    assert comparison.complete
    assert comparison.copied_bytes > 0.9 * len(state)


def test_hopeless_comparison_is_bounded() -> None:
    # At each block there is something to find, and nothing holds.
    chance = random.Random(6)
    probe = chance.randbytes(64)
    base = b"".join(probe + chance.randbytes(4032) for _ in range(500))
    state = b"".join(probe + chance.randbytes(4032) for _ in range(500))
    took_s = []
    for _ in range(3):
        begun = time.perf_counter()
        comparison = compare(state, base)
        took_s.append(time.perf_counter() - begun)
        assert not comparison.complete
    assert min(took_s) < 0.05  # 4 ms is typical; without a limit on searches 200 ms


# --- the on-disk format --------------------------------------------------------------------------

GOLDEN_BASE = b"The base of all of these blobs, known to whoever reads them. " * 2
GOLDEN_STATE = GOLDEN_BASE + b"And what came next."
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


# --- bases ---------------------------------------------------------------------------------------


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


# --- damage --------------------------------------------------------------------------------------

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
            # No blob can protect its first byte: this is a valid one. The hash tells.
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


# --- hostile blobs -------------------------------------------------------------------------------


def head(size: int, state: bytes = b"") -> bytes:
    """A head that declares `size` and has the right base."""
    return struct.pack("<Q16sQ", size, content_hash(GOLDEN_BASE), xxhash.xxh3_64_intdigest(state))


def frame_declaring(size: int, blocks: bytes) -> bytes:
    """A zstd frame without checksum whose header says `size` bytes in one segment."""
    return zstandard.FRAME_HEADER + b"\xe0" + size.to_bytes(8, "little") + blocks


def zeros_frame(size: int, *, declare: bool) -> bytes:
    """A true zstd frame of `size` zeros, made without having them in memory."""
    stream = zstandard.ZstdCompressor(level=1).compressobj(size=size if declare else -1)
    parts = [stream.compress(bytes(MB)) for _ in range(size // MB)]
    return b"".join((*parts, stream.flush()))


#: Two blocks: raw, 3 bytes; then the last, raw, empty.
LYING_BLOCKS = b"\x18\x00\x00abc" + b"\x01\x00\x00"
#: One byte repeated 128 KiB times, as often as 8 KB hold, and no last block.
REPEATED = b"\x02\x00\x10x" * 2000
SMALL_BOMB = zeros_frame(256 * MB, declare=True)
SILENT_BOMB = zeros_frame(256 * MB, declare=False)
TABLE = struct.pack("<IB", 2, 0) + struct.pack("<III", 0, 0, 100) * 2

BOMBS: dict[str, tuple[bytes, int]] = {
    "declares 256 MB, holds 3 bytes": (
        b"\x02" + frame_declaring(256 * MB, LYING_BLOCKS),
        1024 * MB,
    ),
    "declares 256 MB, padded to 8 KB": (
        b"\x02" + frame_declaring(256 * MB, LYING_BLOCKS) + bytes(8000),
        1024 * MB,
    ),
    "declares 16 EB": (b"\x02" + frame_declaring(2**64 - 3, LYING_BLOCKS), 2**63 - 1),
    "true bomb": (b"\x02" + SMALL_BOMB, MB),
    "true bomb that does not say so": (b"\x02" + SILENT_BOMB, MB),
    "declares 3 bytes, holds 256 MB": (b"\x02" + frame_declaring(3, REPEATED), MB),
    "declares nothing, holds 256 MB": (
        b"\x02" + zstandard.FRAME_HEADER + b"\x00\x58" + REPEATED,
        MB,
    ),
    "window of 2 GB": (b"\x02" + zstandard.FRAME_HEADER + b"\x00\xa8" + LYING_BLOCKS, 1024 * MB),
    "zlib bomb": (b"\x01" + zlib.compress(bytes(64 * MB)), MB),
    "zlib bomb without a limit to speak of": (b"\x01" + zlib.compress(bytes(MB))[:-9], 2**63 - 1),
    "raw, too long": (b"\x00" + bytes(MB), MB - 1),
    "delta that declares 256 MB": (b"\x03" + head(256 * MB) + TABLE, 1024 * MB),
    "delta that declares too much": (b"\x03" + head(256 * MB) + TABLE, MB),
    "delta with a table of 4 G copies": (
        b"\x03" + head(200) + b"\xff\xff\xff\xff\x00" + TABLE[5:],
        MB,
    ),
    "delta that copies from beyond the base": (
        b"\x03" + head(100) + struct.pack("<IBIII", 1, 0, 0, 60, 100),
        MB,
    ),
    "delta that copies 4 GB": (
        b"\x03" + head(100) + struct.pack("<IBIII", 1, 0, 0, 0, 2**32 - 1),
        MB,
    ),
    "delta shorter than its copies": (b"\x03" + head(100) + TABLE, MB),
    "delta longer than its copies": (b"\x03" + head(300) + TABLE, MB),
    "delta with literals that are not there": (
        b"\x03" + head(200) + struct.pack("<IBIII", 1, 0, 150, 0, 100) + bytes(100),
        MB,
    ),
    "delta with a bomb for literals": (
        b"\x03" + head(200) + struct.pack("<IB", 0, 1) + SMALL_BOMB,
        MB,
    ),
    "delta with a silent bomb for literals": (
        b"\x03" + head(200) + struct.pack("<IB", 0, 1) + SILENT_BOMB,
        MB,
    ),
    "delta with unknown literals": (
        b"\x03" + head(3, b"abc") + struct.pack("<IB", 0, 2) + b"abc",
        MB,
    ),
    "delta without a table": (b"\x03" + head(0), MB),
    "prefix that declares 256 MB": (
        b"\x04" + head(256 * MB) + frame_declaring(256 * MB, LYING_BLOCKS),
        1024 * MB,
    ),
    "prefix with a bomb": (b"\x04" + head(200) + SMALL_BOMB, MB),
    "prefix with a silent bomb": (b"\x04" + head(200) + SILENT_BOMB, MB),
    "prefix without a frame": (b"\x04" + head(0), MB),
    "frame to be skipped": (b"\x02\x50\x2a\x4d\x18" + bytes(4), MB),
    "empty": (b"", MB),
    "zlib, empty": (b"\x01", MB),
    "zstd, empty": (b"\x02", MB),
    "head cut short": (b"\x03" + head(0)[:-1], MB),
}


@pytest.mark.parametrize(("blob", "max_bytes"), BOMBS.values(), ids=BOMBS)
def test_hostile_blob_is_refused_in_bounds(blob: bytes, max_bytes: int) -> None:
    tracemalloc.start()
    try:
        rss = _rss_bytes()
        begun = time.perf_counter()
        with pytest.raises(CorruptBlobError):
            decode(blob, fetch_base=lambda _: GOLDEN_BASE, max_bytes=max_bytes)
        took_s = time.perf_counter() - begun
        grown = _rss_bytes() - rss
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * MB
    assert grown < 48 * MB
    assert took_s < 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("delta with a table of 4 G copies", "impossible table"),
        ("delta that copies from beyond the base", "beyond its base"),
        ("delta that copies 4 GB", "beyond its base"),
        ("delta shorter than its copies", "longer than it says"),
        ("delta with literals that are not there", "longer than it says"),
        ("delta longer than its copies", "wrong amount of literal bytes"),
        ("delta with unknown literals", "impossible table"),
        ("delta without a table", "cut short"),
        ("delta that declares too much", "exceeds the limit"),
        ("zlib bomb", "exceeds the limit"),
        ("true bomb", "exceeds the limit"),
        ("true bomb that does not say so", "exceeds the limit"),
        ("frame to be skipped", "not a zstd frame"),
    ],
)
def test_refusal_says_why(name: str, message: str) -> None:
    blob, max_bytes = BOMBS[name]
    with pytest.raises(CorruptBlobError, match=message):
        decode(blob, fetch_base=lambda _: GOLDEN_BASE, max_bytes=max_bytes)


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _rss_bytes() -> int:
    """Memory that this process really holds; what C libraries allocate included."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * _PAGE_BYTES if status.exists() else 0


def test_bombs_are_what_they_claim() -> None:
    # Else the tests above would prove nothing.
    assert len(SMALL_BOMB) < 32_000
    assert zstandard.frame_content_size(SMALL_BOMB) == 256 * MB
    assert zstandard.frame_content_size(SILENT_BOMB) == -1
    stream = zstandard.ZstdDecompressor().decompressobj()
    assert sum(len(stream.decompress(SILENT_BOMB[i : i + 64])) for i in range(0, 999, 64)) > MB
    lying = frame_declaring(3, LYING_BLOCKS)
    assert decode(b"\x02" + lying, max_bytes=3) == b"abc"


def test_large_but_honest_blobs_are_read() -> None:
    assert decode(b"\x02" + SMALL_BOMB, max_bytes=256 * MB) == bytes(256 * MB)
    whole = encode(bytes(8 * MB), codec="zlib").blob
    assert decode(whole, max_bytes=8 * MB) == bytes(8 * MB)
    with pytest.raises(CorruptBlobError, match="limit"):
        decode(whole, max_bytes=8 * MB - 1)


def test_table_of_many_copies_is_assembled() -> None:
    # More pieces than are joined at once.
    count = 20_000
    table = b"".join(struct.pack("<III", 1, n % 50, 3) for n in range(count))
    literals = random.Random(8).randbytes(count + 5)
    state = b"".join(literals[n : n + 1] + GOLDEN_BASE[n % 50 : n % 50 + 3] for n in range(count))
    state += literals[count:]
    blob = b"\x03" + head(len(state), state) + struct.pack("<IB", count, 0) + table + literals
    assert decode(blob, fetch_base=lambda _: GOLDEN_BASE, max_bytes=MB) == state
