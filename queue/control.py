"""The control file: what a journal's owner publishes to all other processes.

One mapped page of 64-bit words, each written whole by the owner alone. The owner publishes the
tail after a record is complete, so for a *live* owner the tail says where to stop; the records of a
*dead* owner are found by scanning, because it may have died between writing and publishing.

The page only saves work, nothing depends on it: a journal whose page is damaged is read by
scanning, too.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import time

import xxhash

from livingai.errors import CorruptRecordError, FormatVersionError, OddFileError
from livingai.queue.layout import (
    CONTROL_BYTES,
    CONTROL_FIELDS,
    CONTROL_MAGIC,
    JOURNAL_VERSION,
    SEGMENT_HEADER_BYTES,
    ControlWord,
)
from livingai.queue.lock import Boot
from livingai.queue.mapping import CUTS, map_file
from livingai.queue.opening import open_file
from livingai.queue.record import parse_header
from livingai.queue.segment import SegmentMap, segment_numbers

NAME = "control"
_IS_ID = re.compile("[0-9a-f]{16}").fullmatch
_TAIL, _TAIL_LSN, _SYNCED, _CLOSED, _WAITED, _SYNCED_TAIL = (
    int(ControlWord.TAIL),
    int(ControlWord.TAIL_LSN),
    int(ControlWord.SYNCED_LSN),
    int(ControlWord.CLOSED),
    int(ControlWord.WAITED_US),
    int(ControlWord.SYNCED_TAIL),
)


class Control:
    """A journal's control page, mapped."""

    __slots__ = (
        "_cuts",
        "_directory",
        "_is_owner",
        "_map",
        "_words",
        "boot",
        "boot_order",
        "created_ns",
        "damaged",
        "journal_id",
    )  # fmt: skip

    def __init__(self, directory: str, *, write: bool = False) -> None:
        """Map the page. Where it is :attr:`damaged`, the journal's id is its folder's name, and
        boot and age are those of its segments; its words are then all 0.

        Raises:
            FileNotFoundError: the journal is gone.
            FormatVersionError: a newer livingai wrote it.
            CorruptRecordError: the page is damaged and the folder is not named like a journal.
        """
        self._map: mmap.mmap | None = None
        self._words = memoryview(bytes(CONTROL_BYTES)).cast("Q")
        self._directory, self._is_owner, self._cuts = directory, write, CUTS.count
        self.damaged = not self._open(directory, write)
        if self.damaged:
            self.close()
            self._words = memoryview(bytes(CONTROL_BYTES)).cast("Q")
            self.journal_id = _id_of(directory)
            self.boot, self.boot_order, self.created_ns = _segments_say(directory)

    def _open(self, directory: str, write: bool) -> bool:
        """Map the page and read its header; whether it is intact."""
        flags = os.O_RDWR if write else os.O_RDONLY
        try:
            fd = open_file(os.path.join(directory, NAME), flags)
        except OddFileError:
            return False
        except FileNotFoundError:
            if not os.path.isdir(directory):
                raise
            return False
        try:
            if os.fstat(fd).st_size != CONTROL_BYTES:
                return False
            self._map = map_file(fd, CONTROL_BYTES, write=write, owner=write)
        finally:
            os.close(fd)
        self._words = memoryview(self._map).cast("Q")
        magic, version, _, self.journal_id, self.boot, self.created_ns, self.boot_order = (
            CONTROL_FIELDS.unpack_from(self._map, 0)
        )
        stored = self._words[ControlWord.HEADER_SUM]
        if magic != CONTROL_MAGIC or stored != _header_sum(self._map):
            return False
        if version > JOURNAL_VERSION:
            self.close()
            raise FormatVersionError(
                f"{directory}: journal format {version} is newer than {JOURNAL_VERSION}; upgrade "
                "livingai to read it"
            )
        name = os.path.basename(directory)
        if _IS_ID(name) and int(name, 16) != self.journal_id:
            return _segments_are_of(directory, self.journal_id)
        return True

    @classmethod
    def create(
        cls, directory: str, journal_id: int, boot: Boot, created_ns: int | None = None
    ) -> Control:
        """Make a control page for a new journal, or (``created_ns``) anew for one that was made
        then. Raises OSError."""
        page = bytearray(CONTROL_BYTES)
        made_ns = time.time_ns() if created_ns is None else created_ns
        CONTROL_FIELDS.pack_into(
            page, 0, CONTROL_MAGIC, JOURNAL_VERSION, 0, journal_id, boot.id, made_ns, boot.order
        )
        memoryview(page).cast("Q")[ControlWord.HEADER_SUM] = _header_sum(page)
        path = os.path.join(directory, NAME)
        fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            os.posix_fallocate(fd, 0, CONTROL_BYTES)
            os.pwrite(fd, page, 0)
        finally:
            os.close(fd)
        return cls(directory, write=True)

    def publish(self, tail: int, lsn: int) -> None:
        """All records before position ``tail`` are complete; the last one is ``lsn``."""
        self._words[_TAIL_LSN] = lsn
        self._words[_TAIL] = tail

    def publish_synced(self, lsn: int, tail: int) -> None:
        """All records up to ``lsn``, before position ``tail``, survive power loss."""
        self._words[_SYNCED] = lsn
        self._words[_SYNCED_TAIL] = tail

    def publish_closed(self) -> None:
        """The owner has closed the journal in order."""
        self._words[_CLOSED] = 1

    def add_waited(self, waited_us: int) -> None:
        """A save has waited for room for so long."""
        self._words[_WAITED] += waited_us

    @property
    def tail(self) -> int:
        """Position behind the last complete record; 0 before the first. Look at :attr:`damaged`
        afterwards: the page may have been cut short since it was mapped."""
        tail = self._words[_TAIL]
        while self._cuts != CUTS.count:
            self._look_again()
            tail = self._words[_TAIL]
        return tail

    def _look_again(self) -> None:
        """A file was cut short, perhaps this one: map it again."""
        self._cuts = CUTS.count
        if self._map is None or self.damaged or self._is_owner:
            return
        with contextlib.suppress(OSError, CorruptRecordError):
            if self._open(self._directory, write=False):
                return
        self.damaged = True
        self._words = memoryview(bytes(CONTROL_BYTES)).cast("Q")

    @property
    def tail_lsn(self) -> int:
        """Sequence number of the last complete record."""
        return self._words[_TAIL_LSN]

    @property
    def synced_lsn(self) -> int:
        """All records up to this one survive power loss."""
        return self._words[_SYNCED]

    @property
    def synced_tail(self) -> int:
        """All records before this position survive power loss; 0 if the owner did not say."""
        return self._words[_SYNCED_TAIL]

    @property
    def waited_us(self) -> int:
        """Microseconds for which saves have waited for room in the journal."""
        return self._words[_WAITED]

    @property
    def closed(self) -> bool:
        """Whether the owner has closed the journal in order."""
        return bool(self._words[_CLOSED])

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._words.release()
        if self._map is not None:
            self._map.close()


def _header_sum(page: bytearray | mmap.mmap) -> int:
    return xxhash.xxh3_64_intdigest(bytes(page[: CONTROL_FIELDS.size]))


def _id_of(directory: str) -> int:
    try:
        return int(os.path.basename(directory), 16)
    except ValueError as error:
        raise CorruptRecordError(
            f"{directory}: the control file is damaged, and the folder is not named like a journal"
        ) from error


def _segments_are_of(directory: str, journal_id: int) -> bool:
    """Whether a journal whose control page and folder name two ids is that of the page: it has a
    record of that one, and none before it of the other."""
    ids = {journal_id, int(os.path.basename(directory), 16)}
    for number in segment_numbers(directory):
        try:
            segment = SegmentMap(directory, number)
        except (FileNotFoundError, OddFileError, ValueError):
            continue
        with contextlib.closing(segment):
            header = parse_header(segment.view, SEGMENT_HEADER_BYTES)
        if header is not None and header.journal_id in ids:
            return header.journal_id == journal_id
    return False


def _segments_say(directory: str) -> tuple[bytes, int, int]:
    """Boot id and order of the newest intact segment header, creation time of the oldest."""
    boot, order, created_ns = b"", 0, 0
    for number in segment_numbers(directory):
        try:
            segment = SegmentMap(directory, number)
        except (FileNotFoundError, OddFileError, ValueError):
            continue
        header = segment.header()
        segment.close()
        if header is not None:
            boot, order = header.boot_id, header.boot_order
            created_ns = created_ns or header.wall_ns
    return boot, order, created_ns
