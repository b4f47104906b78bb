"""Differences between two values, by place: what a person reads first when a replay diverges.

Types count (1, 1.0 and True differ, a tuple is not a list), the order of a dict's keys does not,
and a NaN equals a NaN. Values are nested as deeply as :func:`livingai.serial.pack` takes them, so
nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

#: Most differences that are listed for two values.
MAX_DIFFERENCES: Final = 20
#: Characters of a value that are shown, and of a text around the place where it differs.
_SHOWN: Final = 70
_CONTEXT: Final = 24


class _Nothing:
    """Placeholder for a value that one side does not have."""

    def __repr__(self) -> str:
        return "(nothing)"


#: The value of a side that has none at this place (which differs from having None there).
NOTHING: Final = _Nothing()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place that differs: ``path`` (such as ``output.rows[2].name``), the value in the record
    and the value in the replay; :data:`NOTHING` where a side has none."""

    path: str
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        if isinstance(self.recorded, str) and isinstance(self.replayed, str):
            recorded, replayed = _around(self.recorded, self.replayed)
        else:
            recorded, replayed = _short(self.recorded), _short(self.replayed)
        return f"{self.path}: {recorded} -> {replayed}"


def differences(
    recorded: Any, replayed: Any, path: str = "", limit: int = MAX_DIFFERENCES
) -> tuple[Difference, ...]:
    """The first ``limit`` places in which two values differ, in order; empty if they are equal."""
    found: list[Difference] = []
    waiting = [(path, recorded, replayed)]
    while waiting and len(found) < limit:
        place, one, other = waiting.pop()
        if type(one) is not type(other):
            found.append(Difference(place or "value", one, other))
        elif isinstance(one, dict):
            waiting += reversed(list(_of_dicts(place, one, other)))
        elif isinstance(one, list | tuple):
            waiting += reversed(list(_of_lists(place, one, other)))
        elif not (one == other or (one != one and other != other)):  # noqa: PLR0124 - NaN
            found.append(Difference(place or "value", one, other))
    return tuple(found)


def _of_dicts(
    path: str, one: dict[Any, Any], other: dict[Any, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for key in [*one, *(key for key in other if key not in one)]:
        name = key if isinstance(key, str) and key.isidentifier() else f"[{_short(key)}]"
        place = f"{path}.{name}" if path and not name.startswith("[") else f"{path}{name}"
        yield place, one.get(key, NOTHING), other.get(key, NOTHING)


def _of_lists(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    for at in range(max(len(one), len(other))):
        yield (
            f"{path}[{at}]",
            one[at] if at < len(one) else NOTHING,
            other[at] if at < len(other) else NOTHING,
        )


def _short(value: Any) -> str:
    """``repr``, cut; a large value is not written out in full first."""
    if isinstance(value, str | bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}... ({len(value)} in all)"
    if isinstance(value, list | tuple | dict | set | frozenset) and len(value) > _SHOWN:
        return f"<{type(value).__name__} of {len(value)}>"
    try:
        text = repr(value)
    except RecursionError:
        return f"<{type(value).__name__}, deeply nested>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _around(one: str, other: str) -> tuple[str, str]:
    """Two texts, cut to where they begin to differ."""
    if max(len(one), len(other)) <= _SHOWN:
        return repr(one), repr(other)
    at = 0
    for at, (left, right) in enumerate(zip(one, other, strict=False)):  # noqa: B007 - used below
        if left != right:
            break
    else:
        at = min(len(one), len(other))
    start = max(0, at - _CONTEXT)
    return _cut(one, start), _cut(other, start)


def _cut(text: str, start: int) -> str:
    part = text[start : start + _SHOWN]
    before = "..." if start else ""
    after = "..." if start + _SHOWN < len(text) else ""
    return f"{before}{part!r}{after}"
