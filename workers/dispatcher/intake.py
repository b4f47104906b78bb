"""Intake: all journals of a state directory, merged into one stream in the order of acceptance.

Rules:

1. Records are taken in order of their acceptance time. CLOCK_MONOTONIC is machine-wide within one
   boot; boots come in their order (``boot_order`` in FORMAT.md), which no wall clock decides. So
   when an execution moves from one process to another, the records of the first are taken before
   those of its successor.
2. A record is taken only when it is older than the turn's beginning and every journal that was
   there by then is among those that are merged: by then every record accepted before it has been
   published.
3. A journal that cannot be read now holds up every claim that may follow its owner's: a claim's
   first record, and what comes behind that, is held until the journal can be read, unless the
   journal's index shows that it does not know the execution. Barriers do not pass meanwhile.
4. A journal's cursor moves over a record only when that and all before it are terminal.
"""

from __future__ import annotations

import bisect
import heapq
import logging
import os
import time
from collections.abc import Iterator

from livingai.errors import CorruptRecordError, LivingAIError
from livingai.queue.directory import StateDirectory
from livingai.queue.index import Index
from livingai.queue.lock import boot_id
from livingai.queue.tally import ServiceTally
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.unreadable import Unreadable

_log = logging.getLogger("livingai.service")
#: Held records that are kept in memory; with more, nothing is taken while a journal is unreadable.
_MAX_HELD = 8192
#: Two changes of a folder within this time may bear the same time stamp: where a file system keeps
#: parts of a millisecond (it takes them from the kernel's tick, of 1 to 10 ms), and on any other.
_FINE_STAMP_NS, _COARSE_STAMP_NS = 100_000_000, 2_000_000_000

#: The place of a record in the stream: its boot's place, then CLOCK_MONOTONIC ns.
_Order = tuple[tuple[int, int], int]


class Intake:
    """The journals of a directory; see the rules above."""

    def __init__(self, directory: StateDirectory, tally: ServiceTally | None = None) -> None:
        """``tally`` counts the records that the cursors pass."""
        self._directory = directory
        self._tally = tally
        self.feeds: dict[str, Feed] = {}
        self.unreadable = Unreadable()
        #: Folders that are no journals.
        self._strange: set[str] = set()
        #: Records that wait for a journal which cannot be read, by execution, in order; see rule 3.
        self._held: dict[int, list[tuple[_Order, Item]]] = {}
        self._held_count = 0
        #: Time stamp of the folder when all journals in it were known; -1: look again.
        self._stamp_ns = -1
        #: The newest time stamp, and when it was seen first (CLOCK_MONOTONIC): the folder's clock
        #: may be another one than ours.
        self._seen_stamp_ns = self._seen_at_ns = -1
        #: Every record accepted before this CLOCK_MONOTONIC time has been taken.
        self.horizon_ns = 0

    # -- journals come and go --

    def refresh(self) -> None:
        """Notice new journals."""
        began_ns = time.monotonic_ns()
        stamp_ns = self._folder_stamp()
        coarse_ns = _COARSE_STAMP_NS if stamp_ns % 1_000_000 == 0 else _FINE_STAMP_NS
        settled = stamp_ns == self._seen_stamp_ns and began_ns - self._seen_at_ns > coarse_ns
        if stamp_ns != self._seen_stamp_ns:
            self._seen_stamp_ns, self._seen_at_ns = stamp_ns, time.monotonic_ns()
        try:
            paths = self._directory.journal_paths()
        except OSError as error:  # no descriptors: they wait
            self.unreadable.note(self._directory.journals, error)
            return
        self.unreadable.forget(self._directory.journals)
        for path in paths:
            if path not in self.feeds and path not in self._strange and self.unreadable.due(path):
                self._open(path)
        self.unreadable.keep({*paths, *self.feeds})
        self._stamp_ns = stamp_ns if settled and not self.unreadable else -1

    def _folder_stamp(self) -> int:
        try:
            return os.stat(self._directory.journals).st_mtime_ns
        except OSError:
            return -1

    def _open(self, path: str) -> None:
        try:
            feed = Feed(path, self._tally)
            feed.check_owner()
        except FileNotFoundError:
            self.unreadable.forget(path)
        except CorruptRecordError as error:
            _log.error("%s is no journal: %s", path, error)
            self._strange.add(path)
        except (OSError, LivingAIError) as error:
            self.unreadable.note(path, error)
        else:
            self.unreadable.forget(path)
            self.feeds[path] = feed

    def by_id(self, journal_id: str) -> Feed | None:
        """The feed of a journal (hex id)."""
        return self.feeds.get(os.path.join(self._directory.journals, journal_id))

    # -- records --

    def take(self, room: int) -> Iterator[Item]:
        """Up to ``room`` records, in order; stop early at will."""
        began = time.monotonic_ns()
        if self._folder_stamp() != self._stamp_ns:
            self.refresh()
        ready = [feed for feed in self.feeds.values() if feed.ahead or self.read_ahead(feed)]
        ranks = self._ranks() if ready else {}
        heap: list[tuple[_Order, int, Feed]] = [
            ((ranks[feed.boot], feed.ahead[0].header.mono_ns), number, feed)
            for number, feed in enumerate(ready)
        ]
        heapq.heapify(heap)
        # Agents that are faster than the store leave something in the heap at the end of every
        # turn, so neither what is held nor a reader may wait for an empty one.
        yield from self._release(heap)
        self._see_horizon(heap, began)
        while room > 0 and heap:
            order, number, feed = heap[0]
            if feed.same_boot and order[1] > began:
                heap.clear()
                break
            if self.unreadable and self._held_count >= _MAX_HELD:
                return
            item = feed.next()
            if feed.ahead or self.read_ahead(feed):
                following = (order[0], feed.ahead[0].header.mono_ns)
                heapq.heapreplace(heap, (following, number, feed))
            else:
                heapq.heappop(heap)
            room -= 1
            if not self._hold(item, order):
                yield item
        yield from self._release(heap)
        self._see_horizon(heap, began)

    def _see_horizon(self, heap: list[tuple[_Order, int, Feed]], began: int) -> None:
        """All before the heap's first record has been taken, unless something is held."""
        if self.unreadable or self._held:
            return
        if not heap:
            self.horizon_ns = began
        elif heap[0][2].same_boot:
            self.horizon_ns = max(self.horizon_ns, min(began, heap[0][0][1]))

    def read_ahead(self, feed: Feed) -> bool:
        """Read on in a journal that has no record at hand; whether it has a next one now."""
        if not self.unreadable.due(feed.path):
            return False
        try:
            feed.read_ahead()
        except OSError as error:
            self.unreadable.note(feed.path, error)
        else:
            self.unreadable.forget(feed.path)
        return bool(feed.ahead)

    def _ranks(self) -> dict[bytes, tuple[int, int]]:
        """The place of each boot. Journals of one boot may differ in it: one that was made after
        the older boots' journals had been removed has a smaller number. Those made before there was
        such a number go by age."""
        ranks: dict[bytes, tuple[int, int]] = {}
        for feed in self.feeds.values():
            place, age_ns = ranks.get(feed.boot, (0, feed.created_ns))
            ranks[feed.boot] = max(place, feed.boot_order), min(age_ns, feed.created_ns)
        ranks[boot_id()] = (1 << 64, 0)
        return ranks

    # -- held records (rule 3) --

    def _hold(self, item: Item, order: _Order) -> bool:
        """Whether a record has to wait; it is then kept for :meth:`_release`."""
        key = item.header.execution_hash
        held = self._held.get(key)
        if held is None:
            if not self.unreadable or item.header.seq != 1 or not self._may_follow(key):
                return False
            held = self._held[key] = []
        elif order < held[0][0]:  # what they have waited for
            return False
        # Not at the end: those that come from the journal once it can be read were accepted in
        # between, and a claim of theirs must not seem to be the newest.
        bisect.insort(held, (order, item), key=_order_of)
        self._held_count += 1
        return True

    def _may_follow(self, key: int) -> bool:
        """Whether a journal that cannot be read may have records of an execution."""
        for path in self.unreadable.paths():
            try:
                index = Index(path, write=False)
            except (OSError, ValueError):
                return True
            try:
                if index.boot != boot_id() or index.may_know(key):
                    return True
            finally:
                index.close()
        return False

    def _release(self, heap: list[tuple[_Order, int, Feed]]) -> Iterator[Item]:
        """Held records with nothing older before them, once every journal can be read."""
        if not self._held or self.unreadable:
            return
        until = heap[0][0] if heap else None
        for key in list(self._held):
            records = self._held[key]
            while records and (until is None or records[0][0] < until):
                _, item = records.pop(0)  # the consumer may stop here and continue later
                self._held_count -= 1
                if not records:
                    del self._held[key]
                yield item

    def waiting(self) -> bool:
        """Whether a journal has records that were not taken yet, or may have."""
        return bool(self.unreadable or self._held) or any(f.ahead for f in self.feeds.values())

    def close(self) -> None:
        """Let go of all journals."""
        for feed in self.feeds.values():
            feed.close()
        self.feeds.clear()


def _order_of(held: tuple[_Order, Item]) -> _Order:
    return held[0]
