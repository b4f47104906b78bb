"""The shape of a value and of its encoding, found out at C speed."""

from __future__ import annotations

import gc
from typing import Final, cast

from msgpack import ExtType, Timestamp, Unpacker, UnpackException

#: Types that the C packer encodes without asking, although decoding gives another type.
_AMBIGUOUS: Final = frozenset({bytearray, memoryview, ExtType, Timestamp})
_CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})
#: Types whose references, as the garbage collector sees them, are their members and nothing else.
_TRANSPARENT: Final = _CONTAINERS | {str, int, float, bool, type(None), bytes}
_ONLY_LISTS: Final = frozenset({list})


def is_ambiguous(value: object) -> bool:
    """Whether any part of `value` has a type that the packer gets wrong without saying so.

    `value` must be finite, as anything is that was packed: a cycle would never end.
    """
    # The packer tests for bytearray itself and its output looks like that of bytes, so the value
    # must be searched. Level by level, so that the loops over single values run in C: about
    # 25 ns each, which is what packing them takes; a visit of each in Python takes ten times that.
    level = [value]
    while True:
        types = set(map(type, level))
        if not _AMBIGUOUS.isdisjoint(types):
            return True
        if _CONTAINERS.isdisjoint(types):
            return False
        if types == _ONLY_LISTS:
            level = [items for items in level if not _all_numbers(items)]  # type: ignore[arg-type]
        elif not types <= _TRANSPARENT:
            level = [item for item in level if type(item) in _CONTAINERS]
        level = gc.get_referents(*level)


def _all_numbers(items: list[object]) -> bool:
    """Whether `items` are a vector, such as an embedding: long and addable to a float."""
    if len(items) < 16:
        return False
    try:
        # Three times faster than asking for each type; fails for each ambiguous one.
        sum(cast("list[float]", items), 0.0)
    except (TypeError, OverflowError):
        return False
    return True


def is_whole(packed: bytes | memoryview) -> bool:
    """Whether `packed` is one msgpack value that can be decoded, and nothing else.

    Builds no objects: a tenth of the work of decoding.
    """
    unpacker = Unpacker(max_buffer_size=len(packed), strict_map_key=False)
    unpacker.feed(packed)
    try:
        unpacker.skip()
    except (UnpackException, ValueError):
        return False
    whole: bool = unpacker.tell() == len(packed)
    return whole
