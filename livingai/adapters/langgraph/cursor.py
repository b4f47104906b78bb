"""Reading checkpoints of a thread one after the other, the newest first, from all its layers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from livingai.adapters.langgraph.entries import CheckpointEntry, below, prefix
from livingai.adapters.langgraph.view import Layer
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.stores.ranges import NodeRange, Version

#: Entries of the first page; each further one is four times as large, up to the last.
_FIRST_PAGE = 8
_LAST_PAGE = 512


class FoundCheckpoint(NamedTuple):
    """A checkpoint that belongs to a thread, the log that it is in, and its first version there."""

    entry: CheckpointEntry
    layer: Layer
    first: Version
    node_id: str


class CheckpointCursor:
    """The visible checkpoints of one namespace in one layer, in descending order of id."""

    def __init__(
        self,
        log: SharedLog,
        layer: Layer,
        namespace: str,
        before: str | None = None,
        *,
        states: bool = True,
        page: int = _FIRST_PAGE,
    ) -> None:
        """``before``: only checkpoints with a lower id. ``page``: entries of the first page."""
        self._log = log
        self._layer = layer
        execution_id = layer.execution_id
        first = prefix(execution_id, "c", namespace)
        behind = (
            behind_prefix(first) if before is None else below(execution_id, "c", namespace, before)
        )
        self._page = page
        self._rest: NodeRange | None = NodeRange(
            first, behind, page, backwards=True, states=states, after=layer.after, upto=layer.upto
        )
        self._ready: deque[FoundCheckpoint] = deque()
        self._last: str | None = None

    def peek(self) -> Steps[FoundCheckpoint | None]:
        """The next checkpoint; None: there is none."""
        while not self._ready and self._rest is not None:
            asked = self._rest
            found = yield Step(self._log, "nodes_between", self._layer.execution_id, asked)
            for each in found:
                entry = CheckpointEntry.read(each)
                if entry.checkpoint_id == self._last:
                    continue  # put again later: that entry counts
                self._last = entry.checkpoint_id
                if self._layer.shows((entry.namespace, entry.checkpoint_id), each.first):
                    self._ready.append(
                        FoundCheckpoint(entry, self._layer, each.first, each.node.id)
                    )
            self._page = min(self._page * 4, _LAST_PAGE)
            self._rest = found.rest and _resized(found.rest, self._page)
        return self._ready[0] if self._ready else None

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
            if found is not None and _same(found.entry, best.entry):
                cursor.advance()
        return best


def _same(one: CheckpointEntry, other: CheckpointEntry) -> bool:
    return one.checkpoint_id == other.checkpoint_id and one.namespace == other.namespace


def _resized(asked: NodeRange, limit: int) -> NodeRange:
    return NodeRange(
        asked.first, asked.behind, limit, asked.backwards, asked.states, asked.after, asked.upto
    )
