"""Listing checkpoints: of one namespace, of a thread, or of all threads, by their metadata."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final, Protocol

from livingai.adapters.langgraph.cursor import FoundCheckpoint, Merged
from livingai.adapters.langgraph.entries import Typed
from livingai.adapters.langgraph.ids import ThreadName
from livingai.adapters.langgraph.loading import Checkpointed, load
from livingai.adapters.langgraph.thread import Thread
from livingai.adapters.langgraph.view import Layer
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Steps

#: Checkpoints whose states are read at once: at first, and at most.
_FIRST_BATCH: Final = 4
_LAST_BATCH: Final = 64
#: From so many bytes of states on, the next batch is not larger.
_BATCH_BYTES: Final = 1 << 20


class Deserializer(Protocol):
    """The half of a serializer that reads."""

    def loads_typed(self, data: Typed, /) -> Any:
        """The value."""


class _Source:
    """The checkpoints of one thread; sources sort by the next one's id, the highest first."""

    def __init__(
        self, thread: Thread, layers: list[Layer], merged: Merged, head: FoundCheckpoint
    ) -> None:
        self.thread = thread
        self.layers = layers
        self.merged = merged
        self.head = head

    def __lt__(self, other: _Source) -> bool:
        return self.head.entry.checkpoint_id > other.head.entry.checkpoint_id


class Listing:
    """Checkpoints in descending order of id, one at a time. Of those that were not given out yet
    it holds places, and the states of a batch."""

    def __init__(
        self,
        log: SharedLog,
        asked: Mapping[str, Any] | None,
        before: str | None,
        wanted: Mapping[str, Any],
        serde: Deserializer,
        limit: int | None = None,
    ) -> None:
        """``asked`` names the thread (None: all), and perhaps a namespace and a checkpoint.
        ``wanted`` are entries that the metadata have; ``limit`` is how many are given out."""
        self._log = log
        self._asked = asked
        self._before = before
        self._wanted = wanted
        self._serde = serde
        self._left = limit
        self._batch = _FIRST_BATCH
        self._sources: list[_Source] | None = None
        #: The one whose checkpoint came last.
        self._last: _Source | None = None
        self._ready: deque[tuple[str, Checkpointed]] = deque()

    def next(self) -> Steps[tuple[str, Checkpointed] | None]:
        """The next checkpoint with its writes, and the thread that it is of; None: there is
        none."""
        if self._left is not None and self._left <= 0:
            return None
        if self._sources is None:
            self._sources = yield from self._open()
        while not self._ready:
            batch = yield from self._places(self._sources)
            if not batch:
                return None
            # Of threads in turns: each is asked once for all of its run.
            for source, run in groupby(batch, key=lambda each: each[0]):
                found = [each for _, each in run]
                loaded = yield from load(self._log, found, source.layers)
                thread_id = source.thread.name.thread_id
                self._ready += [
                    (thread_id, each) for each in loaded if not each.found.entry.is_dropped
                ]
            self._grow()
        if self._left is not None:
            self._left -= 1
        return self._ready.popleft()

    def _grow(self) -> None:
        size = sum(
            len(data) for _, each in self._ready for _, data in each.found.entry.values.values()
        )
        if size < _BATCH_BYTES:
            self._batch = min(self._batch * 4, _LAST_BATCH)

    def _places(self, sources: list[_Source]) -> Steps[list[tuple[_Source, FoundCheckpoint]]]:
        """The next few that fit."""
        size = self._batch if self._left is None else min(self._batch, self._left)
        batch: list[tuple[_Source, FoundCheckpoint]] = []
        while len(batch) < size and (sources or self._last):
            if (source := self._last) is not None:  # not before the next one is needed
                self._last, following = None, (yield from source.merged.next())
                if following is not None:
                    source.head = following
                    heapq.heappush(sources, source)
                continue
            source = heapq.heappop(sources)
            if self._fits(source.head):
                batch.append((source, source.head))
            self._last = source
        return batch

    def _open(self) -> Steps[list[_Source]]:
        asked = self._asked
        if asked is None:
            threads = yield from Thread.all(self._log)
        else:
            threads = [Thread(self._log, ThreadName.of(str(asked["thread_id"])))]
            self._log.check(threads[0].execution_id)
        checkpoint_id = None if asked is None else asked.get("checkpoint_id")
        namespace = None if asked is None else asked.get("checkpoint_ns")
        sources = []
        for thread in threads:
            layers = yield from thread.layers()
            namespaces = [str(namespace)]
            if namespace is None:
                namespaces = yield from thread.namespaces(layers)
            if checkpoint_id:
                sources += yield from self._exactly(thread, layers, namespaces, str(checkpoint_id))
                continue
            wanted = None if self._wanted else self._left
            merged = Merged(thread.cursors(layers, namespaces, self._before, wanted))
            head = yield from merged.next()
            if head is not None:
                sources.append(_Source(thread, layers, merged, head))
        heapq.heapify(sources)
        return sources

    def _exactly(
        self, thread: Thread, layers: list[Layer], namespaces: list[str], checkpoint_id: str
    ) -> Steps[list[_Source]]:
        """Sources of the checkpoint with that id, and of no other one."""
        sources = []
        if self._before is None or checkpoint_id < self._before:
            for namespace in namespaces:
                places = yield from thread.places((namespace, checkpoint_id), layers)
                sources += [_Source(thread, layers, Merged([]), found) for found in places]
        return sources

    def _fits(self, found: FoundCheckpoint) -> bool:
        if not self._wanted:
            return True
        metadata = self._serde.loads_typed(found.entry.metadata)
        return all(_value(metadata, key) == value for key, value in self._wanted.items())


def _value(metadata: Mapping[str, Any], key: str) -> Any:
    """An entry of metadata, or one of an entry: ``"user.name"``; None: it is not there."""
    found: Any = metadata
    if key in metadata:
        return metadata[key]
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
