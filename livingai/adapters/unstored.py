"""Pages of a shared log with the entries of this process that are not stored yet.

A read that has to see what was appended before may wait until that is stored. For its own entries a
process need not wait: it has them in memory. Then it asks for what the store has, and puts the rest
in by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from livingai import serial
from livingai.adapters.unsettled import LogEntry
from livingai.node import ExecutionNode
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.protocol.sections import decode_checkpoint, encode_sections
from livingai.stores.ranges import NodeRange

#: The epoch of versions that the store has not given yet: above all that it gives.
UNSTORED_EPOCH: Final = 1 << 62
#: More bytes than an entry has: the engine has taken it.
_ANY: Final = 1 << 62


def with_unstored(page: NodePage, asked: NodeRange, entries: Sequence[LogEntry]) -> NodePage:
    """The page that the store would have given for ``asked`` if it had stored ``entries``, too.
    Those that it has not have versions above all others."""
    if not entries:
        return page
    found: dict[str, RangedNode | LogEntry] = {each.node.id: each for each in page.nodes}
    last = page.nodes[-1].node.id if page.rest is not None else None
    for entry in entries:
        node_id = entry.node.id
        if node_id in found or not asked.has(node_id, (UNSTORED_EPOCH, entry.number)):
            continue
        if last is not None and (node_id < last if asked.backwards else node_id > last):
            continue  # of a later page
        found[node_id] = entry
    ids = sorted(found, reverse=asked.backwards)
    more = page.rest is not None or len(ids) > asked.limit
    ids = ids[: asked.limit]
    # What is large is copied only if it is on the page.
    nodes = tuple(_ranged(found[node_id], states=asked.states) for node_id in ids)
    return NodePage(nodes, asked.rest(ids[-1]) if more else None)


def _ranged(found: RangedNode | LogEntry, *, states: bool) -> RangedNode:
    if isinstance(found, RangedNode):
        return found
    version = UNSTORED_EPOCH, found.number
    return RangedNode(*_copy(found, states=states), version, version)


def _copy(entry: LogEntry, *, states: bool) -> tuple[ExecutionNode, object]:
    """Node and state as they come back from the store: whoever reads may change them."""
    if not states:
        wire = serial.unpack(serial.pack(entry.node.to_wire()))
        return ExecutionNode.from_wire(wire), None  # type: ignore[arg-type]
    node, _, kind, raw = encode_sections(entry.node, entry.state, None, _ANY)
    raw_or_none = raw if kind else None
    return decode_checkpoint(node, kind, raw_or_none, entry.node.execution_id)
