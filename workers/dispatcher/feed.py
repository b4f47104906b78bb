"""One journal on its way to the store, as the dispatcher sees it, and the records from it."""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable

from livingai import serial
from livingai.errors import CorruptRecordError, OddFileError
from livingai.failpoint import failpoint
from livingai.queue.control import NAME as CONTROL
from livingai.queue.cursor import NAME as CURSOR
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import remove_journal
from livingai.queue.index import Index
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import RECORD_HEADER_BYTES, ExtensionKey, offset_of, segment_of
from livingai.queue.lock import OwnerLock, boot_id, owner_alive
from livingai.queue.names import put_aside, put_back_names
from livingai.queue.opening import sync_file, sync_names
from livingai.queue.patch import is_patch, state_bytes
from livingai.queue.record import RecordHeader, pack_outcome, read_outcome
from livingai.queue.segment import segment_name, segment_numbers
from livingai.queue.tail import Damage, Found, JournalTail
from livingai.queue.tally import ServiceTally
from livingai.workers.encoding_task import EncodingResult, EncodingTask

_log = logging.getLogger("livingai.service")
#: Headers that are read ahead of each journal.
_READ_AHEAD = 512
#: Damaged places that are reported to an owner when it reconnects.
_MOST_LOST = 1000
#: An outcome that the disk does not take for so long is given up.
_PATIENCE_S = 60.0


class Item:
    """A record on its way: what is known of it, and its encoded state."""

    __slots__ = (
        "at",
        "attempts",
        "base_at",
        "began",
        "breaks",
        "by_writer",
        "chain",
        "done",
        "encoded",
        "feed",
        "firm",
        "header",
        "outcome",
        "overtaken",
        "patch",
        "ready",
        "slow",
        "spared",
    )

    def __init__(self, feed: Feed, header: RecordHeader, at: int) -> None:
        self.feed = feed
        self.header = header
        self.at = at
        self.encoded: EncodingResult | None = None
        #: The writer encodes its state.
        self.by_writer = False
        #: Its encoding takes long, or that of the one before did.
        self.slow = False
        self.base_at = 0
        #: When the turn began in which it was taken (CLOCK_MONOTONIC, s); 0: that says nothing.
        self.began = 0.0
        #: It goes to the store as the patch that it is.
        self.patch = False
        #: Deltas between its state and a whole one.
        self.chain = 0
        #: It is written even if a newer state of its claim is at hand: something may build on it.
        self.firm = False
        #: How often a newer state was sent in its place and not stored.
        self.spared = 0
        #: Its owner died before it was published, and another process has taken over since.
        self.overtaken = False
        #: Encoded, or needs no encoding: it may be written.
        self.ready = False
        self.done = False
        #: Status code and latency in microseconds, once it is done.
        self.outcome = (0, 0)
        #: Broken compressor pools and dead writers that it was part of.
        self.breaks = 0
        self.attempts = 0

    def task(self) -> EncodingTask:
        """Its place, for the compressor pool."""
        return EncodingTask(self.feed.path, self.at, self.base_at)

    def raw_bytes(self) -> int:
        """Size of its state, of a patch as that says."""
        header = self.header
        if not is_patch(header):
            return header.state_len
        with contextlib.suppress(OSError):
            segment = self.feed.tail.segments.get(segment_of(self.at))
            if segment is not None:
                start = offset_of(self.at) + header.state_offset
                return state_bytes(header, segment.view[start : start + header.state_len])
        return header.state_len

    @property
    def end(self) -> int:
        """Position behind it."""
        return self.at + self.header.length


class Feed:
    """One journal, as the service sees it."""

    def __init__(self, path: str, tally: ServiceTally | None = None) -> None:
        """``tally`` counts what the cursor passes."""
        self.path = path
        self._tally = tally
        self.tail = JournalTail(path)
        try:
            self.cursor = self._open_cursor()
        except BaseException:
            self.tail.close()
            raise
        try:
            start = self.cursor.read()
            self.tail.close()
            self.tail = JournalTail.behind(path, start)
        except BaseException:  # no descriptors: it will be opened again and again
            self.tail.close()
            self.cursor.close()
            raise
        self.journal_id = self.tail.journal_id
        #: Acceptance times compare within one boot; boots compare by their order, or by age.
        self.boot = self.tail.control.boot
        self.boot_order = self.tail.control.boot_order
        self.created_ns = self.tail.control.created_ns
        self.same_boot = self.boot == boot_id()
        self.alive = True
        self.lock: OwnerLock | None = None
        #: The owner has removed the journal.
        self.gone = False
        #: The owner is dead and everything was read.
        self.exhausted = False
        self.ahead: collections.deque[Found] = collections.deque()
        #: Records of a dead owner that were read, and are not in its index yet.
        self._read: list[Found] = []
        #: Number of the record that counts as overtaken, see :meth:`_look_at_end`; 0: none.
        self._overtaken_lsn = 0
        self.inflight: collections.deque[Item] = collections.deque()
        self.retired_at = 0.0
        #: Records that are damaged or missing: the first one, the last one, and why. They are
        #: reported to the owner again when it reconnects.
        self.lost: collections.deque[tuple[int, int, str]] = collections.deque(maxlen=_MOST_LOST)
        self._note_skipped()
        self._moved = False
        #: What the cursor has still to be moved over: number and end of the last such record.
        self._passed: tuple[int, int] | None = None
        #: Outcomes that could not be written: position, number, status, latency.
        self._unwritten: list[tuple[int, int, int, int]] = []
        #: Since when (CLOCK_MONOTONIC) the disk takes some of them not at all, and its last error.
        self._unwritten_since = 0.0
        self._errno: int | None = None
        self._fails = False
        self._lock_is_odd = False
        if self.tail.doubt:
            self._correct_cursor(start.lsn)

    def _open_cursor(self) -> CursorFile:
        try:
            return CursorFile(self.path, self.tail.journal_id, write=True)
        except OddFileError as error:
            folder = os.path.join(os.path.dirname(os.path.dirname(self.path)), "quarantine")
            where = put_aside(os.path.join(self.path, CURSOR), folder)
            _log.error("%s; it is in %s now, and the journal is read from the start", error, where)
        return CursorFile(self.path, self.tail.journal_id, write=True)

    def _correct_cursor(self, lsn: int) -> None:
        """The cursor is not true: put it right, now or as soon as it can be written. An owner of an
        earlier livingai would reuse what is not stored; others look at the outcomes, too."""
        _log.error(
            "%s: the cursor says that %s stored, which is not so (%s); the journal is read from "
            "its oldest record on",
            self.path, f"all records up to {lsn} are" if lsn else "nothing is", self.tail.doubt,
        )  # fmt: skip
        self._passed = self.tail.lsn, self.tail.position
        self._moved = True
        self.advance()

    def _note_skipped(self) -> None:
        """What lies between an untrue cursor and the oldest record may have been stored and reused,
        or not. Its owner knows for which records it still waits, and those will have no outcome."""
        first, last = self.tail.skipped
        if self.tail.doubt and first <= last:
            self.lost.append((first, last, f"records {first} to {last} are damaged or missing"))

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
        except OddFileError as error:
            if not self._lock_is_odd:  # an owner of an earlier boot is dead all the same
                self._lock_is_odd = True
                _log.error("%s; so it is not known whether the journal's owner is alive", error)
            if self.same_boot:
                return
        except OSError as error:
            _log.warning("cannot check the owner of %s, trying again: %s", self.path, error)
            return
        if self.lock is not None or self.gone or self._lock_is_odd:
            self.alive = False
            self.retired_at = time.monotonic()
        if self.lock is not None:
            self._put_back_names()

    def _put_back_names(self) -> None:
        try:
            stored = self._passed[1] if self._passed is not None else self.cursor.read().position
            found = put_back_names(self.tail.segments, self.journal_id, stored)
        except OSError as error:
            _log.warning("cannot put the segments of %s in order: %s", self.path, error)
            return
        for name, number in found:
            _log.error(
                "%s: segment %d had the name of segment %d; it has its own again, and is read",
                self.path, number, name,
            )  # fmt: skip

    def sync(self) -> None:
        """What a dead owner left unsynced becomes safe from power loss too, and so do the names
        that lead to it: it may have died before its first sync. Slow; any thread."""
        for number in segment_numbers(self.path):
            self._sync(os.path.join(self.path, segment_name(number)), sync_file)
        self._sync(os.path.join(self.path, CONTROL), sync_file)
        self._sync(self.path, sync_names)

    def _sync(self, path: str, sync: Callable[[str], None]) -> None:
        try:
            sync(path)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("cannot sync what the owner of %s left: %s", self.path, error)

    def read_ahead(self) -> None:
        """Read headers until enough are there or the journal has no more.

        Raises:
            OSError: not all could be read for now (no descriptors left); call it again.
        """
        if not self.exhausted and len(self.ahead) + len(self._read) < _READ_AHEAD // 2:
            self._read_on()
        if self._read:
            self._recover()

    def _read_on(self) -> None:
        alive = self.alive
        read = self.ahead if alive else self._read
        for found in self.tail.read(alive=alive):
            read.append(found)
            if len(read) >= _READ_AHEAD:
                return
        if not alive:
            self.exhausted = True

    def _recover(self) -> None:
        """Point the hot cache to what its owner died before publishing, before anything else is
        done with that: what is stored and not in the index would be read in an older version."""
        control = self.tail.control
        unpublished = [found for found in self._read if found.position >= control.tail]
        if unpublished:
            # No index: no process reads it.
            with contextlib.suppress(FileNotFoundError, OddFileError, ValueError):
                index = Index(self.path)
                try:
                    for found in unpublished:
                        if not self._is_anothers(found):
                            index.recover(found.header, found.position)
                    index.forget_nodes()
                    if not control.damaged:
                        self._look_at_end(index, unpublished[-1])
                finally:
                    index.close()
        self.ahead.extend(self._read)
        self._read.clear()

    def _is_anothers(self, found: Found) -> bool:
        """Whether a record was queued again, and says whose write it is: the number of that claim
        may be one that its journal has given, too. Raises OSError."""
        header, segment = found.header, self.tail.segments.get(segment_of(found.position))
        if not header.ext_len or segment is None:
            return False
        start = offset_of(found.position) + RECORD_HEADER_BYTES + header.node_len
        try:
            tags = serial.unpack(bytes(segment.view[start : start + header.ext_len]))
        except CorruptRecordError:  # whoever stores it will say so
            return False
        return isinstance(tags, dict) and ExtensionKey.OWNER in tags

    def _look_at_end(self, index: Index, found: Found) -> None:
        """Was its owner's last act the first record of a claim, taken over by another one since?

        Then the store may know its successor by now, and would take this claim for the newest one.
        Its save never returned, and the process that took over could not have seen it: it is
        fenced. What lies right behind the published tail is the last one: an owner publishes what
        it appends before it appends more. A copy of a claim's first record is not its newest one.
        """
        last = found.header
        slot = index.get(last.execution_hash)
        if (
            last.seq == 1
            and last.lsn == self.tail.control.tail_lsn + 1
            and slot is not None
            and slot.claim == last.claim
            and slot.newest == found.position
            and slot.superseded
            and self.same_boot
        ):
            self._overtaken_lsn = last.lsn

    def next(self) -> Item:
        """Take the next record that was read ahead; it is in flight from now on."""
        found = self.ahead.popleft()
        item = Item(self, found.header, found.position)
        item.overtaken = found.header.lsn == self._overtaken_lsn
        self.inflight.append(item)
        return item

    def outcome_of(self, item: Item) -> tuple[int, int] | None:
        """The outcome that the record already has (from an earlier life of the service)."""
        segment = self.tail.segments.get(segment_of(item.at))
        if segment is None:
            return None
        return read_outcome(segment.view, offset_of(item.at), item.header.lsn)

    def settle(self, item: Item, status: int, latency_us: int) -> int:
        """Write a record's outcome into the journal; the outcome word."""
        item.done = True
        item.outcome = status, latency_us
        item.encoded = None
        self._moved = True
        outcome = (item.at, item.header.lsn, status, latency_us)
        if not self.write_outcome(*outcome):  # its owner gets the message all the same
            if not self._unwritten:
                self._unwritten_since = time.monotonic()
            self._unwritten.append(outcome)
        return pack_outcome(item.header.lsn, status, latency_us)

    def write_outcome(self, at: int, lsn: int, status: int, latency_us: int) -> bool:
        """Write an outcome into the journal; False: not now. The cursor must not pass a record
        without one: it would not be true."""
        try:
            self.tail.segments.write_outcome(at, lsn, status, latency_us)
        except (FileNotFoundError, OddFileError) as error:  # the record is gone
            _log.warning("cannot write an outcome into %s: %s", self.path, error)
        except OSError as error:
            self._errno = error.errno
            self._tell_trouble("an outcome into", error)
            return False
        return True

    def _write_again(self) -> bool:
        """Write what could not be written; whether nothing is left. A place that the disk takes
        nothing for is given up after a while: its agent was told, and if the record is sent again
        after a restart, the store knows it."""
        self._unwritten = [each for each in self._unwritten if not self.write_outcome(*each)]
        now = time.monotonic()
        if not self._unwritten or self._errno != errno.EIO:
            self._unwritten_since = now
            return not self._unwritten
        if now - self._unwritten_since < _PATIENCE_S:
            return False
        for at, lsn, *_ in self._unwritten:
            _log.error("record %d of %s (at %d) stays without its outcome", lsn, self.path, at)
        self._unwritten = []
        return True

    def skip(self) -> None:
        """A record was found terminal: the cursor may move."""
        self._moved = True

    def pass_done(self) -> bool:
        """Take the first records that are terminal out of the flight and count them; the cursor may
        pass them now. False: an outcome could not be written."""
        if self._moved and not self._write_again():
            return False
        tally = self._tally
        while self.inflight and self.inflight[0].done:
            last = self.inflight.popleft()
            self._passed = last.header.lsn, last.end
            if tally is not None:
                tally.passed(self.journal_id, last.header.lsn, *last.outcome)
        if tally is not None:
            tally.waited(self.journal_id, self.tail.control.waited_us)
        return True

    def advance(self) -> bool:
        """Move the cursor over what is terminal. False: it, or an outcome, could not be written
        now; call it again, or the owner of a full journal would wait for ever."""
        if not self._moved:
            return True
        if not self.pass_done():
            return False
        if self._passed is not None:
            try:
                if self._tally is not None:
                    self._tally.write()
                failpoint("dispatcher.before_cursor")
                self.cursor.write(*self._passed)
            except OSError as error:
                self._tell_trouble("the cursor of", error)
                return False
            behind = segment_of(self._passed[1])
            for number in [n for n in self.tail.segments.numbers() if n < behind]:
                self.tail.segments.drop(number)
        self._passed = None
        self._moved = self._fails = False
        return True

    def _tell_trouble(self, what: str, error: OSError) -> None:
        if not self._fails:  # once, not for every attempt
            _log.warning("cannot write %s %s, trying again: %s", what, self.path, error)
        self._fails = True

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
        self._moved = False
        self.tail.close()
        self.cursor.close()
        try:
            if remove:
                remove_journal(self.path)
        finally:
            if self.lock is not None:
                self.lock.release()
