"""Values as text for people who look into the database; never what livingai itself reads.

Nothing here raises: what JSON or UTF-8 cannot say (NaN, a lone surrogate, a huge integer, bytes,
deep nesting) is shown approximately.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

#: Values of up to about this size are rendered as JSON text; larger ones would slow the writer down
#: and are no pleasure to read in a terminal.
JSON_BYTES: Final = 4096
_JSON_DEPTH: Final = 24
#: Python prints integers of more digits than this only on request.
_PRINTABLE_BITS: Final = 4096


def _describe(value: Any) -> str | list[Any]:
    """What JSON cannot say."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, (set, frozenset)):
        return list(value)
    return _clean(str(value))


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_describe
).encode


def human_json(value: Any) -> str | None:
    """``value`` as JSON text that SQLite's own JSON functions read; None for None."""
    if value is None:
        return None
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()  # a lone surrogate fails here rather than in the batch
        return text
    except Exception:  # see the module's docstring
        pass
    try:
        return _encode(_plain(value, _JSON_DEPTH))
    except Exception:  # see the module's docstring
        return None


def _plain(value: Any, depth: int) -> Any:
    """``value`` with everything that JSON or UTF-8 refuses replaced by a description."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, int):
        bits = value.bit_length()
        return value if bits <= _PRINTABLE_BITS else f"<integer of {bits} bits>"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {
            _clean(key) if isinstance(key, str) else str(_describe(key)): _plain(item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value]
    return _describe(value)


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def outline(metadata: Any) -> dict[str, Any] | None:
    """The short plain entries of large metadata: executions are filtered by them."""
    budget = JSON_BYTES
    entries: dict[str, Any] = {}
    for key, item in metadata.items() if isinstance(metadata, dict) else ():
        if isinstance(key, str) and isinstance(item, (str, int, float)):
            cost = 8 + len(key) + (len(item) if isinstance(item, str) else 8)
            if cost <= budget:
                budget -= cost
                entries[key] = item
    return entries or None


def is_small(value: Any) -> bool:
    """Whether ``value`` is below :data:`JSON_BYTES`, looking at no more of it than that."""
    budget = JSON_BYTES
    rest = [value]
    while rest and budget >= 0:
        item = rest.pop()
        if isinstance(item, (str, bytes, bytearray)):
            budget -= len(item)
        elif isinstance(item, dict):
            budget -= 4 * len(item)
            if budget >= 0:
                rest += item.keys()
                rest += item.values()
        elif isinstance(item, (list, tuple)):
            budget -= 2 * len(item)
            if budget >= 0:
                rest += item
        else:
            budget -= 4
    return budget >= 0


def plain_text(value: Any) -> str | None:
    """``value`` as text that UTF-8 can carry; None for what is no string."""
    return _clean(value) if isinstance(value, str) else None


def real(value: Any) -> float | None:
    """``value`` as a finite number; None for what is none."""
    if type(value) is float and math.isfinite(value):
        return value
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
