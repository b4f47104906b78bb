"""Mapped segments of several journals, for processes that read records wherever they lie."""

from __future__ import annotations

import os
from typing import Final

from livingai.errors import CorruptRecordError
from livingai.queue.layout import segment_of
from livingai.queue.segments import Segments

#: Journals whose mappings a process keeps.
_MAX_JOURNALS: Final = 64


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
        segment = self.segments(journal).get(segment_of(position))
        if segment is None:
            raise CorruptRecordError(f"segment {segment_of(position)} of {journal} is gone")
        return segment.view

    def close(self) -> None:
        """Unmap everything."""
        for segments in self._journals.values():
            segments.close()
        self._journals.clear()
