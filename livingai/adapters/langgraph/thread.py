"""A thread in the store: reads that see all its layers.

Every method that waits is a generator of steps (:mod:`livingai.adapters.steps`). A usual thread has
no marks, and its latest checkpoint with all pending writes is one round trip.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from livingai.adapters.langgraph.cursor import (
    CheckpointCursor,
    FoundCheckpoint,
    Merged,
    newest_visible,
)
from livingai.adapters.langgraph.entries import CheckpointEntry, merge_writes
from livingai.adapters.langgraph.ids import FRAMEWORK, ThreadName, prefix
from livingai.adapters.langgraph.loading import (
    Checkpointed,
    exactly,
    in_layer,
    load,
    rest_of,
    writes_of,
)
from livingai.adapters.langgraph.view import NO_MARKS, Layer, Marks, Place, read_marks
from livingai.adapters.names import behind_prefix, is_shortened
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.errors import CorruptRowError
from livingai.protocol.executions import MAX_PAGE
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.stores.ranges import NodeRange, Version

_log = logging.getLogger("livingai")
#: Writes that are read along with a latest checkpoint, before it is known which one that is.
_LIKELY_WRITES: Final = 64
_MARKS: Final = 1000
#: Logs that a thread can be made of: its own, and those of the copies that it is a copy of.
MAX_LAYERS: Final = 100


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
                try:
                    name = yield from _name_of(log, info.execution_id)
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
        behind = behind_prefix(start)
        newest = NodeRange(start, behind, 1, backwards=True)
        two = NodeRange(start, behind, 2, backwards=True, states=False)
        start = prefix(own, "w", namespace)
        likely = NodeRange(
            start, behind_prefix(start), _LIKELY_WRITES, backwards=True, states=False
        )
        # Entries are read before states: so a state is there, or a newer one is.
        marked, entries, loaded, writes = yield from self._soon([_marks(own), two, newest, likely])
        if marked:
            return (yield from self._newest((yield from self.layers()), namespace))
        if not entries:
            return None
        head = entries.nodes[0]
        layer = NO_MARKS.own_layer(own)
        place = namespace, str(head.node.metadata.get("checkpoint"))
        ids = [each.node.metadata.get("checkpoint") for each in entries]
        if ids.count(place[1]) > 1 or [each.node.id for each in loaded] != [head.node.id]:
            return (yield from self._newest([layer], namespace))
        if writes.rest is not None and writes.nodes[-1].node.id >= prefix(own, "w", *place):
            (writes,) = yield from self._soon([exactly(own, "w", *place)])
        else:
            writes = NodePage(writes.nodes)
        return (yield from self._complete(place, layer, loaded, writes))

    def _newest(self, layers: Sequence[Layer], namespace: str) -> Steps[Checkpointed | None]:
        merged = Merged(self.cursors(layers, [namespace], wanted=1))
        while True:
            found = yield from merged.next()
            if found is None:
                return None
            for loaded in (yield from load(self.log, [found], layers)):
                return loaded

    def checkpoint(self, namespace: str, checkpoint_id: str) -> Steps[Checkpointed | None]:
        """The checkpoint with that id; None: there is none."""
        own = self.execution_id
        place = namespace, checkpoint_id
        asked = [_marks(own), exactly(own, "c", *place),
                 exactly(own, "c", *place, limit=1, states=True),
                 exactly(own, "w", *place)]  # fmt: skip
        marked, entries, loaded, writes = yield from self._soon(asked)
        if marked:
            return (yield from self._of_layers(place, (yield from self.layers())))
        if not entries:
            return None
        layer = NO_MARKS.own_layer(own)
        if len(entries) > 1 or [each.node.id for each in loaded] != [entries.nodes[0].node.id]:
            return (yield from self._of_layers(place, [layer]))
        return (yield from self._complete(place, layer, loaded, writes))

    def _complete(
        self, place: Place, layer: Layer, loaded: NodePage, writes: NodePage
    ) -> Steps[Checkpointed | None]:
        """A checkpoint of a thread without marks, of whose writes that is the first page."""
        found = newest_visible(layer, loaded)
        if found is None:
            return None
        if found.entry.takes_sends:
            return next(iter((yield from load(self.log, [found], [layer]))), None)
        nodes = yield from rest_of(self.log, self.execution_id, writes)
        return Checkpointed(found, merge_writes(writes_of(place, nodes)))

    def _of_layers(self, place: Place, layers: Sequence[Layer]) -> Steps[Checkpointed | None]:
        for found in (yield from self.places(place, layers)):
            for loaded in (yield from load(self.log, [found], layers)):
                return loaded
        return None

    # -- which checkpoints there are --

    def places(self, place: Place, layers: Sequence[Layer]) -> Steps[list[FoundCheckpoint]]:
        """Where a checkpoint is, without its state: none, or in the first layer that shows it."""
        for layer in layers:
            asked = in_layer(exactly(layer.execution_id, "c", *place), layer)
            (page,) = yield from self._pages([asked], layer.execution_id)
            nodes = yield from rest_of(self.log, layer.execution_id, page)
            found = newest_visible(layer, nodes)
            if found is not None:
                return [found]
        return []

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
                (page,) = yield from self._pages([in_layer(asked, layer)], layer.execution_id)
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
        wanted: int | None = None,
    ) -> list[CheckpointCursor]:
        """Cursors over these namespaces in all layers; see :class:`CheckpointCursor`."""
        return [
            CheckpointCursor(self.log, layer, namespace, before, wanted)
            for namespace in namespaces
            for layer in layers
        ]

    # -- marks --

    def marks(self) -> Steps[Marks]:
        """The marks of the thread's own log."""
        return (yield from marks_of(self.log, self.execution_id))

    def _layers(self, marks: Marks) -> Steps[list[Layer]]:
        layers = [marks.own_layer(self.execution_id)]
        waiting = [(copy, marks.for_copy(copy)) for copy in marks.copied]
        while waiting:
            copy, hidden = waiting.pop()
            if len(layers) > MAX_LAYERS:
                raise CorruptRowError(
                    f"the thread {self.execution_id} is made of more than {MAX_LAYERS} logs"
                )
            theirs = yield from marks_of(self.log, copy.source, copy.upto)
            layer = theirs.own_layer(copy.source, copy.upto)
            layer = layer._replace(hidden=layer.hidden + hidden)
            if layer in layers:
                continue
            layers.append(layer)
            waiting += [(each, theirs.for_copy(each) + hidden) for each in theirs.copied]
        return layers

    def _soon(self, asked: Sequence[NodeRange]) -> Steps[list[NodePage]]:
        """Pages of the own log, whose versions may not be those of the store: where marks are among
        them, which refer to versions, they are read once more."""
        pages: list[NodePage] = yield Step(self.log, "pages", self.execution_id, asked)
        return pages

    def _pages(
        self, asked: Sequence[NodeRange], execution_id: str | None = None
    ) -> Steps[list[NodePage]]:
        pages: list[NodePage] = yield Step(
            self.log, "node_pages", execution_id or self.execution_id, asked
        )
        return pages


def marks_of(log: SharedLog, execution_id: str, upto: Version | None = None) -> Steps[Marks]:
    """The marks of a log whose version is not above ``upto``."""
    page: NodePage = yield Step(log, "nodes_between", execution_id, _marks(execution_id))
    nodes: list[RangedNode] = yield from rest_of(log, execution_id, page)
    return read_marks(nodes, upto)


def _marks(execution_id: str) -> NodeRange:
    start = prefix(execution_id, "m")
    return NodeRange(start, behind_prefix(start), _MARKS, states=False)


def _name_of(log: SharedLog, execution_id: str) -> Steps[ThreadName]:
    """The name of the thread whose log an execution is; of a long one any entry says it."""
    if not is_shortened(execution_id):
        return ThreadName.of_execution(execution_id)
    start = f"{execution_id}/"
    page = yield Step(
        log, "nodes_between", execution_id, NodeRange(start, behind_prefix(start), 1, states=False)
    )
    return ThreadName.of_execution(execution_id, *(each.node for each in page))
