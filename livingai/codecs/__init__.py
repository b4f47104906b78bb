"""Checkpoint blobs: a state as the store keeps it, often as a difference from the state before.

This is an on-disk format; every blob ever written stays readable. Integers are little-endian. The
first byte names the codec:

====  ======  =================================================================================
byte  name    what follows
====  ======  =================================================================================
0x00  raw     the state
0x01  zlib    one zlib stream
0x02  zstd    one zstd frame (ours have zstd's own checksum)
0x03  delta   a head, then pieces of the base copied by reference, the rest zstd (``delta.py``)
0x04  prefix  a head, then one zstd frame with the base as raw-content dictionary
====  ======  =================================================================================

The *head* of 0x03 and 0x04 is u64 length of the state, 16 bytes XXH3-128 of the base (its
:func:`content_hash`), u64 XXH3-64 of the state.

Rules:

* Lengths in a blob are claims. Memory follows what was really decoded, up to ``max_bytes``.
* A blob of 0x02 (if ours), 0x03 or 0x04 never decodes to bytes other than those encoded. What
  follows 0x00 and 0x01 is fixed by compatibility, so these carry no checksum of ours (zlib has its
  Adler-32), and no blob can protect its first byte: what was 0x02 and now is 0x00 is a valid raw
  blob. The checksum of the record around the blob covers that, or ``expected_hash``.

:func:`encode` with ``codec="auto"`` chooses as follows; the rule costs a fraction of the work that
it saves, and the figures are in ``copies.py`` and ``prefix.py``:

1. fewer than 256 bytes: raw;
2. a base of which a third of the state can be copied, with few enough differences: delta;
3. a base in which at least two of four samples of the state occur somewhere: prefix;
4. a base of which a third can be copied after all: delta; else zstd;
5. and whatever came out no smaller than the state: raw.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from livingai.codecs import delta, prefix
from livingai.codecs.blob import (
    HEAD,
    HEAD_BYTES,
    Buffer,
    Codec,
    Encoded,
    content_hash,
    inflate_zlib,
    inflate_zstd,
    verified,
    zstd_frame,
)
from livingai.codecs.copies import Comparison, Find, compare, compare_mapped
from livingai.errors import CorruptBlobError, MissingBaseError

__all__ = [
    "Codec",
    "Encoded",
    "Patched",
    "base_of",
    "compress_patch",
    "content_hash",
    "decode",
    "encode",
    "encode_delta",
    "encode_patch",
    "size_of",
]

_RAW_BELOW: Final = 256
_WITH_BASE: Final = (Codec.DELTA, Codec.PREFIX)


def encode(
    raw: Buffer,
    *,
    codec: str = "auto",
    level: int = 1,
    base: Buffer | None = None,
) -> Encoded:
    """Encode a state.

    `codec` is "auto" (see the module's rule), "raw", "zlib", "zstd", "delta" or "prefix"; the last
    two need `base`, the state that the reader will have at hand: the previous checkpoint's.
    `level` is that of zlib (1 to 9) or zstd (negative is faster; prefix uses at least 3).
    Thread-safe; releases the GIL while it compresses.

    Raises ValueError for an unknown codec, a level out of range, or a missing base.
    """
    state = raw if type(raw) is bytes else bytes(raw)
    before = base if base is None or type(base) is bytes else bytes(base)
    if codec == "auto":
        return _encode_best(state, level, before)
    try:
        chosen = Codec[codec.upper()]
    except KeyError:
        known = ", ".join(name.lower() for name in Codec.__members__)
        raise ValueError(f"unknown codec {codec!r}; use auto, {known}") from None
    if chosen not in _WITH_BASE:
        return _encode_alone(state, chosen, level)
    if before is None:
        raise ValueError(f"codec {codec!r} needs base=, the previous state")
    if chosen is Codec.DELTA:
        return delta.encode(state, before, compare(state, before).copies, level)
    return prefix.encode(state, before, level)


def encode_delta(state: bytes, base: bytes, *, level: int = 1) -> Encoded | None:
    """What ``codec="auto"`` makes of a state that copies much of its base; None for any other: its
    encoding takes ten times as long, and more."""
    return _encode_delta(state, level, base, compare(state, base))


class Patched(NamedTuple):
    """What :func:`encode_patch` found: a blob, or None if it is of no use, and how many bytes of
    the state the base has."""

    encoded: Encoded | None
    copied: int


def encode_patch(state: bytes, base: memoryview, find: Find, *, most: int) -> Patched:
    """What differs between a state and its base, as a delta whose literals are not compressed: for
    a process that has no time. `base` may be mapped, `find` searches it as :meth:`bytes.find` does.
    Of no use: more than `most` bytes of literals, or too many pieces."""
    if not delta.fits(state, base):
        return Patched(None, 0)
    comparison = compare_mapped(state, base, find)
    copied = comparison.copied_bytes
    if not comparison.complete or len(state) - copied > most:
        return Patched(None, copied)
    return Patched(delta.encode(state, base, comparison.copies, None), copied)


def compress_patch(blob: bytes, *, level: int = 1) -> bytes:
    """A blob of :func:`encode_patch` as the store keeps it: smaller, and of the same state.

    Raises CorruptBlobError.
    """
    return delta.compress(blob, level)


def size_of(blob: Buffer) -> int:
    """How many bytes the state of a delta or prefix blob has, by what its head says.

    Raises CorruptBlobError: it is too short to have a head.
    """
    if len(blob) < 1 + HEAD_BYTES:
        raise CorruptBlobError("checkpoint blob is cut short")
    return int(HEAD.unpack_from(blob, 1)[0])


def _encode_best(state: bytes, level: int, base: bytes | None) -> Encoded:
    if len(state) < _RAW_BELOW:
        return _encode_alone(state, Codec.RAW, level)
    encoded = _encode_on_base(state, level, base) if base else None
    if encoded is None:
        encoded = _encode_alone(state, Codec.ZSTD, level)
    if len(encoded.blob) > len(state):
        return _encode_alone(state, Codec.RAW, level)
    return encoded


def _encode_on_base(state: bytes, level: int, base: bytes) -> Encoded | None:
    """The better of delta and prefix; None if the base is of no use."""
    comparison = compare(state, base)
    encoded = _encode_delta(state, level, base, comparison)
    if encoded is not None:
        return encoded
    if prefix.is_promising(state, base):
        return prefix.encode(state, base, level)
    if _has_much(state, base, comparison):
        return delta.encode(state, base, comparison.copies, level)
    return None


def _encode_delta(state: bytes, level: int, base: bytes, comparison: Comparison) -> Encoded | None:
    if comparison.complete and _has_much(state, base, comparison):
        return delta.encode(state, base, comparison.copies, level)
    return None


def _has_much(state: bytes, base: bytes, comparison: Comparison) -> bool:
    return delta.fits(state, base) and 3 * comparison.copied_bytes >= len(state)


def _encode_alone(state: bytes, codec: Codec, level: int) -> Encoded:
    if codec is Codec.RAW:
        payload = state
    elif codec is Codec.ZLIB:
        if not 1 <= level <= 9:
            raise ValueError(f"zlib has levels 1 to 9, not {level}")
        payload = zlib.compress(state, level)
    else:
        payload = zstd_frame(state, level, checksum=True)
    return Encoded(bytes((codec,)) + payload, codec, None, len(state))


def base_of(blob: Buffer) -> bytes | None:
    """The :func:`content_hash` of the base that decoding `blob` needs; None if it needs none.

    Raises CorruptBlobError if the blob is too short to know.
    """
    view = memoryview(blob).cast("B")
    if view.nbytes and view[0] not in _WITH_BASE:
        return None
    if view.nbytes < 1 + HEAD_BYTES:
        raise CorruptBlobError("checkpoint blob is cut short")
    _, base_hash, _ = HEAD.unpack_from(view, 1)
    return bytes(base_hash)


def decode(
    blob: Buffer,
    *,
    fetch_base: Callable[[bytes], Buffer] | None = None,
    max_bytes: int,
    expected_hash: bytes | None = None,
) -> bytes:
    """Decode a blob to the state that was encoded.

    `fetch_base` gets a :func:`content_hash` and returns that state, or raises LookupError. A state
    of more than `max_bytes` is refused, after at most 8 MiB more than that were decoded.
    `expected_hash` is the state's content hash, if known; with it no codec lets damage pass.

    Raises CorruptBlobError; MissingBaseError if the base is needed and cannot be had. What
    `fetch_base` raises besides LookupError passes through.
    """
    view = memoryview(blob).cast("B")
    if not view.nbytes:
        raise CorruptBlobError("checkpoint blob is empty")
    codec, payload = view[0], view[1:]
    if codec == Codec.RAW:
        if payload.nbytes > max_bytes:
            raise CorruptBlobError(f"checkpoint exceeds the limit of {max_bytes} bytes")
        state = bytes(payload)
    elif codec == Codec.ZLIB:
        state = inflate_zlib(payload, max_bytes)
    elif codec == Codec.ZSTD:
        state = inflate_zstd(payload, max_bytes)
    elif codec in _WITH_BASE:
        state = _decode_with_base(codec, payload, fetch_base, max_bytes)
    else:
        raise CorruptBlobError(
            f"checkpoint blob has unknown codec 0x{codec:02x}; a newer livingai may have written "
            "it: upgrade livingai to read it"
        )
    if expected_hash is not None and content_hash(state) != expected_hash:
        raise CorruptBlobError("checkpoint does not match its content hash")
    return state


def _decode_with_base(
    codec: int,
    payload: memoryview,
    fetch_base: Callable[[bytes], Buffer] | None,
    max_bytes: int,
) -> bytes:
    if payload.nbytes < HEAD_BYTES:
        raise CorruptBlobError("checkpoint blob is cut short")
    size, base_hash, checksum = HEAD.unpack_from(payload)
    body = payload[HEAD_BYTES:]
    if size > max_bytes:
        raise CorruptBlobError(f"checkpoint exceeds the limit of {max_bytes} bytes")
    if fetch_base is None:
        raise MissingBaseError(f"checkpoint needs base {base_hash.hex()}; pass fetch_base=")
    try:
        base = fetch_base(base_hash)
    except LookupError as exc:
        raise MissingBaseError(f"checkpoint's base {base_hash.hex()} is not there") from exc
    rebuild = delta.decode if codec == Codec.DELTA else prefix.decode
    return verified(rebuild(body, base, size), size, checksum)
