"""One journal on its way to the store, as the dispatcher sees it, and the records from it."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import time

from livingai.queue.cursor import CursorFile
from livingai.queue.directory import remove_journal
from livingai.queue.index import Index
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import Flag
from livingai.queue.lock import OwnerLock, boot_id, owner_alive
from livingai.queue.opening import open_file
from livingai.queue.record import RecordHeader, pack_outcome, read_outcome
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
        try:
            self.cursor = CursorFile(path, self.tail.journal_id, write=True)
        except BaseException:
            self.tail.close()
            raise
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
        #: The owner has removed the journal.
        self.gone = False
        #: The owner is dead and everything was read.
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
        try:
            if owner_alive(path):
                return
            self.lock = OwnerLock.acquire(path)
        except FileNotFoundError:  # everything was stored, and its owner has removed it
            self.exhausted = self.gone = True
        except OSError as error:
            _log.warning("cannot look after the owner of %s, trying again: %s", self.path, error)
            return
        if self.lock is not None or self.gone:
            self.alive = False
            self.retired_at = time.monotonic()

    def sync(self) -> None:
        """What a dead owner left unsynced becomes safe from power loss too. Slow; any thread."""
        for number in segment_numbers(self.path):
            try:
                fd = open_file(os.path.join(self.path, segment_name(number)), os.O_RDONLY)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                _log.warning("cannot sync what the owner of %s left: %s", self.path, error)

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
        except OSError as error:  # its owner is told; only a reconnect would not see it
            _log.warning("cannot write an outcome into %s: %s", self.path, error)
            return pack_outcome(item.header.lsn, status, latency_us)

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
        """Whether its owner is dead and all of its records are terminal, damaged ones too."""
        return self.exhausted and self.drained and not self.damage

    @property
    def damage(self) -> list[Damage]:
        """Damaged places that were found and not set aside yet."""
        return self.tail.damage

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
