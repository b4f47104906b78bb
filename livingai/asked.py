"""Arguments of a question, checked where it is asked: what makes no sense is refused there, by its
name, and not by the store that happens to be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from livingai.errors import ConfigurationError

_INT64: Final = 1 << 63


def check_text(value: object, name: str) -> None:
    """Raise ConfigurationError unless ``value`` is text that every store can look for."""
    if isinstance(value, str):
        if value.isascii():
            return
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return
    raise ConfigurationError(
        f"{name} must be text (a str without lone surrogates), not {shown(value)}"
    )


def check_count(value: object, name: str, most: int) -> None:
    """Raise ConfigurationError unless ``value`` is an integer from 1 to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ConfigurationError(f"{name} must be an integer from 1 to {most}, not {shown(value)}")


def as_seconds(value: object, name: str) -> float:
    """``value`` as a number of seconds, which may be infinite.

    Raises:
        ConfigurationError: it is no number: a datetime, for example.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            pass
        else:
            if not math.isnan(seconds):
                return seconds
    raise ConfigurationError(
        f"{name} must be a number of seconds (a datetime's timestamp()), not {shown(value)}"
    )


def check_plain(values: object, name: str) -> None:
    """Raise ConfigurationError unless ``values`` is a dict of values that every store can compare:
    text, bools, finite numbers, of integers those of 64 bits."""
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{name} must be a dict, not {shown(values)}")
    for key, value in values.items():
        check_text(key, f"a key of {name}")
        place = f"{name}[{shown(key)}]"
        if isinstance(value, str):
            check_text(value, place)
        elif isinstance(value, float) and math.isfinite(value):
            pass
        elif not isinstance(value, int) or not -_INT64 <= value < _INT64:
            raise ConfigurationError(
                f"{place} must be a text, a number or a bool (finite; an integer from -2**63 to "
                f"2**63 - 1), not {shown(value)}"
            )


def shown(value: Any) -> str:
    """The beginning of ``repr(value)``, or its type where that cannot be shown."""
    try:
        return f"{value!r:.100}"
    except Exception:  # an integer of too many digits, or a class of the caller's
        return f"something of type {type(value).__name__}"
