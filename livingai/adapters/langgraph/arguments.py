"""What the classes of this adapter are given, checked where they are given it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.store.base import TTLConfig

from livingai.asked import shown
from livingai.errors import ConfigurationError


def plain_dict(value: object) -> dict[str, Any]:
    """An item's value as a dict; raises ConfigurationError unless it is one with text as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"an item's value is a dict with text as keys, not {shown(value)}")
    return dict(value)


def count(value: object, name: str) -> int:
    """The value; raises ConfigurationError unless it is an integer from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(f"{name} must be an integer from 0 on, not {shown(value)}")
    return value


def minutes(value: object, name: str) -> float:
    """The value; raises ConfigurationError unless it is a number of minutes above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise ConfigurationError(f"{name} is a number of minutes above 0, not {shown(value)}")
    return float(value)


def ttl_config(ttl: TTLConfig | None) -> TTLConfig | None:
    """A store's settings of what expires; raises ConfigurationError unless they make sense."""
    if ttl is None:
        return None
    known = {"refresh_on_read", "omit_expired", "default_ttl", "sweep_interval_minutes"}
    if not isinstance(ttl, Mapping) or set(ttl) - known:
        raise ConfigurationError(f"ttl is a dict that may have {', '.join(sorted(known))}")
    for name in ("default_ttl", "sweep_interval_minutes"):
        if ttl.get(name) is not None:
            minutes(ttl[name], name)
    return TTLConfig(**ttl)
