"""The segments of one journal, mapped for reading, in any process."""

from __future__ import annotations

import os
import threading

from livingai.errors import OddFileError
from livingai.queue.layout import OUTCOME_OFFSET, OUTCOME_WORD, offset_of, segment_of
from livingai.queue.mapping import CUTS
from livingai.queue.opening import open_file
from livingai.queue.record import pack_outcome
from livingai.queue.segment import SegmentMap, segment_name


class Segments:
    """The mapped segments of one journal, opened on demand, at most ``limit`` at a time.

    A mapping (and its descriptor) keeps a deleted segment's disk space, so few are kept.
    """

    def __init__(self, directory: str, limit: int = 16) -> None:
        self.directory = directory
        self._limit = limit
        self._cuts = CUTS.count
        self._maps: dict[int, SegmentMap] = {}
        self._fds: dict[int, int] = {}
        #: For those who share it between threads: held while they use what :meth:`get` gave.
        self.lock = threading.Lock()

    def get(self, number: int) -> SegmentMap | None:
        """The mapping of a segment; None if the file is gone, empty, or no file.

        The file may have been recycled since it was mapped: use only records that name this segment
        number.
        """
        if self._cuts != CUTS.count:
            # Not closed: whoever touched what was missing may be using one of them.
            self._cuts = CUTS.count
            self._maps.clear()
        found = self._maps.get(number)
        if found is not None and found.short and found.outgrown():
            del self._maps[number]
            found = None
        if found is None:
            try:
                found = SegmentMap(self.directory, number)
            except (FileNotFoundError, OddFileError, ValueError):
                return None
            while len(self._maps) >= self._limit:
                self.drop(next(iter(self._maps)))
            self._maps[number] = found
        return found

    def numbers(self) -> list[int]:
        """Segments that are mapped or open now."""
        return [*self._maps, *(number for number in self._fds if number not in self._maps)]

    def drop(self, number: int) -> None:
        """Forget a mapping, because the file was recycled or is done with."""
        if number in self._maps:
            self._maps.pop(number).close()
        if number in self._fds:
            os.close(self._fds.pop(number))

    def write_outcome(self, at: int, lsn: int, status: int, latency_us: int) -> int:
        """Write the outcome word of record ``lsn`` at position ``at``; the word written.

        Only the service calls it, and only for a record that has no outcome yet: its owner cannot
        recycle the segment before the cursor has passed. Raises OSError.
        """
        number, offset = segment_of(at), offset_of(at)
        fd = self._fds.get(number)
        if fd is None:
            path = os.path.join(self.directory, segment_name(number))
            fd = self._fds[number] = open_file(path, os.O_WRONLY)
        word = pack_outcome(lsn, status, latency_us)
        os.pwrite(fd, OUTCOME_WORD.pack(word), offset + OUTCOME_OFFSET)
        return word

    def close(self) -> None:
        """Forget all mappings."""
        for number in self.numbers():
            self.drop(number)
