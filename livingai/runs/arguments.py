"""Arguments that cannot be encoded, as plain values: enough to distinguish two calls, and to read.

The description is only compared and shown, never passed to a function, so it need not be
reversible. An object of a class that declares its fields (dataclass, pydantic model, attrs class,
named tuple) is described by them, an enum's member by its name, anything else by its type alone:
its attributes may be anything, such as an open connection or a counter, and differ between two
processes.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Final

from livingai import serial
from livingai.errors import StateEncodingError

#: Deeper values are described by their type; so is one that contains itself.
_MOST_LEVELS: Final = 16


def describable(value: Any, levels: int = _MOST_LEVELS) -> Any:
    """``value`` if it can be encoded, else what describes it."""
    try:
        serial.pack(value)
    except StateEncodingError:
        return _described(value, levels - 1)
    return value


def _described(value: Any, levels: int) -> Any:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if levels <= 0:
        return {"not_encodable": name}
    if kind is dict:
        return {_key(key): describable(item, levels) for key, item in value.items()}
    if kind in (list, tuple):
        return kind(describable(item, levels) for item in value)
    if isinstance(value, enum.Enum):
        return {"enum": name, "member": value.name}
    fields = _fields(value)
    if fields is None:
        return {"not_encodable": name}
    return {"object": name, "fields": {key: describable(each, levels) for key, each in fields}}


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """What the class of ``value`` declares, with the values; None if it declares nothing."""
    kind = type(value)
    names: list[str] | None = None
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.compare]
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    elif isinstance(getattr(kind, "model_fields", None), dict):  # pydantic
        names = list(kind.model_fields)
    elif isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    if names is None:
        return None
    return [(name, getattr(value, name)) for name in names if hasattr(value, name)]


def _key(key: Any) -> Any:
    try:
        serial.pack(key)
    except StateEncodingError:
        return repr(key) if isinstance(key, enum.Enum) else type(key).__qualname__
    return key
