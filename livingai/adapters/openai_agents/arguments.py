"""What the classes and functions of this adapter are given, checked where they are given it."""

from __future__ import annotations

from typing import Final

from livingai.adapters.moments import Moments
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.outcome import Durability

#: In the ids of executions, and in ``metadata["framework"]`` of nodes.
FRAMEWORK: Final = "openai-agents"
#: Those of this process's entries. What a forked child makes differs in the random digits.
MOMENTS: Final = Moments()


def check_place(engine: object, name: object, what: str) -> None:
    """Raise ConfigurationError unless the engine is one and the name some text."""
    if not isinstance(engine, CheckpointEngine):
        raise ConfigurationError(f"engine must be a CheckpointEngine, not {shown(engine)}")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{what} must be a non-empty str, not {shown(name)}")


def check_durability(durability: object) -> None:
    """Raise ConfigurationError unless it is None or a level."""
    if durability is not None and not isinstance(durability, Durability):
        raise ConfigurationError(
            f"durability must be a Durability such as Durability.FSYNC, not {shown(durability)}"
        )
