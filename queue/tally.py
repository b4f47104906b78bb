"""Tallies: counters in a file of the state directory, which no death of a process takes back.

``service.tally`` is written by the dispatcher alone, which holds the service's lock, and
``store.tally`` by all writers, each for the moment in which it holds the file's lock. No writer
waits for another one there: the answer to a commit comes after it. See ``FORMAT.md`` for the bytes,
:mod:`livingai.queue.counters` for the places.

Rules:

1. A record is counted when the cursor of its journal passes it, not before: ``service.tally`` is
   written first, then the cursor. Its mark says up to which record of the journal it has counted,
   so what is read again after a death is not counted again, and all that has an outcome is counted
   in the end.
2. Two slots are written in turn, each with a checksum: a write that a death has cut short leaves
   the other one, which the cursor has not passed either.
3. Nothing rests on a tally but metrics. One that cannot be written is kept in memory and written
   with the next change; one that cannot be read is as one that is not there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import xxhash

from livingai.queue.counters import COUNTERS, FIRST_OUTCOME, LATENCY, ServiceCounter
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import (
    TALLY_FIELDS,
    TALLY_MAGIC,
    TALLY_MARK,
    TALLY_SLOT_BYTES,
)
from livingai.queue.opening import open_file

_IS_ID = re.compile("[0-9a-f]{16}").fullmatch
_log = logging.getLogger("livingai.service")
SERVICE_TALLY: Final = "service.tally"
STORE_TALLY: Final = "store.tally"
_MOST: Final = (1 << 63) - 1
_LAST_GENERATION: Final = 1 << 62
_SUM: Final = struct.Struct("<Q")
_COUNTERS_AT: Final = TALLY_FIELDS.size
_MOST_MARKS: Final = (TALLY_SLOT_BYTES - _COUNTERS_AT - 8 * COUNTERS - _SUM.size) // TALLY_MARK.size
#: A slot that no process of ours has written may have more counters than we know.
_MOST_COUNTERS: Final = 4096
#: How often a slot that is not intact is read again: writing one takes microseconds.
_TRIES: Final = 50
#: Seconds between a writer's last attempts to have the lock of ``store.tally``, ``_TRIES`` at most.
_TRY_EVERY_S: Final = 0.002


class TallyMark(NamedTuple):
    """What is counted of a journal: records up to ``lsn``, and so much of the waiting."""

    lsn: int
    waited_us: int


class TallyState(NamedTuple):
    """What a tally says."""

    generation: int
    counters: list[int]
    marks: dict[int, TallyMark]


NOTHING: Final = TallyState(0, [0] * COUNTERS, {})


def read_tally(path: str) -> TallyState:
    """What the newest intact slot of a tally says; zeros where there is none, or no such file.

    Raises:
        OSError: it cannot be read now.
    """
    try:
        fd = open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return NOTHING
    try:
        # A slot that is being written now is as a damaged one, and the other may be the older one:
        # counters would seem to go back.
        slots = _slots(fd)
        for _ in range(_TRIES):
            if None not in slots:
                break
            slots = _slots(fd)
        return _newest(slots)
    finally:
        os.close(fd)


def _slots(fd: int) -> list[TallyState | None]:
    """What both slots say; None: it is damaged, or being written."""
    return [_slot(fd, at) for at in (0, TALLY_SLOT_BYTES)]


def _newest(slots: list[TallyState | None]) -> TallyState:
    return max((slot for slot in slots if slot), default=NOTHING, key=lambda slot: slot.generation)


def _slot(fd: int, at: int) -> TallyState | None:
    """What a slot says; None: it is damaged. No more of it is read than was written."""
    raw = os.pread(fd, _COUNTERS_AT, at)
    if not any(raw):
        return NOTHING
    if len(raw) < _COUNTERS_AT:
        return None
    magic, generation, counters, marks = TALLY_FIELDS.unpack(raw)
    if magic != TALLY_MAGIC or counters > _MOST_COUNTERS or marks > _MOST_MARKS:
        return None
    end = _COUNTERS_AT + 8 * counters + TALLY_MARK.size * marks
    raw += os.pread(fd, end + _SUM.size - len(raw), at + len(raw))
    if end + _SUM.size != len(raw) or _SUM.unpack_from(raw, end)[0] != _checksum(raw[:end]):
        return None
    counted = list(struct.unpack_from(f"<{counters}Q", raw, _COUNTERS_AT))
    counted += [0] * (COUNTERS - counters)
    found = TALLY_MARK.iter_unpack(raw[end - TALLY_MARK.size * marks : end])
    return TallyState(generation, counted, {key: TallyMark(*rest) for key, *rest in found})


def _checksum(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)


class _TallyFile:
    """A tally, open for writing."""

    def __init__(self, path: str) -> None:
        """Raises OSError, and OddFileError for what is no file of ours."""
        self.path = path
        self._fd = open_file(path, os.O_RDWR | os.O_CREAT)
        self._state = NOTHING
        self._load()

    def _load(self) -> None:
        state = _newest(_slots(self._fd))
        self._state = state._replace(counters=state.counters.copy(), marks=state.marks.copy())

    def _write(self) -> None:
        """Write the next slot. Raises OSError; what was written before then still counts."""
        generation, counters, marks = self._state
        if generation >= _LAST_GENERATION:  # no number that was counted up: begin anew
            os.ftruncate(self._fd, 0)
            generation = 0
        generation += 1
        packed = b"".join(TALLY_MARK.pack(key, *mark) for key, mark in marks.items())
        raw = b"".join((
            TALLY_FIELDS.pack(TALLY_MAGIC, generation, len(counters), len(marks)),
            struct.pack(f"<{len(counters)}Q", *counters),
            packed,
        ))  # fmt: skip
        raw += _SUM.pack(_checksum(raw))
        if os.pwrite(self._fd, raw, generation % 2 * TALLY_SLOT_BYTES) != len(raw):
            raise OSError(f"{self.path}: not all was written")
        self._state = self._state._replace(generation=generation)

    def _add(self, place: int, count: int) -> None:
        counters = self._state.counters
        counters[place] = min(counters[place] + count, _MOST)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ServiceTally(_TallyFile):
    """The dispatcher's tally of outcomes; see the rules above. Call from one thread."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        #: Something was counted that is not written yet.
        self._news = False
        #: The disk takes it not; said once.
        self._fails = False

    def passed(self, journal_id: int, lsn: int, status: int, latency_us: int) -> None:
        """The cursor is about to pass a record with this outcome; :meth:`write` comes before it
        does. One that was counted before is not counted again."""
        mark = self._state.marks.get(journal_id, TallyMark(0, 0))
        if lsn <= mark.lsn:
            return
        if len(self._state.marks) >= _MOST_MARKS and journal_id not in self._state.marks:
            return  # there are not so many descriptors
        self._news = True
        self._state.marks[journal_id] = mark._replace(lsn=lsn)
        self._add(FIRST_OUTCOME + status - 1, 1)
        self._add(ServiceCounter.LATENCY_US, latency_us)
        self._add(LATENCY.place(latency_us), 1)

    def waited(self, journal_id: int, waited_us: int) -> None:
        """What a journal's owner says that its saves have waited so far."""
        mark = self._state.marks.get(journal_id, TallyMark(0, 0))
        if waited_us <= mark.waited_us or len(self._state.marks) >= _MOST_MARKS:
            return
        self._news = True
        self._add(ServiceCounter.WAITED_US, waited_us - mark.waited_us)
        self._state.marks[journal_id] = mark._replace(waited_us=waited_us)

    def forget(self, journal_id: int) -> None:
        """A journal has been removed; its number is never used again."""
        self._state.marks.pop(journal_id, None)

    def keep(self, journal_ids: Iterable[int]) -> None:
        """Forget all journals but these."""
        there = set(journal_ids)
        for journal_id in self._state.marks.keys() - there:
            self.forget(journal_id)

    def write(self) -> None:
        """Write what was counted, if there is any. What the disk does not take is written with the
        next change; if the process dies before, it is lost."""
        if not self._news:
            return
        try:
            self._write()
        except OSError as error:
            if not self._fails:
                _log.warning("cannot write %s, metrics may lose counts: %s", self.path, error)
            self._fails = True
        else:
            self._news = self._fails = False


def open_service_tally(directory: StateDirectory) -> ServiceTally | None:
    """The tally of a directory whose service's lock the caller holds, without marks of journals
    that are gone; None if there can be none: then nothing is counted."""
    try:
        tally = ServiceTally(os.path.join(directory.path, SERVICE_TALLY))
        there = os.listdir(directory.journals)
    except OSError as error:
        _log.error("metrics are not counted: %s", error)
        return None
    tally.keep(int(name, 16) for name in there if _IS_ID(name))
    return tally


class StoreTally(_TallyFile):
    """The writers' tally of commits, shared by all of them. Call from one thread."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        #: What is counted and not written yet, by place.
        self._kept: dict[int, int] = {}

    def add(self, more: Mapping[int, int]) -> None:
        """Add to the counters at these places. While another process has the file, or the disk
        takes it not, it is kept, and added by the next call or :meth:`write`. Raises OSError."""
        for place, count in more.items():
            self._kept[place] = self._kept.get(place, 0) + count
        self.write()

    def write(self) -> bool:
        """Write what is kept, without waiting; whether nothing is kept now. Raises OSError."""
        if not self._kept:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            self._load()
            for place, count in self._kept.items():
                self._add(place, count)
            self._write()
            self._kept.clear()
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def finish(self) -> bool:
        """Write what is kept, now or never: wait for the lock, 0.1 s at most. False: it is lost.
        Raises OSError."""
        for _ in range(_TRIES):
            if self.write():
                return True
            time.sleep(_TRY_EVERY_S)
        return False
