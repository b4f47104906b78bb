"""A thread in the store: reads that see all its layers.

Every method that waits is a generator of steps (:mod:`livingai.adapters.steps`). A usual thread has
no marks, and its latest checkpoint with all pending writes is one round trip.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from livingai.adapters.langgraph.cursor import CheckpointCursor, FoundCheckpoint, Merged
from livingai.adapters.langgraph.entries import (
    FRAMEWORK,
    CheckpointEntry,
    TaskWrite,
    ThreadName,
    WritesEntry,
    behind_checkpoint,
    merge_writes,
    prefix,
)
from livingai.adapters.langgraph.view import NO_MARKS, Layer, Marks, read_marks
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.errors import CorruptRowError
from livingai.protocol.executions import MAX_PAGE
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.stores.ranges import MAX_NODES, NodeRange, Version

_log = logging.getLogger("livingai")
#: Writes that are read along with a latest checkpoint, before it is known which one that is.
_LIKELY_WRITES: Final = 64
_MARKS: Final = 1000
#: Logs that a thread can be made of: its own, and those of the copies that it is a copy of.
MAX_LAYERS: Final = 100


class Checkpointed(NamedTuple):
    """A checkpoint, and the writes that follow from it, each with its task."""

    found: FoundCheckpoint
    writes: list[tuple[str, TaskWrite]]


class Thread:
    """One thread of a :class:`SharedLog`."""

    def __init__(self, log: SharedLog, name: ThreadName) -> None:
        self.log = log
        self.name = name
        self.execution_id = name.execution_id

    @classmethod
    def all(cls, log: SharedLog) -> Steps[list[Thread]]:
        """All threads of the store, in order of their executions' ids."""
        threads: list[Thread] = []
        after: str | None = None
        while True:
            page = yield Step(
                log.engine, "executions", prefix=f"{FRAMEWORK}:", after=after, limit=MAX_PAGE
            )
            for info in page:
                start = f"{info.execution_id}/"
                asked = NodeRange(start, behind_prefix(start), 1, states=False)
                found = yield Step(log, "nodes_between", info.execution_id, asked)
                for one in found:
                    try:
                        name = ThreadName.of_execution(info.execution_id, one.node)
                    except CorruptRowError as error:
                        _log.warning("%s; it is left out", error)
                    else:
                        threads.append(cls(log, name))
            after = page.next_after
            if after is None:
                return threads

    # -- one checkpoint --

    def latest(self, namespace: str) -> Steps[Checkpointed | None]:
        """The checkpoint with the highest id in a namespace; None: there is none."""
        own = self.execution_id
        start = prefix(own, "c", namespace)
        newest = NodeRange(start, behind_prefix(start), 1, backwards=True)
        start = prefix(own, "w", namespace)
        likely = NodeRange(start, behind_prefix(start), _LIKELY_WRITES, backwards=True)
        marked, found, writes = yield from self._pages([_marks(own), newest, likely])
        if not marked:
            if not found:
                return None
            head = _found(found.nodes[0], NO_MARKS.own_layer(own))
            if not writes.rest or writes.nodes[-1].node.id < prefix(
                own, "w", namespace, head.entry.checkpoint_id
            ):
                return Checkpointed(head, merge_writes(_writes_of(head.entry, writes)))
            return (yield from self._with_writes(head))
        layers = yield from self._layers((yield from self._marks_of(own, marked)))
        checkpoints = Merged(
            [CheckpointCursor(self.log, layer, namespace, page=1) for layer in layers]
        )
        newest_found = yield from checkpoints.next()
        if newest_found is None:
            return None
        return (yield from self._with_writes(newest_found, layers))

    def checkpoint(self, namespace: str, checkpoint_id: str) -> Steps[Checkpointed | None]:
        """The checkpoint with that id; None: there is none."""
        own = self.execution_id
        asked = [_marks(own), _exact(own, "c", namespace, checkpoint_id, 1),
                 _exact(own, "w", namespace, checkpoint_id, MAX_NODES)]  # fmt: skip
        marked, found, writes = yield from self._pages(asked)
        if not marked:
            if not found:
                return None
            head = _found(found.nodes[0], NO_MARKS.own_layer(own))
            more = yield from self._rest(own, writes)
            return Checkpointed(head, merge_writes(_writes_of(head.entry, more)))
        layers = yield from self._layers((yield from self._marks_of(own, marked)))
        for layer in layers:
            asked = [_in_layer(_exact(layer.execution_id, "c", namespace, checkpoint_id, 1), layer)]
            (page,) = yield from self._pages(asked, layer.execution_id)
            for each in page:
                head = _found(each, layer)
                if layer.shows((namespace, checkpoint_id), each.first):
                    return (yield from self._with_writes(head, layers))
        return None

    def writes(
        self, found: FoundCheckpoint, layers: Sequence[Layer]
    ) -> Steps[list[tuple[str, TaskWrite]]]:
        """The writes that follow from a checkpoint, from all layers."""
        entry = found.entry
        merged: list[WritesEntry] = []
        for layer in reversed(layers):  # the log itself comes last: what it has is newer
            asked = _exact(layer.execution_id, "w", entry.namespace, entry.checkpoint_id, MAX_NODES)
            (page,) = yield from self._pages([_in_layer(asked, layer)], layer.execution_id)
            nodes = yield from self._rest(layer.execution_id, page)
            merged += _writes_of(entry, nodes)
        return merge_writes(merged)

    def _with_writes(
        self, found: FoundCheckpoint, layers: Sequence[Layer] | None = None
    ) -> Steps[Checkpointed]:
        writes = yield from self.writes(found, layers or [found.layer])
        return Checkpointed(found, writes)

    # -- many --

    def layers(self) -> Steps[list[Layer]]:
        """What belongs to the thread: its own log first, then what it was copied with, the newest
        copy first."""
        return (yield from self._layers((yield from self.marks())))

    def namespaces(self, layers: Iterable[Layer]) -> Steps[list[str]]:
        """The namespaces that have checkpoints, visible or not."""
        known: dict[str, None] = {}
        for layer in layers:
            start = prefix(layer.execution_id, "c")
            behind = behind_prefix(start)
            while True:
                asked = NodeRange(start, behind, 1, states=False)
                (page,) = yield from self._pages([_in_layer(asked, layer)], layer.execution_id)
                if not page:
                    break
                namespace = CheckpointEntry.read(page.nodes[0]).namespace
                known[namespace] = None
                start = behind_prefix(prefix(layer.execution_id, "c", namespace))
        return list(known)

    def cursors(
        self,
        layers: Sequence[Layer],
        namespaces: Iterable[str],
        before: str | None = None,
        *,
        states: bool = True,
    ) -> list[CheckpointCursor]:
        """Cursors over these namespaces in all layers."""
        return [
            CheckpointCursor(self.log, layer, namespace, before, states=states)
            for namespace in namespaces
            for layer in layers
        ]

    # -- marks --

    def marks(self) -> Steps[Marks]:
        """The marks of the thread's own log."""
        return (yield from self._marks_of(self.execution_id))

    def _marks_of(
        self, execution_id: str, page: NodePage | None = None, upto: Version | None = None
    ) -> Steps[Marks]:
        """The marks of a log, of which ``page`` is the first page."""
        if page is None:
            (page,) = yield from self._pages([_marks(execution_id)], execution_id)
        return read_marks((yield from self._rest(execution_id, page)), upto)

    def _layers(self, marks: Marks) -> Steps[list[Layer]]:
        layers = [marks.own_layer(self.execution_id)]
        waiting = [(copy, marks.for_copy(copy)) for copy in marks.copied]
        while waiting:
            copy, hidden = waiting.pop()
            if len(layers) > MAX_LAYERS:
                raise CorruptRowError(
                    f"the thread {self.execution_id} is made of more than {MAX_LAYERS} logs"
                )
            theirs = yield from self._marks_of(copy.source, upto=copy.upto)
            layer = theirs.own_layer(copy.source, copy.upto)
            layer = layer._replace(hidden=layer.hidden + hidden)
            if layer in layers:
                continue
            layers.append(layer)
            waiting += [(each, theirs.for_copy(each) + hidden) for each in theirs.copied]
        return layers

    # -- pages --

    def _pages(
        self, asked: Sequence[NodeRange], execution_id: str | None = None
    ) -> Steps[list[NodePage]]:
        pages: list[NodePage] = yield Step(
            self.log, "node_pages", execution_id or self.execution_id, asked
        )
        return pages

    def _rest(self, execution_id: str, page: NodePage) -> Steps[list[RangedNode]]:
        """The nodes of a page and of all that follow it."""
        nodes = list(page)
        while page.rest is not None:
            page = yield Step(self.log, "nodes_between", execution_id, page.rest)
            nodes += page
        return nodes


def _marks(execution_id: str) -> NodeRange:
    start = prefix(execution_id, "m")
    return NodeRange(start, behind_prefix(start), _MARKS, states=False)


def _exact(
    execution_id: str, kind: str, namespace: str, checkpoint_id: str, limit: int
) -> NodeRange:
    """Entries of one checkpoint, the newest first."""
    start = prefix(execution_id, kind, namespace, checkpoint_id)
    behind = behind_checkpoint(execution_id, kind, namespace, checkpoint_id)
    return NodeRange(start, behind, limit, backwards=True, states=kind == "c")


def _in_layer(asked: NodeRange, layer: Layer) -> NodeRange:
    return NodeRange(
        asked.first, asked.behind, asked.limit, asked.backwards, asked.states, layer.after,
        layer.upto,
    )  # fmt: skip


def _found(each: RangedNode, layer: Layer) -> FoundCheckpoint:
    return FoundCheckpoint(CheckpointEntry.read(each), layer, each.first, each.node.id)


def _writes_of(entry: CheckpointEntry, nodes: Iterable[RangedNode]) -> list[WritesEntry]:
    """The entries that are writes of that checkpoint, in the order in which they were stored."""
    ordered: list[tuple[Version, WritesEntry]] = []
    for each in nodes:
        about = each.node.metadata
        if (about.get("checkpoint"), about.get("namespace")) == (
            entry.checkpoint_id, entry.namespace,
        ):  # fmt: skip
            ordered.append((each.first, WritesEntry.read(each)))
    ordered.sort(key=lambda each: each[0])
    return [each for _, each in ordered]
