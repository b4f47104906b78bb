"""How a recorded run is replayed: the four modes, and what is replaced in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypedDict

from livingai.asked import check_text
from livingai.errors import ConfigurationError
from livingai.keywords import check_keywords
from livingai.names_04 import refuse_old
from livingai.runs.diff import NOTHING


class ReplayMode(StrEnum):
    """What runs again and what is served from the record; ``docs/REPLAY.md`` has the table."""

    #: Everything runs again. Tools with side effects need ``allow_side_effects=True``.
    FULL = "full"
    #: What comes before a node is served, the rest runs again from the checkpoint before it.
    FROM_NODE = "from_node"
    #: Reasoning runs again, tools are served: no tool is called.
    MOCK_TOOLS = "mock_tools"
    #: One node gets another input or output; what depends on it runs again, the rest is served.
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
    overrides: Mapping[str, Override] = field(default_factory=dict)
    allow_side_effects: bool = False
    allow_live: bool = False
    strict: bool = False
    new_id: str | None = None


class ReplayKeywords(TypedDict, total=False):
    """Keywords of :meth:`ReplaySession.run <livingai.ReplaySession.run>`."""

    #: What runs again and what is served, see :class:`ReplayMode`; MOCK_TOOLS if it is not given.
    mode: ReplayMode | str
    #: FROM_NODE: the first node that runs. COUNTERFACTUAL: the node that ``overrides`` is about.
    #: Its id, the path of its call (reports print it), or its name if no other node has that.
    node_id: str | None
    #: COUNTERFACTUAL: ``{"input": ...}`` or ``{"output": ...}`` of the node ``node_id``, or without
    #: a ``node_id`` such a dict per node, named in the same way.
    overrides: Mapping[str, Any] | None
    #: Calls that are not idempotent may really be made.
    allow_side_effects: bool
    #: Replay what is there of a run that is still being written.
    allow_live: bool
    #: Raise if the replay is not the same as the record.
    strict: bool
    #: The id of the new execution.
    new_id: str | None


def make_request(options: ReplayKeywords) -> Request:
    """Check what was asked for.

    Raises:
        ConfigurationError: a keyword or mode is unknown, or the mode lacks or cannot use what it
            was given.
    """
    refuse_old(options, "ReplaySession.run")
    check_keywords(options, ReplayKeywords.__annotations__, "option of a replay")
    mode = options.get("mode", ReplayMode.MOCK_TOOLS)
    node_id, overrides = options.get("node_id"), options.get("overrides")
    try:
        mode = ReplayMode(mode)
    except ValueError as error:
        names = ", ".join(mode.value for mode in ReplayMode)
        raise ConfigurationError(
            f"there is no replay mode {mode!r}; choose one of {names}"
        ) from error
    if node_id is not None and not isinstance(node_id, str):
        raise ConfigurationError(
            f"node_id must be the id, path or name of a call, not {node_id!r:.200}"
        )
    new_id = options.get("new_id")
    if new_id is not None:
        check_text(new_id, "new_id")
    if mode is ReplayMode.FROM_NODE and node_id is None:
        raise ConfigurationError(
            "FROM_NODE needs node_id=..., the id, path or name of the first node that runs again"
        )
    if mode is not ReplayMode.COUNTERFACTUAL:
        if overrides:
            raise ConfigurationError(
                f"{mode.name} takes no overrides; leave them out, or use mode=COUNTERFACTUAL"
            )
        if mode is not ReplayMode.FROM_NODE and node_id is not None:
            raise ConfigurationError(
                f"{mode.name} takes no node_id; leave it out, or use FROM_NODE or COUNTERFACTUAL"
            )
        return _request(mode, {}, options)
    if not overrides:
        raise ConfigurationError(
            'COUNTERFACTUAL needs overrides={"output": ...} (or "input") with node_id=...'
        )
    if not isinstance(overrides, Mapping):
        raise ConfigurationError(
            'overrides must be a dict such as {"output": ...} with node_id=..., '
            f"not {overrides!r:.200}"
        )
    if (
        node_id is None
        and set(overrides) <= _FIELDS
        and not all(map(_is_override, overrides.values()))
    ):
        raise ConfigurationError(
            f"COUNTERFACTUAL needs node_id=..., the id, path or name of the node whose "
            f"{' and '.join(sorted(overrides))} is replaced"
        )
    by_node = {node_id: overrides} if node_id is not None else dict(overrides)
    return _request(mode, {str(key): _override(key, one) for key, one in by_node.items()}, options)


def _request(
    mode: ReplayMode, overrides: Mapping[str, Override], options: ReplayKeywords
) -> Request:
    return Request(
        mode, options.get("node_id"), overrides, options.get("allow_side_effects", False),
        options.get("allow_live", False), options.get("strict", False), options.get("new_id"),
    )  # fmt: skip


def _is_override(given: Any) -> bool:
    return isinstance(given, Override) or (
        isinstance(given, Mapping) and bool(given) and set(given) <= _FIELDS
    )


def _override(node_id: Any, given: Any) -> Override:
    if isinstance(given, Override):
        return given
    if not _is_override(given):
        raise ConfigurationError(
            f'the override of {node_id!r} must be {{"input": ...}} or {{"output": ...}}; name the '
            "node by node_id=... or as the key of overrides"
        )
    if len(given) == 2:
        raise ConfigurationError(
            f"the override of {node_id!r} replaces both input and output: give one of them. With "
            "its output given the node does not run, so its input has no effect"
        )
    return Override(**given)
