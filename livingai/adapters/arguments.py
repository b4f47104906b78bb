"""Arguments that most adapters take, checked where they are given."""

from __future__ import annotations

from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.outcome import Durability


def check_engine(engine: object) -> None:
    """Raise ConfigurationError unless it is an engine."""
    if not isinstance(engine, CheckpointEngine):
        raise ConfigurationError(f"engine must be a CheckpointEngine, not {shown(engine)}")


def check_durability(durability: object, name: str = "durability") -> None:
    """Raise ConfigurationError unless it is a level, or None for the engine's."""
    if durability is not None and not isinstance(durability, Durability):
        raise ConfigurationError(
            f"{name} must be a livingai.Durability or None, not {shown(durability)}"
        )
