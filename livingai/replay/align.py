"""Which recorded node each node of a replayed program is compared with.

In this order: same place and same call; same call elsewhere, in order; same place and name with
other arguments; same name, in order. What is left is new or missing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence

from livingai import serial
from livingai.node import ExecutionNode
from livingai.replay.compare import How, NodeComparison, compare, name_of
from livingai.runs.calls import CALL

_Key = Callable[[ExecutionNode], Hashable]


def _named(node: ExecutionNode) -> Hashable:
    return node.type, name_of(node)


def _called(node: ExecutionNode) -> Hashable:
    return node.type, name_of(node), serial.pack(node.input)


def _place(node: ExecutionNode) -> Hashable:
    return node.metadata.get(CALL)


_PASSES: tuple[_Key, ...] = (
    lambda node: (_place(node), _called(node)),
    _called,
    lambda node: (_place(node), _named(node)),
    _named,
)


def align(
    recorded: Sequence[ExecutionNode], replayed: Sequence[ExecutionNode]
) -> tuple[NodeComparison, ...]:
    """Compare the calls of two executions, in order of the replay; what is missing comes last."""
    partner: dict[str, ExecutionNode] = {}
    left = list(recorded)
    for key in _PASSES:
        waiting: dict[Hashable, deque[ExecutionNode]] = defaultdict(deque)
        for node in left:
            waiting[key(node)].append(node)
        for node in replayed:
            if node.id not in partner and waiting.get(key(node)):
                partner[node.id] = waiting[key(node)].popleft()
        left = [node for found in waiting.values() for node in found]
    taken = {node.id for node in partner.values()}
    found = [compare(partner.get(node.id), node, _how(node)) for node in replayed]
    found += [compare(node, None) for node in recorded if node.id not in taken]
    return tuple(found)


def _how(node: ExecutionNode) -> How:
    try:
        return How(node.metadata.get("replayed", How.RUN))
    except ValueError:
        return How.RUN
