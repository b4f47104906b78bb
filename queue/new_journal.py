"""The files of a new journal: made together, or not at all.

They are built under a temporary name and renamed into place, so no process sees half of a journal.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass

from livingai.errors import JournalError
from livingai.failpoint import failpoint
from livingai.queue.boots import this_boot
from livingai.queue.control import NAME as CONTROL
from livingai.queue.control import Control
from livingai.queue.cursor import NAME as CURSOR
from livingai.queue.cursor import CursorFile, create_cursor
from livingai.queue.index import NAME as INDEX
from livingai.queue.index import Index, create_index
from livingai.queue.lock import Boot, OwnerLock
from livingai.queue.segment import Segment, journal_error, segment_name
from livingai.queue.space import JournalLimits

#: Name of the file whose lock shows that the owner is alive.
OWNER_LOCK = "owner.lock"


@dataclass(slots=True)
class JournalFiles:
    """A new journal's files, open, and held by its owner."""

    directory: str
    journal_id: int
    boot: Boot
    owner: OwnerLock
    control: Control
    index: Index
    cursor: CursorFile
    first: Segment

    @classmethod
    def make(cls, root: str, limits: JournalLimits) -> JournalFiles:
        """Make them in a folder of their own below ``root``.

        Raises:
            DiskFullError, JournalError: nothing is left behind.
        """
        journal_id = secrets.randbits(63) | 1 << 63
        building = os.path.join(root, f".new-{journal_id:016x}")
        with contextlib.ExitStack() as undo:
            try:
                os.mkdir(building, 0o700)
                undo.callback(_discard, building)
                files = cls._build(building, journal_id, limits, undo)
                files.directory = os.path.join(root, f"{journal_id:016x}")
                failpoint("create.before_rename")
                os.rename(building, files.directory)
            except OSError as error:
                if isinstance(error, JournalError):
                    raise
                raise journal_error(error, "cannot make a journal") from error
            files.owner.moved(os.path.join(files.directory, OWNER_LOCK))
            files.first.directory = files.cursor.directory = files.directory
            undo.pop_all()
        failpoint("create.after_rename")
        return files

    @classmethod
    def _build(
        cls, building: str, journal_id: int, limits: JournalLimits, undo: contextlib.ExitStack
    ) -> JournalFiles:
        owner = OwnerLock.acquire(os.path.join(building, OWNER_LOCK))
        assert owner is not None, "a new journal's lock is free"
        undo.callback(owner.release)
        boot = this_boot(os.path.dirname(building))
        create_index(building, journal_id, limits.index_sets, limits.node_slots, boot.id)
        create_cursor(building)
        control = Control.create(building, journal_id, boot)
        undo.callback(control.close)
        index = Index(building, owner=True)
        undo.callback(index.close)
        cursor = CursorFile(building, journal_id)
        undo.callback(cursor.close)
        first = Segment.create(building, 1, limits.segment_bytes, journal_id, 1, boot)
        undo.callback(first.close)
        return cls(building, journal_id, boot, owner, control, index, cursor, first)


def discard_journal(path: str) -> None:
    """Remove a journal that has no record yet and whose lock the caller holds; takes no descriptor.
    Where it cannot be removed wholly, the next service does the rest."""
    gone = os.path.join(os.path.dirname(path), f".gone-{os.path.basename(path)}")
    with contextlib.suppress(OSError):
        os.rename(path, gone)
        _discard(gone)


def _discard(building: str) -> None:
    """Remove what a failed construction left; without a look at it, which takes a descriptor."""
    for name in (OWNER_LOCK, INDEX, CURSOR, CONTROL, segment_name(1)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(building, name))
    os.rmdir(building)
