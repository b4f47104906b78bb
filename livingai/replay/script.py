"""What a replay of a graph wants done: calls of the handler, and saves.

The logic is a generator that yields these and is sent what came of them (an :class:`Answer` for a
:class:`Call`); :mod:`livingai.replay.drive` does them, awaiting or not.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from livingai.node import ExecutionNode
from livingai.replay.mode import ReplayMode


class ReplayInputs:
    """What a handler may want to know beside the node.

    ``input`` is the node's input (perhaps replaced), ``parent_output`` the output of its parent in
    this replay, ``outputs`` all outputs so far by recorded node id. ``state`` is the agent's state:
    at first the restored checkpoint, later whatever the handler has set; a state is saved with each
    node that runs. ``cost_tokens`` is for the handler to set.
    """

    __slots__ = ("cost_tokens", "input", "mode", "outputs", "parent_output", "state")

    def __init__(
        self, node: ExecutionNode, mode: ReplayMode, outputs: dict[str, Any], state: Any
    ) -> None:
        self.input = node.input
        self.mode = mode
        self.outputs: Mapping[str, Any] = MappingProxyType(outputs)
        self.parent_output = outputs.get(node.parent_id) if node.parent_id else None
        self.state = state
        self.cost_tokens = 0


@dataclass(frozen=True, slots=True)
class Call:
    """Call the handler; the answer is an :class:`Answer`."""

    node: ExecutionNode
    inputs: ReplayInputs


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returned or raised, and how long it took."""

    output: Any = None
    error: Exception | None = None
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Save:
    """Save a node of the new execution; ``intent``: it must be on disk before the next step."""

    node: ExecutionNode
    state: Any = None
    intent: bool = False


Script = Generator[Call | Save, Any, None]
