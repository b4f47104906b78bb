"""The status of an execution: what its line says of its status, its error and its last life.

Rules:

1. An execution in which a *life* is recorded (one process's time in ``engine.run``) is a run. Its
   status, error and times are those of the newest record of a life, by (epoch, seq), whatever else
   of it was written later: a run that is killed behind a step that succeeded has not succeeded.
2. A life that is PENDING has recorded nothing yet: the run was only entered. It does not count.
3. Any other execution has the status of its newest write.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from livingai.node import NodeField
from livingai.stores.shared.human import plain_text, real

#: What :class:`livingai.runs.run.Run` writes of its lives (``livingai/runs/calls.py``), and what
#: the life of :class:`livingai.runs.recovery.RecoveryEngine` is called, which is not one of a run.
_TYPE, _ROLE, _RUN, _RECOVERY = "memory", "role", "run", "recovery"
_PENDING: Final = "pending"
_LONGEST_CHARS: Final = 400
# Plain integers: an index through the enum costs twice as much, and every write takes several.
_KIND: Final = int(NodeField.TYPE)
_STATUS: Final = int(NodeField.STATUS)
_CREATED_AT: Final = int(NodeField.CREATED_AT)
_COMPLETED_AT: Final = int(NodeField.COMPLETED_AT)
_ERROR: Final = int(NodeField.ERROR)
_METADATA: Final = int(NodeField.METADATA)


class Standing(NamedTuple):
    """What one write says of its execution. ``error`` is "type: message" in one line, "" without
    one; ``entered_at`` and ``ended_at`` are a life's, in seconds since the Unix epoch."""

    is_life: bool
    error: str
    entered_at: float | None
    ended_at: float | None


def is_life(wire: list[Any]) -> bool:
    """Whether a node section is the record of a life that has begun its work (rules 1 and 2)."""
    metadata = wire[_METADATA]
    return (
        isinstance(metadata, dict)
        and metadata.get(_ROLE) == _RUN
        and wire[_KIND] == _TYPE
        and wire[_STATUS] != _PENDING
        and metadata.get("name") != _RECOVERY
    )


def standing(wire: list[Any]) -> Standing:
    """What a node section says of its execution."""
    if not is_life(wire):
        return Standing(False, _error_line(wire[_ERROR]), None, None)
    return Standing(
        True,
        _error_line(wire[_ERROR]),
        real(wire[_CREATED_AT]),
        real(wire[_COMPLETED_AT]),
    )


def _error_line(error: Any) -> str:
    if not isinstance(error, (list, tuple)) or len(error) < 2:
        return ""
    name, message = (plain_text(part) or "" for part in error[:2])
    line = " ".join(f"{name}: {message[: 4 * _LONGEST_CHARS]}".replace("\0", "\\0").split())
    return (line if len(line) <= _LONGEST_CHARS else f"{line[:_LONGEST_CHARS]}…").removesuffix(":")
