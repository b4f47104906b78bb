"""What ``@step`` and ``@tool`` remember of a function, and how a run finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from livingai.node import NodeType
from livingai.runs.calls import CallOptions

#: Attribute of a decorated function that holds its :class:`RecordedFunction`.
MARK: Final = "__livingai_call__"


class RecordedFunction(NamedTuple):
    """What a decorator knows of its function."""

    kind: NodeType
    name: str
    function: Callable[..., Any]
    options: CallOptions


def recorded_function(function: Callable[..., Any]) -> RecordedFunction | None:
    """What the decorator of ``function`` knows; None if it has none."""
    found = getattr(function, MARK, None)
    return found if isinstance(found, RecordedFunction) else None
