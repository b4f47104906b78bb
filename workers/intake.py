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

import collections
import contextlib
import logging
import os
import time
from collections.abc import Iterator

from livingai.errors import LivingAIError
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import StateDirectory, remove_journal
from livingai.queue.index import Index
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import Flag
from livingai.queue.lock import OwnerLock, boot_id, owner_alive
from livingai.queue.record import RecordHeader, read_outcome
from livingai.queue.segment import segment_name, segment_numbers
from livingai.queue.tail import Damage, Found, JournalTail
from livingai.workers.compressor import Encoded, Task

_log = logging.getLogger("livingai.service")
#: Headers that are read ahead of each journal.
_READ_AHEAD = 512


class Item:
    """A record on its way: what is known of it, and its encoded state."""

    __slots__ = (
        "at",
        "attempts",
        "base_at",
        "breaks",
        "done",
        "encoded",
        "feed",
        "header",
        "ready",
    )

    def __init__(self, feed: Feed, header: RecordHeader, at: int) -> None:
        self.feed = feed
        self.header = header
        self.at = at
        self.encoded: Encoded | None = None
        self.base_at = 0
        #: Encoded, or needs no encoding: may be written.
        self.ready = False
        self.done = False
        #: Broken compressor pools and dead writers that it was part of.
        self.breaks = 0
        self.attempts = 0

    def task(self) -> Task:
        """Its place, for the compressor pool."""
        return Task(self.feed.path, self.at, self.base_at)

    def raw_bytes(self) -> int:
        """Size of its state."""
        return self.header.state_len

    @property
    def end(self) -> int:
        """Position behind it."""
        return self.at + self.header.length


class Feed:
    """One journal, as the service sees it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tail = JournalTail(path)
        self.cursor = CursorFile(path, self.tail.journal_id, write=True)
        start = self.cursor.read()
        if start.lsn:
            self.tail.close()
            self.tail = JournalTail(path, position=start.position, after_lsn=start.lsn)
        self.journal_id = self.tail.journal_id
        same_boot = self.tail.control.boot == boot_id()
        #: Journals of earlier boots come first, by age.
        self.rank = (1, 0) if same_boot else (0, self.tail.control.created_ns)
        self.same_boot = same_boot
        self.alive = True
        self.lock: OwnerLock | None = None
        self.exhausted = False
        self.ahead: collections.deque[Found] = collections.deque()
        self.inflight: collections.deque[Item] = collections.deque()
        self.retired_at = 0.0
        self._moved = False

    def check_owner(self) -> None:
        """Notice the owner's death and take the journal over."""
        if not self.alive:
            return
        path = os.path.join(self.path, OWNER_LOCK)
        if not owner_alive(path):
            self.lock = OwnerLock.acquire(path)
            if self.lock is not None:
                self.alive = False
                self.retired_at = time.monotonic()

    def sync(self) -> None:
        """What a dead owner left unsynced becomes safe from power loss too. Slow; any thread."""
        for number in segment_numbers(self.path):
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(os.path.join(self.path, segment_name(number)), os.O_RDONLY)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)

    def read_ahead(self) -> None:
        """Read headers until enough are there or the journal has no more."""
        if self.exhausted or len(self.ahead) >= _READ_AHEAD // 2:
            return
        alive = self.alive
        published = self.tail.control.tail
        for found in self.tail.read(alive=alive):
            if found.position >= published and not alive:
                self._index(found)
            self.ahead.append(found)
            if len(self.ahead) >= _READ_AHEAD:
                return
        if not alive:
            self.exhausted = True

    def _index(self, found: Found) -> None:
        """Point the hot cache to a record that its owner did not live to publish."""
        header = found.header
        try:
            index = Index(self.path)
        except (OSError, ValueError):
            return
        slot = index.locate(header.execution_hash)
        index.begin(slot, header.claim, keep_state=True)
        index.put(slot, found.position, header.seq, bool(header.flags & Flag.STATE))
        index.close()

    def outcome_of(self, item: Item) -> tuple[int, int] | None:
        """The outcome that the record already has (from an earlier life of the service)."""
        segment = self.tail.segments.get(item.at >> 32)
        if segment is None:
            return None
        return read_outcome(segment.view, item.at & 0xFFFF_FFFF, item.header.lsn)

    def settle(self, item: Item, status: int, latency_us: int) -> int:
        """Write a record's outcome into the journal; the outcome word."""
        item.done = True
        item.encoded = None
        self._moved = True
        try:
            return self.tail.segments.write_outcome(item.at, item.header.lsn, status, latency_us)
        except OSError as error:  # the record is stored; only its outcome is not remembered
            _log.warning("cannot write an outcome into %s: %s", self.path, error)
            return 0

    def skip(self) -> None:
        """A record was found terminal: the cursor may move."""
        self._moved = True

    def advance(self) -> None:
        """Move the cursor over what is terminal."""
        if not self._moved:
            return
        self._moved = False
        last: Item | None = None
        while self.inflight and self.inflight[0].done:
            last = self.inflight.popleft()
        if last is not None:
            try:
                self.cursor.write(last.header.lsn, last.end)
            except OSError as error:
                _log.warning("cannot write the cursor of %s: %s", self.path, error)
            for number in [n for n in self.tail.segments.numbers() if n < last.end >> 32]:
                self.tail.segments.drop(number)

    @property
    def drained(self) -> bool:
        """Whether nothing of this journal is on its way."""
        return not self.inflight and not self.ahead

    @property
    def finished(self) -> bool:
        """Whether its owner is dead and all of its records are terminal."""
        return self.exhausted and self.drained

    def take_damage(self) -> list[Damage]:
        """Damaged places found since the last call."""
        found, self.tail.damage = self.tail.damage, []
        return found

    def size_bytes(self) -> int:
        """Bytes of its segments."""
        total = 0
        for number in segment_numbers(self.path):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(self.path, segment_name(number))).st_size
        return total

    def close(self, *, remove: bool = False) -> None:
        """Let go; with ``remove`` delete the journal of a dead owner."""
        self.tail.close()
        self.cursor.close()
        if remove:
            remove_journal(self.path)
        if self.lock is not None:
            self.lock.release()


class Intake:
    """The journals of a directory; see the rules above."""

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory
        self.feeds: dict[str, Feed] = {}
        self._broken: set[str] = set()
        #: Every record accepted before this CLOCK_MONOTONIC time has been taken.
        self.horizon_ns = 0

    def refresh(self) -> None:
        """Notice new journals."""
        for path in self._directory.journal_paths():
            if path in self.feeds or path in self._broken:
                continue
            try:
                feed = Feed(path)
            except FileNotFoundError:
                continue
            except (OSError, LivingAIError) as error:
                _log.error("journal %s cannot be read and is left alone: %s", path, error)
                self._broken.add(path)
                continue
            feed.check_owner()
            self.feeds[path] = feed

    def by_id(self, journal_id: str) -> Feed | None:
        """The feed of a journal (hex id)."""
        return self.feeds.get(os.path.join(self._directory.journals, journal_id))

    def take(self, room: int) -> Iterator[Item]:
        """Up to ``room`` records, in order; stop early at will."""
        began = time.monotonic_ns()
        feeds = list(self.feeds.values())
        while room > 0:
            best: Feed | None = None
            best_key: tuple[tuple[int, int], int] = ((2, 0), 0)
            for feed in feeds:
                if not feed.ahead:
                    feed.read_ahead()
                    if not feed.ahead:
                        continue
                key = (feed.rank, feed.ahead[0].header.mono_ns)
                if key < best_key:
                    best, best_key = feed, key
            if best is None or (best.same_boot and best_key[1] > began):
                self.horizon_ns = began
                return
            found = best.ahead.popleft()
            item = Item(best, found.header, found.position)
            best.inflight.append(item)
            room -= 1
            yield item

    def close(self) -> None:
        """Let go of all journals."""
        for feed in self.feeds.values():
            feed.close()
        self.feeds.clear()
