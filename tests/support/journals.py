"""Journals for tests, written and read past the engine, and damage done to them."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

from livingai import serial
from livingai.engine.cache import HotCache
from livingai.engine.handle import DirectoryHandle
from livingai.engine.patches import Lineage
from livingai.engine.pending import OwnedExecution
from livingai.node import ExecutionNode, Status
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import Appended, Journal, JournalLimits
from livingai.queue.layout import Flag, StateKind, offset_of, segment_of
from livingai.queue.patch import with_state
from livingai.queue.record import Record, execution_hash, read_record
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from livingai.queue.tail import Found, JournalTail

#: The variable that names another folder for :func:`scratch_folder`.
SCRATCH = "LIVINGAI_SCRATCH"
STORE_URL = "sqlite:///nowhere.db"
MET = 1
#: Small, so that a few records fill a segment and a few segments the journal.
LIMITS = JournalLimits(
    segment_bytes=4096, journal_bytes=6 * 4096, cache_bytes=2 * 4096, cache_ttl_s=0.0,
    index_sets=2, node_slots=4,
)  # fmt: skip


def scratch_folder() -> Path:
    """A new folder for many small journals; in memory where that is at hand, for fsync is slow.
    Who may kill the tests names the folder for it in ``SCRATCH``, and removes that."""
    memory = os.environ.get(SCRATCH) or "/dev/shm"
    usable = os.path.isdir(memory) and os.access(memory, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="livingai-test-", dir=memory if usable else None))


def state_directory(path: Path | str) -> StateDirectory:
    """A state directory, made if it is not there."""
    directory = StateDirectory(path)
    directory.ensure(STORE_URL)
    return directory


class Writer:
    """A journal's owner, as :class:`livingai.engine.handle.DirectoryHandle` is one: it enters an
    execution with its first save, and goes on under that claim when its slot was evicted. Several
    can live in one process."""

    def __init__(
        self,
        directory: StateDirectory,
        limits: JournalLimits = LIMITS,
        *,
        patch_from: int = 1 << 62,
    ) -> None:
        """``patch_from``: states of so many bytes may be written as patches."""
        self.patch_from = patch_from
        self.cache = HotCache(directory, ttl_s=3600.0)
        self.journal = Journal(directory.journals, limits)
        self.journal.supersede = self._supersede
        self.own = Segments(self.journal.directory)
        self.places: dict[str, OwnedExecution] = {}
        #: Node section of the last save.
        self.node = b""

    def _supersede(self, key: int) -> None:
        self.cache.supersede(key, own=self.journal.id)

    def enter(self, execution_id: str) -> OwnedExecution:
        """Take the execution over."""
        claim = self.cache.take_over(execution_id, time.time_ns() // 1_000_000, self.journal.id)
        return self.begin(execution_id, claim)

    def begin(self, execution_id: str, claim: int) -> OwnedExecution:
        """Begin a claim that was taken."""
        key = execution_hash(execution_id)
        slot = self.journal.locate(key)
        self.journal.index.begin(slot, claim)
        place = self.places[execution_id] = OwnedExecution(key, slot, claim, 0, 0)
        return place

    def place(self, execution_id: str) -> OwnedExecution:
        """The execution as this process writes it: under its claim, or else under a new one."""
        place = self.places.get(execution_id)
        if place is None:
            return self.enter(execution_id)
        if not self.journal.index.owns(place.slot, place.key):
            DirectoryHandle._resume(place, self.journal)
        return place

    def save(
        self,
        execution_id: str,
        state: bytes | None,
        *,
        node_id: str = "",
        output: object = None,
        history: bool = True,
        budget_us: int = 50_000,
    ) -> Appended:
        """Append one record, as an engine does."""
        place = self.place(execution_id)
        node_id = node_id or f"{execution_id}/{place.claim}/{place.seq}"
        node = ExecutionNode(execution_id, status=Status.SUCCESS, output=output, id=node_id)
        self.node = serial.pack(node.to_wire())
        flags = 0
        if state is not None:
            flags = Flag.STATE if history else Flag.STATE | Flag.LATEST_ONLY
        patch = line = None
        if state is not None and len(state) >= self.patch_from:
            flags |= Flag.BASE
            line = place.lineage = place.lineage or Lineage()
            patch = line.patch(state, self.own)
        at = self.journal.append(
            key=place.key, slot=place.slot, node_key=execution_hash(node_id), claim=place.claim,
            epoch=0, seq=place.seq + 1, flags=flags,
            state_kind=StateKind.NONE if state is None else StateKind.BYTES,
            node=self.node, ext=b"", state=state or b"", budget_us=budget_us, patch=patch,
        )  # fmt: skip
        place.seq += 1
        if line is None:
            return at
        if at.patched and patch is not None:
            line.patched(patch)
        else:
            line.wrote(state or b"", at.position, place.seq, at.reliance)
        return at

    def close(self) -> None:
        """Close in order."""
        self.journal.close()
        self.own.close()
        self.cache.close()

    def die(self) -> None:
        """As kill -9 leaves it: the lock is free, nothing is written or synced."""
        self.journal.abandon()
        self.own.close()
        self.cache.close()


def untrue_cursor(journal: str, lsn: int) -> None:
    """Have a journal's cursor say that all records up to this one have their outcomes."""
    (last,) = (found for found in records(journal) if found.header.lsn == lsn)
    with closing(CursorFile(journal, last.header.journal_id, write=True)) as file:
        file.write(lsn, last.position + last.header.length)


class Consumer:
    """The service's side of one journal: reads records, notes outcomes, moves the cursor."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.tail = JournalTail(directory)
        self.cursor = CursorFile(directory, self.tail.journal_id, write=True)
        start = self.cursor.read()
        self.lsn = start.lsn
        if start.lsn:
            self.tail.close()
            self.tail = JournalTail(directory, position=start.position, after_lsn=start.lsn)

    def take(self, most: int = 1 << 30, *, alive: bool = True) -> list[Found]:
        """Read up to ``most`` records, store them (that is: nowhere) and pass them."""
        taken = []
        for found in self.tail.read(alive=alive):
            taken.append(found)
            self.tail.segments.write_outcome(found.position, found.header.lsn, MET, 1)
            if len(taken) >= most:
                break
        if taken:
            last = taken[-1]
            self.lsn = last.header.lsn
            self.cursor.write(self.lsn, last.position + last.header.length)
        return taken

    def record(self, found: Found) -> Record:
        """A record, verified, with its whole state. Raises CorruptRecordError."""
        return record_at(self.tail.segments, found.position)

    def close(self) -> None:
        """Let go."""
        self.tail.close()
        self.cursor.close()


def record_at(segments: Segments, position: int) -> Record:
    """The record at a position, verified, with its whole state. Raises CorruptRecordError."""
    return with_state(segments, record_of(segments, position))


def record_of(segments: Segments, position: int) -> Record:
    """As :func:`record_at`, as it was written: a patch as a patch."""
    segment = segments.get(segment_of(position))
    assert segment is not None
    return read_record(segment.view, offset_of(position))


def read_all(directory: str, *, alive: bool = False) -> tuple[list[Record], JournalTail]:
    """Every record of a journal from its oldest segment on, verified, and the tail that read them
    (closed: look at its ``damage``)."""
    with closing(JournalTail(directory)) as tail:
        records = []
        for found in tail.read(alive=alive):
            segment = tail.segments.get(segment_of(found.position))
            assert segment is not None
            records.append(read_record(segment.view, offset_of(found.position)))
        return records, tail


def crashed(directory: str, to: Path | str) -> str:
    """A copy of a journal (or of a whole state directory) as kill -9 would leave it now."""
    shutil.copytree(directory, to, ignore=shutil.ignore_patterns("*.sock"))
    return os.fspath(to)


def segment_files(directory: str) -> list[Path]:
    """A journal's segment files, oldest first."""
    return sorted(Path(directory).glob("*.seg"))


def segment_inodes(directory: str) -> dict[int, int]:
    """Which file each segment of a journal is: one that is used again stays the same."""
    return {int(path.stem): path.stat().st_ino for path in segment_files(directory)}


def flip(path: Path | str, bit: int) -> None:
    """Flip one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def records(journal: str) -> list[Found]:
    """All records of a journal."""
    with closing(JournalTail(journal)) as tail:
        return list(tail.read(alive=False))


def flip_in_record(journal: str, record: Found, offset: int) -> None:
    """Flip a bit of a record, ``offset`` bytes behind its begin."""
    path = Path(journal, segment_name(segment_of(record.position)))
    flip(path, (offset_of(record.position) + offset) * 8 + 4)


def overwrite(path: Path | str, offset: int, data: bytes) -> None:
    """Write over a place of a file; it grows if it must."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def garbage(seed: int, size: int) -> bytes:
    """Reproducible random bytes."""
    return random.Random(seed).randbytes(size)


@contextmanager
def failing(function: str, error: int, *, times: int = 1 << 30) -> Iterator[mock.Mock]:
    """``os.function`` fails so many times, then works again."""
    real = getattr(os, function)
    left = [times]

    def call(*arguments: object) -> object:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(error, os.strerror(error))
        return real(*arguments)

    with mock.patch.object(os, function, side_effect=call) as patched:
        yield patched
