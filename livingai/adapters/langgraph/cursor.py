"""Which checkpoints a thread has, the newest first, from all its layers: without their states."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from livingai.adapters.langgraph.entries import CheckpointEntry
from livingai.adapters.langgraph.ids import below, prefix
from livingai.adapters.langgraph.view import Layer, Place
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import NodeRange, Version

#: Entries of the first page, unless it is known how many are wanted; each further one is four times
#: as large, up to the last.
_FIRST_PAGE: Final = 8
_LAST_PAGE: Final = 512


class FoundCheckpoint(NamedTuple):
    """A checkpoint that belongs to a thread, the layer that it is in, and its version there. The
    entry has no values, unless they were asked for."""

    entry: CheckpointEntry
    layer: Layer
    first: Version
    node_id: str

    @property
    def place(self) -> Place:
        """Its namespace and id."""
        return self.entry.namespace, self.entry.checkpoint_id


def found_in(layer: Layer, each: RangedNode) -> FoundCheckpoint:
    """The checkpoint of an entry.

    Raises:
        CorruptRowError: it is none.
    """
    return FoundCheckpoint(CheckpointEntry.read(each), layer, each.first, each.node.id)


def newest_visible(layer: Layer, entries: Iterable[RangedNode]) -> FoundCheckpoint | None:
    """Of entries of one checkpoint the one that counts: the visible one that the store got last."""
    found = [found_in(layer, each) for each in entries]
    visible = [each for each in found if layer.shows(each.place, each.first)]
    return max(visible, key=lambda each: each.first, default=None)


class CheckpointCursor:
    """The visible checkpoints of one namespace in one layer, in descending order of id."""

    def __init__(
        self,
        log: SharedLog,
        layer: Layer,
        namespace: str,
        before: str | None = None,
        wanted: int | None = None,
    ) -> None:
        """``before``: only checkpoints with a lower id. ``wanted``: no more are going to be
        asked for, as far as is known."""
        self._log = log
        self._layer = layer
        execution_id = layer.execution_id
        first = prefix(execution_id, "c", namespace)
        behind = (
            behind_prefix(first) if before is None else below(execution_id, "c", namespace, before)
        )
        # One more: that no other entry of the last one follows is seen by the next one's.
        page = _FIRST_PAGE if wanted is None else min(wanted + 1, _LAST_PAGE)
        self._rest: NodeRange | None = NodeRange(
            first, behind, page, backwards=True, states=False, after=layer.after, upto=layer.upto
        )
        #: Entries of the checkpoint that the last page ended in.
        self._group: list[RangedNode] = []
        self._ready: deque[FoundCheckpoint] = deque()

    def peek(self) -> Steps[FoundCheckpoint | None]:
        """The next checkpoint; None: there is none."""
        while not self._ready and self._rest is not None:
            asked = self._rest
            page = yield Step(self._log, "nodes_between", self._layer.execution_id, asked)
            for each in page:
                if self._group and not _same(self._group[0], each):
                    self._end_group()
                self._group.append(each)
            self._rest = page.rest and _resized(page.rest, min(asked.limit * 4, _LAST_PAGE))
            if self._rest is None:
                self._end_group()
        return self._ready[0] if self._ready else None

    def _end_group(self) -> None:
        found = newest_visible(self._layer, self._group)
        if found is not None:
            self._ready.append(found)
        self._group = []

    def advance(self) -> None:
        """Step over the checkpoint that :meth:`peek` gave."""
        self._ready.popleft()


class Merged:
    """The checkpoints of several cursors as one, in descending order of id. Where two have the same
    checkpoint, that of the earlier cursor counts."""

    def __init__(self, cursors: Sequence[CheckpointCursor]) -> None:
        self._cursors = list(cursors)

    def next(self) -> Steps[FoundCheckpoint | None]:
        """The next checkpoint; None: there is none."""
        best: FoundCheckpoint | None = None
        for cursor in list(self._cursors):
            found = yield from cursor.peek()
            if found is None:
                self._cursors.remove(cursor)
            elif best is None or found.entry.checkpoint_id > best.entry.checkpoint_id:
                best = found
        if best is None:
            return None
        for cursor in self._cursors:
            found = yield from cursor.peek()
            if found is not None and found.place == best.place:
                cursor.advance()
        return best


def _same(one: RangedNode, other: RangedNode) -> bool:
    """Whether two entries are of the same checkpoint."""
    return one.node.metadata.get("checkpoint") == other.node.metadata.get("checkpoint")


def _resized(asked: NodeRange, limit: int) -> NodeRange:
    return NodeRange(
        asked.first, asked.behind, limit, asked.backwards, asked.states, asked.after, asked.upto
    )
