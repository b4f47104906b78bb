"""Intake: all journals of a state directory, merged into one stream in the order of acceptance.

Rules:

* Records are taken in order of their acceptance time (CLOCK_MONOTONIC is machine-wide), journals of
  earlier boots first. So when an execution moves from one process to another, the records of the
  first are taken before those of its successor.
* A record is taken only when it is older than the turn's beginning: by then every record accepted
  before it has been published.
* A journal's cursor moves over a record only when that and all before it are terminal.
"""

from __future__ import annotations

import heapq
import logging
import os
import time
from collections.abc import Iterator

from livingai.errors import LivingAIError
from livingai.queue.directory import StateDirectory
from livingai.workers.feed import Feed, Item

_log = logging.getLogger("livingai.service")
#: Seconds after which a journal that could not be opened is tried again.
_RETRY_S = 5.0


class Intake:
    """The journals of a directory; see the rules above."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory
        self.feeds: dict[str, Feed] = {}
        #: Journals that cannot be read, and when (CLOCK_MONOTONIC) to try again.
        self._broken: dict[str, float] = {}
        #: Every record accepted before this CLOCK_MONOTONIC time has been taken.
        self.horizon_ns = 0

    def refresh(self) -> None:
        """Notice new journals."""
        try:
            paths = self._directory.journal_paths()
        except OSError as error:  # no descriptors: they wait
            _log.warning("cannot look for journals, trying again: %s", error)
            return
        now = time.monotonic()
        for path in paths:
            if path in self.feeds or now < self._broken.get(path, 0.0):
                continue
            try:
                feed = Feed(path)
            except FileNotFoundError:
                continue
            except (OSError, LivingAIError) as error:
                if path not in self._broken:
                    _log.error("journal %s cannot be read, trying again: %s", path, error)
                self._broken[path] = now + _RETRY_S
                continue
            self._broken.pop(path, None)
            feed.check_owner()
            self.feeds[path] = feed

    def by_id(self, journal_id: str) -> Feed | None:
        """The feed of a journal (hex id)."""
        return self.feeds.get(os.path.join(self._directory.journals, journal_id))

    def take(self, room: int) -> Iterator[Item]:
        """Up to ``room`` records, in order; stop early at will."""
        began = time.monotonic_ns()
        heap: list[tuple[tuple[int, int], int, int, Feed]] = []
        for number, feed in enumerate(self.feeds.values()):
            if not feed.ahead:
                feed.read_ahead()
            if feed.ahead:
                heap.append((feed.rank, feed.ahead[0].header.mono_ns, number, feed))
        heapq.heapify(heap)
        while room > 0 and heap:
            rank, mono_ns, number, best = heap[0]
            if best.same_boot and mono_ns > began:
                heap.clear()
                break
            found = best.ahead.popleft()
            if not best.ahead:
                best.read_ahead()
            if best.ahead:
                mono_ns = best.ahead[0].header.mono_ns
                heapq.heapreplace(heap, (rank, mono_ns, number, best))
            else:
                heapq.heappop(heap)
            item = Item(best, found.header, found.position)
            best.inflight.append(item)
            room -= 1
            yield item
        if not heap:
            self.horizon_ns = began

    def waiting(self) -> bool:
        """Whether a journal has records that were not taken yet."""
        return any(feed.ahead for feed in self.feeds.values())

    def close(self) -> None:
        """Let go of all journals."""
        for feed in self.feeds.values():
            feed.close()
        self.feeds.clear()
