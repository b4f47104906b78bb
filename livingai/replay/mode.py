"""How a recorded run is replayed: the four modes, and what is replaced in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from livingai.errors import ConfigurationError
from livingai.replay.diff import NOTHING


class ReplayMode(StrEnum):
    """What runs again and what is served from the record; ``docs/REPLAY.md`` has the table."""

    #: Everything runs again. Tools with side effects need ``allow_side_effects=True``.
    FULL = "full"
    #: What comes before a node is served, the rest runs again from the checkpoint before it.
    FROM_NODE = "from_node"
    #: Reasoning runs again, tools are served: no tool is called.
    MOCK_TOOLS = "mock_tools"
    #: One node's input or output is another; what depends on it runs again, the rest is served.
    COUNTERFACTUAL = "counterfactual"


_FIELDS: Final = frozenset({"input", "output"})


@dataclass(frozen=True, slots=True)
class Override:
    """What a node gets (``input``) or gives (``output``) instead of what was recorded."""

    input: Any = NOTHING
    output: Any = NOTHING

    @property
    def has_input(self) -> bool:
        """Whether the input is replaced."""
        return self.input is not NOTHING

    @property
    def has_output(self) -> bool:
        """Whether the output is replaced."""
        return self.output is not NOTHING


@dataclass(frozen=True, slots=True)
class Request:
    """What :meth:`ReplaySession.run <livingai.ReplaySession.run>` was asked for, checked."""

    mode: ReplayMode
    node_id: str | None
    overrides: Mapping[str, Override]
    allow_side_effects: bool


def make_request(
    mode: ReplayMode | str,
    node_id: str | None,
    overrides: Mapping[str, Any] | None,
    allow_side_effects: bool,
) -> Request:
    """Check what was asked for.

    ``overrides`` is ``{"input": ...}`` or ``{"output": ...}`` of the node ``node_id``, or without a
    ``node_id`` ``{node id: {"input" or "output": ...}}``.

    Raises:
        ConfigurationError: the mode is unknown, or it lacks or cannot use what it was given.
    """
    try:
        mode = ReplayMode(mode)
    except ValueError as error:
        names = ", ".join(mode.value for mode in ReplayMode)
        raise ConfigurationError(f"there is no replay mode {mode!r}; modes: {names}") from error
    if mode is ReplayMode.FROM_NODE and node_id is None:
        raise ConfigurationError("FROM_NODE needs node_id=..., the first node that runs again")
    if mode is not ReplayMode.COUNTERFACTUAL:
        if overrides:
            raise ConfigurationError(f"overrides are for COUNTERFACTUAL, not for {mode.name}")
        if mode is not ReplayMode.FROM_NODE and node_id is not None:
            raise ConfigurationError(f"node_id is not for {mode.name}")
        return Request(mode, node_id, {}, allow_side_effects)
    if not overrides:
        raise ConfigurationError(
            'COUNTERFACTUAL needs overrides={"output": ...} (or "input") with node_id=...'
        )
    by_node = {node_id: overrides} if node_id is not None else dict(overrides)
    return Request(
        mode, node_id, {str(key): _override(key, one) for key, one in by_node.items()},
        allow_side_effects,
    )  # fmt: skip


def _override(node_id: Any, given: Any) -> Override:
    if isinstance(given, Override):
        return given
    if not isinstance(given, Mapping) or not given or not set(given) <= _FIELDS:
        raise ConfigurationError(
            f'the override of {node_id!r} must be {{"input": ...}} or {{"output": ...}}; name the '
            "node by node_id=... or as the key of overrides"
        )
    if len(given) == 2:
        raise ConfigurationError(
            f"the override of {node_id!r} replaces both input and output: with its output given "
            "the node does not run, so its input would not be looked at"
        )
    return Override(**given)
