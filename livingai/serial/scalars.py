"""Ext codes: the types that msgpack lacks (the table is in :mod:`livingai.serial`)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from msgpack import ExtType

from livingai.errors import CorruptRecordError, StateEncodingError

#: First byte of bytes that hold marks; msgpack never uses it.
MARKED_PREFIX: Final = b"\xc1"

_INT, _BYTEARRAY, _COMPLEX, _DECIMAL, _UUID = 1, 2, 3, 4, 5
_DATE, _TIME, _DATETIME, _TIMEDELTA = 6, 7, 8, 9
_TUPLE, _SET, _FROZENSET = 16, 17, 18

_COMPLEX_FORM: Final = struct.Struct(">dd")
_DATE_FORM: Final = struct.Struct(">I")
_TIME_FORM: Final = struct.Struct(">BBBBI")
_TIMEDELTA_FORM: Final = struct.Struct(">iII")
_ZONE_FORM: Final = struct.Struct(">Bq")

_FIXED, _NAMED = 1, 2
_NO_OFFSET: Final = -(2**63)
_MICROSECOND: Final = timedelta(microseconds=1)

# A context of our own: the caller's may let garbage pass as NaN. It rounds nothing here.
_DECIMALS: Final = Context(traps=[InvalidOperation])


class Mark:
    """What the first item of an array says about it; never part of a value."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], object]) -> None:
        self.build = build


#: Per type, the ext value that marks an array as being one.
MARK_OF: Final[dict[type, ExtType]] = {
    tuple: ExtType(_TUPLE, b""),
    set: ExtType(_SET, b""),
    frozenset: ExtType(_FROZENSET, b""),
}
_MARKS: Final = {_TUPLE: Mark(tuple), _SET: Mark(set), _FROZENSET: Mark(frozenset)}


def scalar_to_ext(value: object) -> ExtType:
    """`value` as an ext value.

    Raises StateEncodingError if its type has no ext code.
    """
    found = _TO_EXT.get(type(value))
    if found is None:
        raise StateEncodingError(f"no encoding for {type(value).__qualname__}")
    code, payload = found
    return ExtType(code, payload(value))


def scalar_from_ext(code: int, data: bytes) -> object:
    """The value that :func:`scalar_to_ext` was given.

    Raises CorruptRecordError for an unknown code, and other errors for a payload that is not one.
    """
    build = _FROM_EXT.get(code)
    if build is None:
        raise CorruptRecordError(
            f"encoded state has unknown type code {code}; a newer livingai may have written it: "
            "upgrade livingai to read it"
        )
    return build(data)


def mark_or_scalar(code: int, data: bytes) -> object:
    """As :func:`scalar_from_ext`; for a mark's code, its :class:`Mark`."""
    mark = _MARKS.get(code)
    if mark is None:
        return scalar_from_ext(code, data)
    if data:
        raise CorruptRecordError("encoded state has a type mark with a payload")
    return mark


# --- numbers -------------------------------------------------------------------------------------


def _int_payload(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _int_from(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _complex_from(data: bytes) -> complex:
    return complex(*_COMPLEX_FORM.unpack(data))


def _decimal_from(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"), _DECIMALS)


# --- dates and times -----------------------------------------------------------------------------


def _date_payload(value: date) -> bytes:
    return _DATE_FORM.pack(value.toordinal())


def _date_from(data: bytes) -> date:
    (ordinal,) = _DATE_FORM.unpack(data)
    return date.fromordinal(ordinal)


def _time_payload(value: time | datetime) -> bytes:
    clock = _TIME_FORM.pack(value.hour, value.minute, value.second, value.fold, value.microsecond)
    return clock + _zone_payload(value.tzinfo, value.utcoffset())


def _time_from(data: bytes) -> time:
    hour, minute, second, fold, microsecond = _TIME_FORM.unpack_from(data)
    zone = _zone_from(data[_TIME_FORM.size :])
    return time(hour, minute, second, microsecond, zone, fold=fold)


def _datetime_payload(value: datetime) -> bytes:
    return _date_payload(value) + _time_payload(value)


def _datetime_from(data: bytes) -> datetime:
    split = _DATE_FORM.size
    return datetime.combine(_date_from(data[:split]), _time_from(data[split:]))


def _timedelta_payload(value: timedelta) -> bytes:
    return _TIMEDELTA_FORM.pack(value.days, value.seconds, value.microseconds)


def _timedelta_from(data: bytes) -> timedelta:
    return timedelta(*_TIMEDELTA_FORM.unpack(data))


def _zone_payload(zone: tzinfo | None, offset: timedelta | None) -> bytes:
    if zone is None:
        return b""
    micros = _NO_OFFSET if offset is None else offset // _MICROSECOND
    if type(zone) is ZoneInfo and zone.key is not None:
        return _ZONE_FORM.pack(_NAMED, micros) + zone.key.encode("utf-8", "surrogatepass")
    if offset is None:
        raise StateEncodingError("a time whose tzinfo gives it no offset has no encoding")
    # timezone makes a name of the offset if it was given none; only a given one is kept.
    name = zone.tzname(None) if type(zone) is timezone else None
    if name is None or name == timezone(offset).tzname(None):
        name = ""
    return _ZONE_FORM.pack(_FIXED, micros) + name.encode("utf-8", "surrogatepass")


def _zone_from(data: bytes) -> tzinfo | None:
    if not data:
        return None
    kind, micros = _ZONE_FORM.unpack_from(data)
    name = data[_ZONE_FORM.size :].decode("utf-8", "surrogatepass")
    if kind == _NAMED:
        try:
            return ZoneInfo(name)
        except (LookupError, OSError):
            # This machine's zone database lacks it: the moment is still right with its offset.
            if micros == _NO_OFFSET:
                raise
    elif kind != _FIXED:
        raise CorruptRecordError(f"encoded state has unknown kind of time zone {kind}")
    offset = timedelta(microseconds=micros)
    return timezone(offset, name) if name else timezone(offset)


_TO_EXT: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    int: (_INT, _int_payload),
    bytearray: (_BYTEARRAY, bytes),
    complex: (_COMPLEX, lambda value: _COMPLEX_FORM.pack(value.real, value.imag)),
    Decimal: (_DECIMAL, lambda value: str(value).encode("ascii")),
    UUID: (_UUID, lambda value: value.bytes),
    date: (_DATE, _date_payload),
    time: (_TIME, _time_payload),
    datetime: (_DATETIME, _datetime_payload),
    timedelta: (_TIMEDELTA, _timedelta_payload),
}
#: Types that have an ext code; int only beyond 64 bits.
SCALARS: Final = _TO_EXT.keys()

_FROM_EXT: Final[dict[int, Callable[[bytes], object]]] = {
    _INT: _int_from,
    _BYTEARRAY: bytearray,
    _COMPLEX: _complex_from,
    _DECIMAL: _decimal_from,
    _UUID: lambda data: UUID(bytes=data),
    _DATE: _date_from,
    _TIME: _time_from,
    _DATETIME: _datetime_from,
    _TIMEDELTA: _timedelta_from,
}
