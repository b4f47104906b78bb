"""Ranges of texts that begin alike, for indexes that are sorted by code point."""

from __future__ import annotations

from typing import Final

_LAST_CODE_POINT: Final = 0x10FFFF


def behind(prefix: str) -> str | None:
    """The smallest text that is larger than all that begin with ``prefix``; None: there is none."""
    while prefix:
        point = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if point <= _LAST_CODE_POINT:
            # Surrogates are no characters: U+D7FF is followed by U+E000.
            return prefix + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)
    return None
