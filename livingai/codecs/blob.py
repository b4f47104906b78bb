"""What all codecs share: names, the head, and decompression that relies on no declared length."""

from __future__ import annotations

import enum
import struct
import sys
import threading
import zlib
from dataclasses import dataclass
from typing import Final

import xxhash
import zstandard

from livingai.errors import CorruptBlobError

Buffer = bytes | bytearray | memoryview

#: Length of the state, content hash of the base, XXH3-64 of the state.
HEAD: Final = struct.Struct("<Q16sQ")
HEAD_BYTES: Final = 32
assert HEAD.size == HEAD_BYTES

#: Most input given to zstd at a time where its output is not bounded otherwise: a block is at
#: least 4 bytes and decodes to at most 128 KiB, so 256 bytes give 8 MiB.
_SLICE_BYTES: Final = 256
#: A declared length up to this multiple of the input (and 64 KiB) may be allocated at once.
_TRUSTED_RATIO: Final = 64

#: Compressors that a thread keeps, each for one level, and for what: their memory, which grows with
#: both, stays below 4 MB each.
_MOST_COMPRESSORS: Final = 4
_KEEP_BYTES: Final = 1 << 20
_KEEP_LEVEL: Final = 3

_TOO_LARGE: Final = "checkpoint exceeds the limit of {} bytes"
_CUT_SHORT: Final = "checkpoint blob is cut short"
_TRAILING: Final = "checkpoint blob is followed by other bytes"


class Codec(enum.IntEnum):
    """A blob's first byte."""

    RAW = 0x00
    ZLIB = 0x01
    ZSTD = 0x02
    DELTA = 0x03
    PREFIX = 0x04


@dataclass(frozen=True, slots=True)
class Encoded:
    """A state as a blob.

    `codec` is a :class:`Codec`; `base_hash` is the content hash of the state that decoding needs,
    None if it needs none; `raw_size` is the state's length in bytes.
    """

    blob: bytes
    codec: int
    base_hash: bytes | None
    raw_size: int


def content_hash(raw: Buffer) -> bytes:
    """The name of a state as a base: its XXH3-128, 16 bytes. Not cryptographic."""
    return xxhash.xxh3_128_digest(raw)


def with_head(codec: Codec, state: bytes, base: Buffer, body: bytes) -> Encoded:
    """A blob of `codec` that names `base` and carries a checksum of `state`."""
    base_hash = content_hash(base)
    head = HEAD.pack(len(state), base_hash, xxhash.xxh3_64_intdigest(state))
    return Encoded(b"".join((bytes((codec,)), head, body)), codec, base_hash, len(state))


def verified(state: bytes, size: int, checksum: int) -> bytes:
    """`state`, if it is what the head says.

    Raises CorruptBlobError.
    """
    if len(state) != size or xxhash.xxh3_64_intdigest(state) != checksum:
        raise CorruptBlobError("checkpoint does not match its checksum")
    return state


class _Own(threading.local):
    """What a thread keeps of zstd: making one takes 10 µs, ten times what a small state takes, and
    two threads must not use the same."""

    def __init__(self) -> None:
        #: By level and whether the frame gets a checksum.
        self.compressors: dict[tuple[int, bool], zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_own = _Own()


def zstd_frame(data: bytes, level: int, *, checksum: bool) -> bytes:
    """`data` as one zstd frame that declares its length.

    Raises ValueError for a level that zstd does not have.
    """
    kept = _own.compressors if len(data) <= _KEEP_BYTES and level <= _KEEP_LEVEL else {}
    compressor = kept.get((level, checksum))
    if compressor is None:
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
        if len(kept) >= _MOST_COMPRESSORS:
            kept.clear()
        kept[level, checksum] = compressor
    return compressor.compress(data)


def inflate_zlib(payload: memoryview, max_bytes: int) -> bytes:
    """Decompress one zlib stream, which must end where `payload` ends.

    Raises CorruptBlobError.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(payload, min(max_bytes, sys.maxsize - 1) + 1)
    except zlib.error as exc:
        raise CorruptBlobError(f"checkpoint blob does not decompress: {exc}") from exc
    if len(data) > max_bytes:
        raise CorruptBlobError(_TOO_LARGE.format(max_bytes))
    if not stream.eof:
        raise CorruptBlobError(_CUT_SHORT)
    if stream.unused_data:
        raise CorruptBlobError(_TRAILING)
    return data


def inflate_zstd(
    payload: memoryview, max_bytes: int, dictionary: zstandard.ZstdCompressionDict | None = None
) -> bytes:
    """Decompress one zstd frame, which must end where `payload` ends.

    Raises CorruptBlobError.
    """
    # zstd also takes frames to be skipped, and decodes them to nothing.
    if payload[:4] != zstandard.FRAME_HEADER:
        raise CorruptBlobError("checkpoint blob is not a zstd frame")
    try:
        declared = zstandard.frame_content_size(payload)
        if declared > max_bytes:
            raise CorruptBlobError(_TOO_LARGE.format(max_bytes))
        # Not for 0: the one-shot call returns at once then, and looks at nothing.
        if 0 < declared <= 65536 + _TRUSTED_RATIO * payload.nbytes:
            inflater = _own.decompressor
            if dictionary is not None:
                inflater = zstandard.ZstdDecompressor(dict_data=dictionary)
            return inflater.decompress(payload, allow_extra_data=False)
        # One of its own: it keeps a window of the size that the frame asks for.
        inflater = zstandard.ZstdDecompressor(dict_data=dictionary)
        return _inflate_in_slices(inflater, payload, max_bytes)
    except zstandard.ZstdError as exc:
        raise CorruptBlobError(f"checkpoint blob does not decompress: {exc}") from exc


def _inflate_in_slices(
    inflater: zstandard.ZstdDecompressor, payload: memoryview, max_bytes: int
) -> bytes:
    """Decompress a frame that does not say how much it holds, or says so much that it may lie."""
    stream = inflater.decompressobj()
    parts: list[bytes] = []
    size = 0
    for start in range(0, payload.nbytes, _SLICE_BYTES):
        part = stream.decompress(payload[start : start + _SLICE_BYTES])
        if part:
            parts.append(part)
            size += len(part)
        if size > max_bytes:
            raise CorruptBlobError(_TOO_LARGE.format(max_bytes))
        if stream.eof:
            if stream.unused_data or start + _SLICE_BYTES < payload.nbytes:
                raise CorruptBlobError(_TRAILING)
            return b"".join(parts)
    raise CorruptBlobError(_CUT_SHORT)
