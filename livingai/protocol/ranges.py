"""Pages of an execution's nodes in order of id: the typed answer to a range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from livingai.errors import ServiceError
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


class RangesAsked:
    """Several ranges of one execution that are asked at once. An answer may leave some of them out,
    where the others are large; those are asked again, until :attr:`left` is empty."""

    def __init__(self, execution_id: str, asked: Sequence[NodeRange]) -> None:
        self._execution_id = execution_id
        self._pages: list[NodePage | None] = [None] * len(asked)
        #: By their places in the answer.
        self.left = dict(enumerate(asked))

    def to_wire(self) -> list[Any]:
        """What has to be asked next."""
        return [each.to_wire() for each in self.left.values()]

    def take(self, answers: Sequence[PackedPage]) -> None:
        """Unpack what the service answered to :meth:`to_wire`.

        Raises:
            ServiceError: it is no answer to that.
            CorruptRowError, CorruptBlobError: as :func:`unpack_page`.
        """
        answered = [bool(page.entries) or not page.more for page in answers]
        if len(answers) != len(self.left) or not any(answered):
            raise ServiceError(
                f"the service answered {len(answers)} pages to {len(self.left)} ranges"
            )
        for at, page, is_answered in zip(list(self.left), answers, answered, strict=True):
            if is_answered:
                self._pages[at] = unpack_page(page, self.left.pop(at), self._execution_id)

    @property
    def pages(self) -> list[NodePage]:
        """The pages, in the order in which they were asked for."""
        return [page for page in self._pages if page is not None]


def states_bytes(pages: Sequence[PackedPage]) -> int:
    """Bytes of the states that are to be unpacked."""
    return sum(len(entry.state or b"") for page in pages for entry in page.entries)
