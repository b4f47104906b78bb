"""Blobs that are built to cost memory or time: refused within bounds."""

import os
import random
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
import xxhash
import zstandard

from livingai.codecs import content_hash, decode, encode
from livingai.errors import CorruptBlobError
from tests.support.blobs import GOLDEN_BASE, MB


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
        begun = time.thread_time()
        with pytest.raises(CorruptBlobError):
            decode(blob, fetch_base=lambda _: GOLDEN_BASE, max_bytes=max_bytes)
        used_s = time.thread_time() - begun
        grown = _rss_bytes() - rss
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * MB
    assert grown < 48 * MB
    assert used_s < 1


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
