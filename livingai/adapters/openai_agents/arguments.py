"""What the classes and functions of this adapter are given, checked where they are given it."""

from __future__ import annotations

from typing import Final

from livingai.adapters.arguments import check_engine
from livingai.adapters.moments import Moments
from livingai.asked import shown
from livingai.errors import ConfigurationError

#: In the ids of executions, and in ``metadata["framework"]`` of nodes.
FRAMEWORK: Final = "openai-agents"
#: Those of this process's entries. What a forked child makes differs in the random digits.
MOMENTS: Final = Moments()


def check_place(engine: object, name: object, what: str) -> None:
    """Raise ConfigurationError unless the engine is one and the name some text."""
    check_engine(engine)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{what} must be a non-empty str, not {shown(name)}")
