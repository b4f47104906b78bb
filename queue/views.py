"""All journals of a state directory, as a reader sees them: their indexes and mapped segments.

Why a slot that :meth:`Views.owner` gives shows the newest state:

1. A process that begins to write an execution marks its slot in every other journal as taken,
   before the first record is written. So an owner that was overtaken before a save returned has a
   slot that is taken, or none.
2. The answer is the only journal that has a slot with records which is not taken. Two such slots
   mean that a take-over is under way (or died half-way): the result is not known.
3. A slot that is begun anew has forgotten its state before it counts again, so what it shows is of
   its present claim, or no other process has owned the execution since.
4. The slot is read again after the record (:meth:`JournalView.holds`): if its claim or mark has
   changed, the answer is not used.
5. Indexes of earlier boots do not count at all: their pages are never synced.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from livingai.errors import CorruptRecordError, OddFileError
from livingai.queue.control import Control
from livingai.queue.index import Index, Slot
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.lock import boot_id
from livingai.queue.mapping import CUTS
from livingai.queue.patch import base_position, is_patch, with_state
from livingai.queue.record import Record, read_record
from livingai.queue.segment import journal_error
from livingai.queue.segments import Segments

#: Segments of one journal that a reader keeps mapped.
_MAPPED: Final = 8


class JournalView:
    """One journal: its index and mapped segments."""

    __slots__ = ("directory", "index", "segments")

    def __init__(self, directory: str) -> None:
        """Raises OSError or ValueError if its index cannot be read."""
        self.directory = directory
        self.index = Index(directory)
        self.segments = Segments(directory, limit=_MAPPED)

    def read(self, at: int) -> Record | None:
        """The record at a position, verified, with its whole state; None if it, or what it builds
        on, is no longer there."""
        number = segment_of(at)
        try:
            segment = self.segments.get(number)
            record = read_record(segment.view, offset_of(at)) if segment is not None else None
        except (CorruptRecordError, OSError):
            record = None
        if (
            record is None
            or record.header.segment != number
            or record.header.journal_id != self.index.journal_id
        ):
            self.segments.drop(number)  # recycled since it was mapped, perhaps
            return None
        self.index.touch(number)
        if not is_patch(record.header):
            return record
        try:
            whole = with_state(self.segments, record)
        except (CorruptRecordError, OSError):
            return None
        self.index.touch(segment_of(base_position(record.header)))
        return whole

    def holds(self, slot: Slot, record: Record) -> bool:
        """Whether the slot, as it was read, still counts, and ``record`` is the one that it meant
        by its state."""
        header = record.header
        if not self.still_owns(header.execution_hash, slot.claim):
            return False
        if slot.state == slot.newest and slot.seq:
            return (header.claim, header.seq) == (slot.claim, slot.seq)
        if header.claim == slot.claim:
            return True
        again = self.index.get(header.execution_hash)
        return again is not None and again.state == slot.state

    def unpublished(self, key: int) -> bool:
        """Whether the execution's claim has not published its first record; also True where the
        control page cannot be read."""
        slot = self.index.get(key)
        if slot is None or not slot.claim:
            return False
        if not slot.seq:
            return True
        try:
            control = Control(self.directory)
        except (OSError, ValueError, CorruptRecordError):
            return True
        try:
            return slot.seq == 1 and slot.newest >= control.tail
        finally:
            control.close()

    def still_owns(self, key: int, claim: int) -> bool:
        """Whether the execution's slot is that of ``claim``, and not taken."""
        slot = self.index.get(key)
        return slot is not None and not slot.superseded and slot.claim == claim

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        self.segments.close()
        self.index.close()


class Views:
    """The journals of a folder, mapped, and which of them owns an execution. Not thread-safe."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._views: dict[str, JournalView] = {}
        self._cuts = CUTS.count

    def refresh(self) -> list[JournalView]:
        """The journals of this boot that are there now.

        Raises:
            JournalError: one is there that cannot be opened for now (no descriptors left).
        """
        if self._cuts != CUTS.count:
            self._cuts = CUTS.count
            self.close()  # a mapping of a file that was cut short shows it no more
        try:
            names = {name for name in os.listdir(self._folder) if name[0] != "."}
        except FileNotFoundError:
            names = set()
        except OSError as error:
            raise journal_error(error, "cannot look for other journals") from error
        if names != self._names:
            for name in [name for name in self._views if name not in names]:
                self._views.pop(name).close()
            self._names &= names
            for name in names - self._names:
                self._open(name)
                self._names.add(name)
        return list(self._views.values())

    def _open(self, name: str) -> None:
        path = os.path.join(self._folder, name)
        if os.path.islink(path):
            return
        try:
            view = JournalView(path)
        except (FileNotFoundError, NotADirectoryError, OddFileError, ValueError):
            return  # removed, or no journal, or damaged: it cannot be read
        except OSError as error:
            raise journal_error(error, "cannot look into the other journals") from error
        if view.index.boot == boot_id():
            self._views[name] = view
        else:
            view.close()

    def owner(self, key: int) -> tuple[JournalView, Slot] | None:
        """The journal that knows the newest state of an execution, and its slot; None: unknown."""
        found: tuple[JournalView, Slot] | None = None
        with contextlib.suppress(OSError):
            for view in self.refresh():
                slot = view.index.get(key)
                if slot is not None and slot.newest and not slot.superseded:
                    if found is not None:
                        return None
                    found = (view, slot)
        return found

    def entering(self, key: int, own: int) -> bool:
        """Whether another journal than ``own`` may have begun to write an execution without having
        published its first record: the service may meet that record at any later time, and take
        its claim for the newest. Raises JournalError: see :meth:`refresh`."""
        return any(
            view.index.journal_id != own and view.unpublished(key) for view in self.refresh()
        )

    def mark(self, key: int, own: int) -> None:
        """Mark an execution as taken over in all journals but the one with id ``own`` (0: in
        all). Raises JournalError: see :meth:`refresh`."""
        while True:
            for view in self.refresh():
                if view.index.journal_id != own:
                    view.index.take(key)
            if self._cuts == CUTS.count:
                return  # else a mark may have gone where nobody sees it

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        for view in self._views.values():
            view.close()
        self._views.clear()
        self._names.clear()
