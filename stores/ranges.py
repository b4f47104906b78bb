"""Ranges of nodes: those of one execution whose ids lie between two texts, in order of id.

Who chooses the ids of its nodes so that they sort (a framework's adapter, say) reads the newest few
of them, or those of one group, without reading the execution. :class:`NodeRange` is such a
question; a store that has an index of ids answers it with as much work as there are answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from livingai.asked import check_count, check_text, shown
from livingai.errors import ConfigurationError
from livingai.node import NodeField
from livingai.stores.records import StoredCheckpoint, StoredNode

#: (epoch, seq) of a write.
Version = tuple[int, int]
#: The largest page of nodes.
MAX_NODES: Final = 10_000
_PARTS: Final = 7


@dataclass(frozen=True, slots=True)
class NodeRange:
    """Which nodes of an execution: from the id ``first`` on, up to and without the id ``behind``
    (None: all that follow), in order of id by code point, or ``backwards``; at most ``limit`` of
    them (1 to 10000). With ``states`` each comes with the newest state that it was saved with.

    ``after`` and ``upto`` are a window of versions: only nodes whose first save has an (epoch, seq)
    above ``after``, and not above ``upto``.

    Raises:
        ConfigurationError: a part that makes no sense.
    """

    first: str = ""
    behind: str | None = None
    limit: int = 100
    backwards: bool = False
    states: bool = True
    after: Version | None = None
    upto: Version | None = None

    def __post_init__(self) -> None:
        check_text(self.first, "first")
        if self.behind is not None:
            check_text(self.behind, "behind")
        check_count(self.limit, "limit", MAX_NODES)
        for name in ("after", "upto"):
            _check_version(getattr(self, name), name)

    def has(self, node_id: str, first: Version) -> bool:
        """Whether a node with that id, first saved as that version, is in the range."""
        return (
            self.first <= node_id
            and (self.behind is None or node_id < self.behind)
            and (self.after is None or first > self.after)
            and (self.upto is None or first <= self.upto)
        )

    def rest(self, last: str) -> NodeRange:
        """The same range behind its node ``last``."""
        first, behind = (self.first, last) if self.backwards else (last + "\0", self.behind)
        return NodeRange(
            first, behind, self.limit, self.backwards, self.states, self.after, self.upto
        )

    def to_wire(self) -> list[Any]:
        """The range as plain values."""
        window = [None if each is None else list(each) for each in (self.after, self.upto)]
        return [self.first, self.behind, self.limit, self.backwards, self.states, *window]

    @classmethod
    def from_wire(cls, wire: Any) -> NodeRange:
        """Inverse of :meth:`to_wire`.

        Raises:
            ConfigurationError: it is no range, or one that makes no sense.
        """
        if not isinstance(wire, list | tuple) or len(wire) != _PARTS:
            raise ConfigurationError(f"{shown(wire)} is no range of nodes")
        first, behind, limit, backwards, states, *window = wire
        after, upto = (tuple(each) if isinstance(each, list) else each for each in window)
        return cls(first, behind, limit, bool(backwards), bool(states), after, upto)


def pick(
    nodes: Iterable[StoredNode],
    asked: NodeRange,
    load: Callable[[str], StoredCheckpoint | None],
) -> list[StoredCheckpoint]:
    """The answer to ``asked`` from all nodes of an execution, for a store without an index of ids;
    ``load`` gives a node with its state."""
    found = [
        (str(node.wire[NodeField.ID]), node)
        for node in nodes
        if asked.has(str(node.wire[NodeField.ID]), node.first)
    ]
    found.sort(key=lambda each: each[0], reverse=asked.backwards)
    answer = []
    for node_id, node in found[: asked.limit]:
        loaded = load(node_id) if asked.states else None
        answer.append(StoredCheckpoint(
            node.wire, node.epoch, node.seq,
            loaded.blob if loaded else None, loaded.state_kind if loaded else 0, node_id,
            content_hash=loaded.content_hash if loaded else None,
            raw_bytes=loaded.raw_bytes if loaded else 0,
            first=node.first,
        ))  # fmt: skip
    return answer


def _check_version(version: object, name: str) -> None:
    if version is None:
        return
    if (
        not isinstance(version, tuple)
        or len(version) != 2
        or not all(type(number) is int and number >= -1 for number in version)
    ):
        raise ConfigurationError(f"{name} must be (epoch, seq) of a write, not {shown(version)}")
