"""Values compared with their types."""

from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from livingai.serial import pack, unpack

BERLIN = ZoneInfo("Europe/Berlin")


def shown(value: Any) -> str:
    """`value` as a text that is equal only for the same value of the same types, NaN included."""
    kind = type(value)
    if kind in (list, tuple):
        inner = ", ".join(map(shown, value))
    elif kind in (set, frozenset):
        inner = ", ".join(sorted(map(shown, value)))
    elif kind is dict:
        inner = ", ".join(f"{shown(key)}: {shown(item)}" for key, item in value.items())
    else:
        inner = repr(value)
    return f"{kind.__name__}({inner})"


def assert_survives(value: Any) -> None:
    assert shown(unpack(pack(value))) == shown(value)


class Foreign(tzinfo):
    """A tzinfo of some library."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else timedelta(hours=5)

    def tzname(self, moment: datetime | None) -> str:
        return "foreign"

    def dst(self, moment: datetime | None) -> None:
        return None
