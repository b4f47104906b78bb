"""A reader with a fault, by which the fuzzer itself is tested."""

from __future__ import annotations

from livingai.errors import CorruptRecordError
from tests.support.readers import Reader


def _read(data: bytes) -> None:
    """Each byte is a step of its own: only who is led by coverage comes to the end of them."""
    if data[:1] != b"\x13":
        raise CorruptRecordError("the first byte")
    if data[1:2] != b"\x37":
        raise CorruptRecordError("the second byte")
    if data[2:3] != b"\xbe":
        raise CorruptRecordError("the third byte")
    if data[3:4] == b"\xef":
        raise KeyError("what no reader raises")


FAULTY = Reader(_read, b"\x00\x00\x00\x00\x00\x00")
