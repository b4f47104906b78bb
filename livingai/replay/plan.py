"""What a replay over the recorded graph would do, before anything is called or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from livingai.node import ExecutionNode
from livingai.replay.compare import How
from livingai.replay.graph import GraphReplay
from livingai.replay.mode import ReplayKeywords, make_request
from livingai.replay.recording import Recording
from livingai.replay.session import by_ids


@dataclass(frozen=True, slots=True)
class ReplayedNode:
    """A recorded node, what a replay would do with it, and whether that needs consent: it is a call
    with side effects that would really be made."""

    node: ExecutionNode
    how: How
    needs_consent: bool


def plan_replay(
    execution_id: str, nodes: Sequence[ExecutionNode], options: ReplayKeywords
) -> list[ReplayedNode]:
    """What :meth:`ReplaySession.run <livingai.ReplaySession.run>` would do with these nodes, given
    a handler and consent to what has side effects.

    Raises:
        ConfigurationError: mode and other options do not fit together.
        NodeNotFoundError: there is no such node.
    """
    recording = Recording(execution_id, nodes)
    request = replace(by_ids(make_request(options), recording), allow_side_effects=True)
    running = {node.id for node in GraphReplay(recording, request, "", None).running_nodes}
    replaced = {key for key, each in request.overrides.items() if each.has_output}
    return [
        ReplayedNode(
            node,
            How.REPLACED if node.id in replaced else How.RUN if node.id in running else How.SERVED,
            node.id in running and not node.idempotent,
        )
        for node in recording.nodes
    ]
