"""Segments: the fixed-size files that a journal is made of.

Written with ``pwritev`` (a full disk is an error there, and a SIGBUS in a mapping), read through a
mapping. A segment's space is allocated when it is made, so an append into it cannot run out of
disk. Its header names journal and number; a recycled file is renamed first and its header written
after, so a reader that finds a number that does not fit the name sees an empty segment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from array import array
from typing import NamedTuple

import xxhash

from livingai.errors import DiskFullError, JournalError
from livingai.failpoint import failpoint
from livingai.queue.layout import (
    FORMAT_VERSION,
    LARGEST_SEGMENT,
    RECORD_SUM,
    SEGMENT_FIELDS,
    SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC,
    SEGMENT_NUMBERS,
)
from livingai.queue.lock import Boot
from livingai.queue.mapping import map_file
from livingai.queue.opening import open_file

_SUFFIX = ".seg"
_IS_SEGMENT = re.compile(r"[0-9]{10}\.seg", re.ASCII).fullmatch
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class SegmentHeader(NamedTuple):
    """A segment's header, decoded."""

    journal_id: int
    number: int
    size: int
    first_lsn: int
    wall_ns: int
    boot_id: bytes
    boot_order: int


def segment_name(number: int) -> str:
    """File name of segment ``number``; names sort by number."""
    return f"{number:010d}{_SUFFIX}"


def segment_numbers(directory: str) -> list[int]:
    """Numbers of the segments in a journal's directory, ascending; empty if it is gone."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    numbers = (int(name[: -len(_SUFFIX)]) for name in names if _IS_SEGMENT(name))
    return sorted(number for number in numbers if 0 < number < SEGMENT_NUMBERS)


def is_empty(directory: str, number: int) -> bool:
    """Whether the file of segment ``number`` is there and has no byte."""
    try:
        return os.stat(os.path.join(directory, segment_name(number))).st_size == 0
    except OSError:
        return False


def journal_error(error: OSError, what: str) -> JournalError:
    """The typed error for ``error``; ENOSPC, EDQUOT and EFBIG mean that there is no room."""
    if error.errno in _FULL:
        return DiskFullError(
            f"{what}: {os.strerror(error.errno or 0)}; free space on the disk (or raise the file "
            "size limit) and save again. Everything saved before is kept."
        )
    return JournalError(f"{what}: {error.strerror or error}; check the disk and the directory")


class Segment:
    """A segment open for writing, in its owner's process."""

    __slots__ = (
        "bases", "directory", "fd", "first_lsn", "last_lsn", "number", "outcomes",
        "settled", "size", "touched_ns", "used",
    )  # fmt: skip

    def __init__(self, directory: str, fd: int, number: int, size: int) -> None:
        self.directory = directory
        self.fd = fd
        self.number = number
        self.size = size
        #: Bytes used, header included.
        self.used = SEGMENT_HEADER_BYTES
        self.first_lsn = 0
        self.last_lsn = 0
        #: Numbers of the segments that patches in this one build on.
        self.bases: set[int] = set()
        #: Where the outcomes of its records are, in words of 8 bytes from its beginning.
        self.outcomes = array("I")
        #: So many of them were looked at, and are there (:mod:`livingai.queue.reuse`).
        self.settled = 0
        #: CLOCK_MONOTONIC ns of the last append or cached read by the owner.
        self.touched_ns = time.monotonic_ns()

    @classmethod
    def create(
        cls, directory: str, number: int, size: int, journal_id: int, lsn: int, boot: Boot
    ) -> Segment:
        """Make and preallocate a segment.

        A file of that number that is there already is left from an interrupted rotation: numbers
        are the owner's alone, and it has never published this one.

        Raises:
            DiskFullError, JournalError: nothing is left behind.
        """
        path = os.path.join(directory, segment_name(number))
        fd = -1
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.posix_fallocate(fd, 0, size)
            segment = cls(directory, fd, number, size)
            segment.write_header(journal_id, lsn, boot)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                os.unlink(path)
            raise journal_error(error, f"cannot make a journal segment of {size} bytes") from error
        return segment

    def recycle(self, number: int, journal_id: int, lsn: int, boot: Boot) -> None:
        """Make this file segment ``number``. All of its records must be stored. Raises OSError."""
        old = os.path.join(self.directory, segment_name(self.number))
        os.rename(old, os.path.join(self.directory, segment_name(number)))
        self.number = number
        failpoint("journal.after_rename")
        self.used = SEGMENT_HEADER_BYTES
        self.first_lsn = self.last_lsn = 0
        self.bases = set()
        self.outcomes = array("I")
        self.settled = 0
        if not self.whole():
            os.posix_fallocate(self.fd, 0, self.size)
        self.write_header(journal_id, lsn, boot)

    def write_header(self, journal_id: int, lsn: int, boot: Boot) -> None:
        """Write the header; from here on the file is segment ``number`` of that journal."""
        fields = SEGMENT_FIELDS.pack(
            SEGMENT_MAGIC, FORMAT_VERSION, 0, journal_id, self.number, 0, self.size, lsn,
            time.time_ns(), boot.id, boot.order,
        )  # fmt: skip
        header = fields + RECORD_SUM.pack(xxhash.xxh3_64_intdigest(fields))
        if os.pwrite(self.fd, header, 0) != len(header):
            raise OSError(errno.ENOSPC, "short write")

    def unlink(self) -> None:
        """Delete the file if it is there; mappings and this descriptor keep working."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, segment_name(self.number)))

    def whole(self) -> bool:
        """Whether the file is as long as it was made: no other program has cut it short."""
        try:
            return os.lseek(self.fd, 0, os.SEEK_END) >= self.size
        except OSError:
            return False

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class SegmentMap:
    """A segment mapped for reading, in any process. ``view`` stays valid after the file is gone."""

    __slots__ = ("_map", "_path", "number", "short", "view")

    def __init__(self, directory: str, number: int) -> None:
        """Raises FileNotFoundError when the segment is gone, ValueError when it is empty."""
        fd = open_file(os.path.join(directory, segment_name(number)), os.O_RDONLY)
        try:
            size = min(os.fstat(fd).st_size, LARGEST_SEGMENT)
            if not size:
                raise ValueError("an empty segment")
            self._map = map_file(fd, size)
        finally:
            os.close(fd)
        self.number = number
        self.view = memoryview(self._map)
        self._path = os.path.join(directory, segment_name(number))
        header = self.header()
        #: Shorter than it was made, or not known to be: another program may have cut it short.
        self.short = header is None or header.size > size

    def outgrown(self) -> bool:
        """Of one that is :attr:`short`: whether the file is longer now than what is mapped."""
        header = self.header()
        self.short = header is None or header.size > len(self.view)
        try:
            return self.short and os.stat(self._path).st_size > len(self.view)
        except OSError:
            return False

    def cut_short(self) -> bool:
        """Whether it is known to be shorter than it was made."""
        header = self.header()
        size = SEGMENT_HEADER_BYTES if header is None else header.size
        return size > len(self.view)

    def header(self) -> SegmentHeader | None:
        """The header if it is intact and its number fits the file's name."""
        return parse_segment_header(self.view, self.number)

    def find(self, needle: bytes, start: int, end: int) -> int:
        """Offset of ``needle`` in ``[start, end)``, or -1."""
        return self._map.find(needle, start, end)

    def close(self) -> None:
        """Unmap. Idempotent; slices taken from ``view`` must be gone."""
        self.view.release()
        self._map.close()


def parse_segment_header(
    buffer: bytes | memoryview, number: int | None = None
) -> SegmentHeader | None:
    """The segment header at the start of ``buffer``, or None unless it is intact and that of
    segment ``number`` (None: any)."""
    if len(buffer) < SEGMENT_HEADER_BYTES:
        return None
    fields = SEGMENT_FIELDS.unpack_from(buffer, 0)
    (stored,) = RECORD_SUM.unpack_from(buffer, SEGMENT_FIELDS.size)
    if fields[0] != SEGMENT_MAGIC or fields[1] > FORMAT_VERSION:
        return None
    if number not in (fields[4], None):
        return None
    if xxhash.xxh3_64_intdigest(buffer[: SEGMENT_FIELDS.size]) != stored:
        return None
    return SegmentHeader(fields[3], fields[4], *fields[6:])
