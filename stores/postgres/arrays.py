"""Columns of a batch as PostgreSQL arrays, in the binary format.

psycopg's own list adaptation guesses an array's type from its values, so a column of nothing but
NULLs, or of small integers, would not fit the function that takes it; and it costs several times as
much. The format is that of ``array_recv`` in PostgreSQL's ``arrayfuncs.c``: dimensions, whether
there are NULLs, the element type, length and lower bound, then each element with its length.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, repeat

from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

_NULL = b"\xff\xff\xff\xff"
_head = struct.Struct("!iiIii").pack
_size = struct.Struct("!i").pack
_real = struct.Struct("!id").pack

#: (element type, array type) in ``pg_type.dat``.
_BYTEA, _INT8, _TEXT, _FLOAT8 = (17, 1001), (20, 1016), (25, 1009), (701, 1022)


class Array:
    """An array that is ready to be sent; ``data`` is its binary form."""

    __slots__ = ("data", "oid")

    def __init__(self, types: tuple[int, int], length: int, elements: bytes) -> None:
        self.oid = types[1]
        # "Has NULLs" is advisory: the server looks at each element's length.
        self.data = _head(1, 1, types[0], length, 1) + elements


class ArrayDumper(Dumper):
    """Hands an :class:`Array` to psycopg; registered on the store's connections."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: PyFormat) -> tuple[type, int]:  # type: ignore[override]
        return (self.cls, obj.oid)

    def upgrade(self, obj: Array, format: PyFormat) -> ArrayDumper:
        dumper = ArrayDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Array) -> bytes:
        return obj.data


def text_array(values: Sequence[str | None]) -> Array:
    """``text[]``; the values hold no NUL character and no lone surrogate."""
    return _array(_TEXT, [None if value is None else value.encode() for value in values])


def bytea_array(values: Sequence[bytes | None]) -> Array:
    """``bytea[]``."""
    return _array(_BYTEA, values)


def bigint_array(values: Sequence[int | None]) -> Array:
    """``bigint[]``; the values fit 64 bits."""
    count = len(values)
    if None not in values:
        pairs = chain.from_iterable(zip(repeat(8, count), values, strict=True))
        return Array(_INT8, count, struct.pack("!" + "iq" * count, *pairs))
    return _array(_INT8, [None if value is None else struct.pack("!q", value) for value in values])


def real_array(values: Sequence[float | None]) -> Array:
    """``double precision[]``."""
    elements = [_NULL if value is None else _real(8, value) for value in values]
    return Array(_FLOAT8, len(elements), b"".join(elements))


def _array(types: tuple[int, int], values: Sequence[bytes | None]) -> Array:
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(_size(len(value)))
            parts.append(value)
    return Array(types, len(values), b"".join(parts))
