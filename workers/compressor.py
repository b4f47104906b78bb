"""Compression, in the processes of a ProcessPoolExecutor.

A task names records by journal, segment and offset; the bytes are read from the mapped journal,
never sent. What comes back is the encoded checkpoint.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from typing import NamedTuple

from livingai import codecs
from livingai.errors import CorruptRecordError
from livingai.failpoint import failpoint
from livingai.queue.record import read_record, sections_sum
from livingai.queue.tail import Segments
from livingai.workers.process import die_with_parent, leave_signals_to_parent, yield_to_agents

#: Journals whose mappings a process keeps.
_MAX_JOURNALS = 64


class Task(NamedTuple):
    """A record to encode: its journal's folder, its position, and the position in the same journal
    of the previous state of the execution (0: none)."""

    journal: str
    position: int
    base_position: int = 0


class Encoded(NamedTuple):
    """A checkpoint, encoded; ``error`` is set instead where the record is damaged. ``sections`` is
    the :func:`~livingai.queue.record.sections_sum` of what the writer still has to read: it needs
    neither the state nor its checksum again."""

    blob: bytes
    content_hash: bytes
    base_hash: bytes | None
    sections: int
    error: str = ""


class SegmentCache:
    """Mapped segments of several journals; forgets the oldest journals, and those that are gone:
    a mapping keeps the disk space of a file that was deleted."""

    def __init__(self) -> None:
        self._journals: dict[str, Segments] = {}

    def segments(self, journal: str) -> Segments:
        """The mapped segments of a journal."""
        found = self._journals.get(journal)
        if found is None:
            for name in [name for name in self._journals if not os.path.exists(name)]:
                self._journals.pop(name).close()
            while len(self._journals) >= _MAX_JOURNALS:
                self._journals.pop(next(iter(self._journals))).close()
            found = self._journals[journal] = Segments(journal)
        return found

    def view(self, journal: str, position: int) -> memoryview:
        """The mapped bytes of a position's segment.

        Raises:
            CorruptRecordError: the segment is gone.
        """
        segment = self.segments(journal).get(position >> 32)
        if segment is None:
            raise CorruptRecordError(f"segment {position >> 32} of {journal} is gone")
        return segment.view

    def close(self) -> None:
        """Unmap everything."""
        for segments in self._journals.values():
            segments.close()
        self._journals.clear()


_cache = SegmentCache()


def start_compressor(parent: int) -> None:
    """Initializer of a pool process."""
    die_with_parent(parent)
    leave_signals_to_parent()
    # The executor ends the rest of a broken pool with SIGTERM and then waits for them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield_to_agents()
    watched = multiprocessing.parent_process()
    if watched is not None:
        threading.Thread(target=_watch, args=(watched.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    """A pool process holds both ends of its queue and would wait for ever for a dead parent."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def warm_up() -> int:
    """Does nothing, in a pool process that is up by then; its pid."""
    return os.getpid()


def forget_segments() -> None:
    """Unmap everything: this process or thread encodes no more."""
    _cache.close()


def encode_tasks(tasks: list[Task], codec: str) -> list[Encoded]:
    """Encode the states of ``tasks``, in order."""
    return [_encode(task, codec) for task in tasks]


def _encode(task: Task, codec: str) -> Encoded:
    failpoint("compressor.before_encode")
    try:
        view = _cache.view(task.journal, task.position)
        record = read_record(view, task.position & 0xFFFF_FFFF)
    except CorruptRecordError as error:
        return Encoded(b"", b"", None, 0, str(error))
    encoded = codecs.encode(record.state, codec=codec, base=_base(task))
    failpoint("compressor.after_encode")
    return Encoded(
        encoded.blob,
        codecs.content_hash(record.state),
        encoded.base_hash,
        sections_sum(record.header, record.node, record.ext),
    )


def _base(task: Task) -> bytes | None:
    """The previous state, if it is still in the journal."""
    if not task.base_position:
        return None
    try:
        view = _cache.view(task.journal, task.base_position)
        return read_record(view, task.base_position & 0xFFFF_FFFF).state
    except CorruptRecordError:
        return None
