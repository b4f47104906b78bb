"""Pages of an execution's nodes in order of id: the typed answer to a range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from livingai.node import ExecutionNode
from livingai.protocol.sections import decode_checkpoint
from livingai.protocol.verbs import PackedPage
from livingai.stores.ranges import NodeRange, Version


class RangedNode(NamedTuple):
    """A node in its newest version, with the state that it was saved with (None: there is none, or
    it was not asked for), the (epoch, seq) of that version and of the node's first save."""

    node: ExecutionNode
    state: Any
    version: Version
    first: Version


@dataclass(frozen=True, slots=True)
class NodePage:
    """Nodes in the order that was asked for. ``rest`` is the range of those that may follow, to be
    asked next; None: there are no more."""

    nodes: tuple[RangedNode, ...]
    rest: NodeRange | None = None

    def __iter__(self) -> Iterator[RangedNode]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)


def unpack_page(answer: PackedPage, asked: NodeRange, execution_id: str) -> NodePage:
    """The page that the service answered to ``asked``.

    Raises:
        CorruptRowError, CorruptBlobError: a row of the store does not decode.
    """
    nodes = tuple(
        RangedNode(
            *decode_checkpoint(entry.node, entry.state_kind, entry.state, execution_id),
            (entry.epoch, entry.seq), (entry.first_epoch, entry.first_seq),
        )
        for entry in answer.entries
    )  # fmt: skip
    rest = asked.rest(nodes[-1].node.id) if answer.more and nodes else None
    return NodePage(nodes, rest)
