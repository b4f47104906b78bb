"""Which items and namespaces a search asks for: LangGraph's filters and match conditions.

Values are compared as JSON has them, as LangGraph's stores on databases do: true is not 1, and
numbers are ordered among numbers, texts among texts; between others there is no order. What a value
does not have is null: it equals None, and nothing else can be said of it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from langgraph.store.base import MatchCondition

from livingai.asked import shown
from livingai.errors import ConfigurationError

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class ValueFilter:
    """A search's ``filter``: whether a value has all that it asks for.

    Raises:
        ConfigurationError: an operator is not known; it is a ValueError, as in other stores.
    """

    def __init__(self, wanted: Mapping[str, Any] | None) -> None:
        self._wanted = dict(wanted or {})
        for value in self._wanted.values():
            _check(value)

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def fits(self, value: Mapping[str, Any]) -> bool:
        """Whether the value is asked for."""
        return all(_fits(value.get(key), wanted) for key, wanted in self._wanted.items())


def _check(wanted: Any) -> None:
    if not isinstance(wanted, Mapping):
        return
    if _has_operators(wanted):
        unknown = [key for key in wanted if key not in {"$eq", "$ne", *_ORDERS}]
        if unknown:
            raise ConfigurationError(
                f"Unsupported operator: {shown(unknown[0])}; a filter may have $eq, $ne, "
                f"{', '.join(_ORDERS)}"
            )
        return
    for value in wanted.values():
        _check(value)


def _has_operators(wanted: Mapping[Any, Any]) -> bool:
    return any(isinstance(key, str) and key.startswith("$") for key in wanted)


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if _has_operators(wanted):
            return all(_compared(value, name, other) for name, other in wanted.items())
        return isinstance(value, Mapping) and all(
            _fits(value.get(key), each) for key, each in wanted.items()
        )
    return _equal(value, wanted)


def _compared(value: Any, name: str, other: Any) -> bool:
    if name == "$eq":
        return _equal(value, other)
    if name == "$ne":
        return (value is not None or other is None) and not _equal(value, other)
    kind = _kind(value)
    return kind in (float, str) and kind is _kind(other) and _ORDERS[name](value, other)


def _equal(value: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(
            _equal(each, other[key]) for key, each in value.items()
        )
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_equal, value, other))
    return _kind(value) is _kind(other) and bool(value == other)


def _kind(value: Any) -> type:
    """The type of a value in JSON, which has one for all numbers."""
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, int | float) else type(value)


def matches(namespace: Sequence[str], conditions: Iterable[MatchCondition]) -> bool:
    """Whether a namespace meets all conditions; ``*`` stands for any label.

    Raises:
        ConfigurationError: a condition is neither a prefix nor a suffix.
    """
    return all(_matches(namespace, *condition) for condition in conditions)


def _matches(namespace: Sequence[str], kind: str, path: Sequence[str]) -> bool:
    if kind not in ("prefix", "suffix"):
        raise ConfigurationError(f"Unsupported match type: {kind!r}; it is 'prefix' or 'suffix'")
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if kind == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))


def common_prefix(conditions: Iterable[MatchCondition]) -> tuple[str, ...]:
    """Labels that every namespace begins with that meets the conditions: as many as one says."""
    longest: tuple[str, ...] = ()
    for kind, path in conditions:
        plain = tuple(path[: path.index("*")] if "*" in path else path)
        if kind == "prefix" and len(plain) > len(longest):
            longest = plain
    return longest
