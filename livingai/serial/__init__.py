"""Agent values as msgpack bytes: what comes back has the type that went in.

This is an on-disk format; nothing in it may change its meaning.

* A value made only of None, bool, int, float, str, bytes, list and dict is plain msgpack. Lone
  surrogates are encoded as UTF-8 would encode them, were they allowed ("surrogatepass").
* Types that msgpack lacks are ext types. All numbers inside are big-endian:

  ==== ========= ==========================================================================
  code type      payload
  ==== ========= ==========================================================================
  1    int       two's complement, any length; only ints that msgpack's 64 bits cannot hold
  2    bytearray the bytes
  3    complex   f64 real, f64 imaginary
  4    Decimal   ``str()`` of it, ASCII
  5    UUID      16 bytes
  6    date      u32 proleptic ordinal
  7    time      u8 hour, u8 minute, u8 second, u8 fold, u32 microsecond, zone
  8    datetime  u32 ordinal of the date, then as time
  9    timedelta i32 days, u32 seconds, u32 microseconds
  16   --        mark: the array that holds it first is a tuple; no payload
  17   --        mark: a set
  18   --        mark: a frozenset
  ==== ========= ==========================================================================

* *zone* is empty (naive), or u8 1, i64 offset in microseconds, UTF-8 name (may be empty), or u8 2,
  i64 offset in microseconds (the least i64: unknown), UTF-8 key of the zone.
* Bytes that hold a mark begin with 0xC1, which msgpack never uses. So plain values, which are
  almost all, are decoded without a Python call per list.

Marks instead of nested payloads keep one flat msgpack stream: nothing is parsed twice, and depth
has one limit, msgpack's own.

What does not come back exactly: a ``tzinfo`` that is neither :class:`datetime.timezone` nor
:class:`zoneinfo.ZoneInfo` becomes a fixed offset; so does a zone that the reading machine does not
know; ``UUID.is_safe`` is dropped. Such values still compare equal.
"""

from __future__ import annotations

from typing import Final

from msgpack import Packer, Unpacker, unpackb

from livingai.errors import CorruptRecordError, StateEncodingError
from livingai.serial.careful import pack_carefully
from livingai.serial.scalars import (
    MARK_OF,
    MARKED_PREFIX,
    Mark,
    mark_or_scalar,
    scalar_from_ext,
    scalar_to_ext,
)
from livingai.serial.shape import is_ambiguous, is_whole

__all__ = ["pack", "unpack", "unpack_first"]

_PREFIX_BYTE: Final = MARKED_PREFIX[0]
#: So few bytes can ask for 3 MB at most.
_HARMLESS_BYTES: Final = 1024


class _Lowering:
    """What the packer asks for types that it does not know, during one :func:`pack`."""

    __slots__ = ("marked", "used")

    def __init__(self) -> None:
        self.used = False
        self.marked = False

    def __call__(self, value: object) -> object:
        self.used = True
        mark = MARK_OF.get(type(value))
        if mark is None:
            return scalar_to_ext(value)
        self.marked = True
        return [mark, *value]  # type: ignore[misc]  # a tuple, set or frozenset


def pack(value: object, name: str = "state", verb: str = "store") -> bytes:
    """Encode `value`.

    Takes None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict (any keys),
    set, frozenset, datetime, date, time, timedelta, Decimal and UUID, nested up to 500 levels
    at least (1024 with the msgpack of today). Subclasses of these are other types.

    Thread-safe as long as no other thread changes `value` meanwhile.

    Raises StateEncodingError, naming the place: another type, too deep, or contains itself. There
    ``name`` is what `value` is to the reader, and ``verb`` what to do with something better.
    """
    # A packer per call costs as much as keeping one per thread, and cannot be re-entered.
    lowering = _Lowering()
    try:
        try:
            packer = Packer(strict_types=True, default=lowering)
            packed: bytes = packer.pack(value)
        except UnicodeEncodeError:
            # Not the default: it makes each str 40 % slower.
            packer = Packer(strict_types=True, default=lowering, unicode_errors="surrogatepass")
            packed = packer.pack(value)
    except MemoryError:
        raise
    except Exception:
        # The C packer does not say where. This pass does, or succeeds where C could not.
        return pack_carefully(value, name, verb)
    # C has packed any bytearray as bytes, without asking.
    if is_ambiguous(value):
        return pack_carefully(value, name, verb)
    # Python code ran inside the packer, so another thread may have changed a list under it.
    if lowering.used and not is_whole(packed):
        raise StateEncodingError(
            f"{name} changed in another thread while it was being encoded; {verb} a copy of it"
        )
    return MARKED_PREFIX + packed if lowering.marked else packed


class _Raising:
    """The hooks of one :func:`unpack` of marked bytes."""

    __slots__ = ("unclaimed",)

    def __init__(self) -> None:
        #: Marks seen that no array has begun with.
        self.unclaimed = 0

    def ext(self, code: int, data: bytes) -> object:
        """An ext value: a mark or a scalar."""
        found = mark_or_scalar(code, data)
        if type(found) is Mark:
            self.unclaimed += 1
        return found

    def array(self, items: list[object]) -> object:
        """A complete array: a list, or what its mark says."""
        if not items or type(items[0]) is not Mark:
            return items
        mark = items[0]
        del items[0]
        self.unclaimed -= 1
        return mark.build(items)


def unpack(data: bytes | memoryview) -> object:
    """Decode what :func:`pack` returned; also plain msgpack of others (its timestamps become UTC
    datetimes).

    Safe with hostile bytes: calls nothing that they name, and needs memory in proportion to their
    length only.

    Raises CorruptRecordError for anything that :func:`pack` cannot have written.
    """
    try:
        body = memoryview(data).cast("B")
        marked = body.nbytes > 0 and body[0] == _PREFIX_BYTE
        if marked:
            body = body[1:]
        # Arrays are allocated by the length that they declare, so a thousand nested headers could
        # ask for gigabytes. Whole input bounds their sum by its length. Costs 10 % of decoding,
        # but three times as much as decoding for a tiny value, which can do no harm.
        if body.nbytes > _HARMLESS_BYTES and not is_whole(body):
            raise CorruptRecordError("encoded state is cut short, too deep or followed by others")
        if not marked:
            return _decode(body, scalar_from_ext, None)
        hooks = _Raising()
        value = _decode(body, hooks.ext, hooks.array)
        if hooks.unclaimed:
            raise CorruptRecordError("encoded state has a type mark outside of an array's start")
        return value
    except (CorruptRecordError, MemoryError):
        raise
    except Exception as exc:
        what = f"{type(exc).__name__}: {exc}"[:200]  # it may quote the bytes at length
        raise CorruptRecordError(f"encoded state does not decode: {what}") from exc


def _decode(body: memoryview, ext_hook: object, list_hook: object) -> object:
    value: object = unpackb(
        body,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        timestamp=3,
        ext_hook=ext_hook,
        list_hook=list_hook,
        max_str_len=body.nbytes,
        max_bin_len=body.nbytes,
        max_ext_len=body.nbytes,
        max_array_len=body.nbytes,
        max_map_len=body.nbytes,
    )
    return value


def unpack_first(data: bytes, count: int) -> list[object]:
    """The first ``count`` items of a packed list, which are plain values, from its beginning alone:
    ``data`` may end anywhere behind them.

    Raises:
        CorruptRecordError: they are not there.
    """
    start = len(MARKED_PREFIX) if data[: len(MARKED_PREFIX)] == MARKED_PREFIX else 0
    unpacker = Unpacker(max_buffer_size=len(data) + 1, unicode_errors="surrogatepass")
    unpacker.feed(data[start:])
    try:
        if unpacker.read_array_header() < count:
            raise CorruptRecordError(f"the list has fewer than {count} items")
        return [unpacker.unpack() for _ in range(count)]
    except CorruptRecordError:
        raise
    except Exception as error:  # msgpack has no common base for what it raises
        raise CorruptRecordError(f"no list begins here: {error}") from error
