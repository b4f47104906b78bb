"""Listing checkpoints: of one namespace, of a thread, or of all threads, by their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from livingai.adapters.langgraph.cursor import FoundCheckpoint, Merged
from livingai.adapters.langgraph.entries import ThreadName, Typed
from livingai.adapters.langgraph.thread import Checkpointed, Thread
from livingai.adapters.langgraph.view import Layer
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Steps


class Deserializer(Protocol):
    """The half of a serializer that reads."""

    def loads_typed(self, data: Typed, /) -> Any:
        """The value."""


class _Source:
    """The checkpoints of one thread."""

    def __init__(self, thread: Thread, layers: list[Layer], merged: Merged) -> None:
        self.thread = thread
        self.layers = layers
        self.merged = merged
        self.head: FoundCheckpoint | None = None


class Listing:
    """Checkpoints in descending order of id, one at a time."""

    def __init__(
        self,
        log: SharedLog,
        asked: Mapping[str, Any] | None,
        before: str | None,
        wanted: Mapping[str, Any],
        serde: Deserializer,
    ) -> None:
        """``asked`` names the thread (None: all), and perhaps a namespace and a checkpoint.
        ``wanted`` are entries that the metadata have."""
        self._log = log
        self._asked = asked
        self._before = before
        self._wanted = wanted
        self._serde = serde
        self._sources: list[_Source] | None = None

    def next(self) -> Steps[tuple[str, Checkpointed] | None]:
        """The next checkpoint with its writes, and the thread that it is of; None: there is
        none."""
        if self._sources is None:
            self._sources = yield from self._open()
        while True:
            best: _Source | None = None
            for source in list(self._sources):
                if source.head is None:
                    source.head = yield from source.merged.next()
                if source.head is None:
                    self._sources.remove(source)
                elif best is None or _id_of(source) > _id_of(best):
                    best = source
            if best is None or best.head is None:
                return None
            found, best.head = best.head, None
            if not found.entry.is_dropped and self._fits(found):
                writes = yield from best.thread.writes(found, best.layers)
                return best.thread.name.thread_id, Checkpointed(found, writes)

    def _open(self) -> Steps[list[_Source]]:
        asked = self._asked
        if asked is None:
            threads = yield from Thread.all(self._log)
        else:
            threads = [Thread(self._log, ThreadName.of(str(asked["thread_id"])))]
            self._log.check(threads[0].execution_id)
        namespace = None if asked is None else asked.get("checkpoint_ns")
        sources = []
        for thread in threads:
            layers = yield from thread.layers()
            namespaces = [str(namespace)]
            if namespace is None:
                namespaces = yield from thread.namespaces(layers)
            cursors = thread.cursors(layers, namespaces, self._before)
            sources.append(_Source(thread, layers, Merged(cursors)))
        return sources

    def _fits(self, found: FoundCheckpoint) -> bool:
        asked_id = None if self._asked is None else self._asked.get("checkpoint_id")
        if asked_id and found.entry.checkpoint_id != asked_id:
            return False
        if not self._wanted:
            return True
        metadata = self._serde.loads_typed(found.entry.metadata)
        return all(metadata.get(key) == value for key, value in self._wanted.items())


def _id_of(source: _Source) -> str:
    return "" if source.head is None else source.head.entry.checkpoint_id
