"""Mapped files, and what becomes of a process whose mapping loses its file.

Rules:

1. Every file of a state directory that is mapped is mapped here.
2. A page that the file no longer has (another program has cut it short), or that cannot be read
   from the disk, is a SIGBUS for whoever touches it: the end of each process that maps the file.
   Its owner, who says in it what others rely on, does end: nothing that it acknowledged is in that
   page alone, and what it would write there nobody could see. For all others the page, and all
   behind it, is replaced by empty memory of their own, and the access goes on and finds zeros
   (:mod:`livingai.queue.bus_errors`). Nothing is checked before an access, so this costs nothing
   until it happens.
3. Zeros are no record, no slot and no cursor: a reader finds what it would find in a damaged file.
   What it has copied out is verified afterwards, as always.
4. Each time that happens :attr:`Cuts.count` grows. Who keeps a mapping compares it, and maps the
   file again: it may have grown again, and what its owner has written since is only there.
5. A program that enables faulthandler after its first mapping takes the signal's handler over:
   then it is as without this module.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import threading
import weakref
from typing import Final, NamedTuple


class Cuts:
    """What this process has met of files that had become too short for their mappings."""

    def __init__(self) -> None:
        #: How often that was.
        self.count = 0
        self._paths: list[str] = []

    def note(self, path: str) -> None:
        """A page of this file is not there; called in the middle of whatever touched it."""
        self._paths.append(path)
        self.count += 1

    def take_message(self) -> str:
        """What is to be said of those that were met since the last call; "" if there are none."""
        paths, self._paths = self._paths, []
        if not paths:
            return ""
        return (
            f"{', '.join(sorted(set(paths)))}: cut short by another program, or not to be read "
            "from the disk any more; what was in there and was not stored is lost, all else goes on"
        )


class Place(NamedTuple):
    """Where a file is mapped, and which."""

    start: int
    end: int
    inode: int


CUTS: Final = Cuts()
_places: weakref.WeakKeyDictionary[mmap.mmap, Place] = weakref.WeakKeyDictionary()
_watch_lock = threading.Lock()
_watching = threading.Event()


def map_file(fd: int, size: int, *, write: bool = False, owner: bool = False) -> mmap.mmap:
    """Map the first ``size`` bytes of an open file, shared with all other processes. ``owner``: see
    rule 2.

    Raises:
        ValueError: the file is shorter.
        OSError: it cannot be mapped.
    """
    found = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | (mmap.PROT_WRITE if write else 0))
    if not owner:
        # There are Pythons without ctypes: there the signal is what it is without us.
        with contextlib.suppress(ImportError, AttributeError, OSError, MemoryError):
            from livingai.queue.bus_errors import address_of  # noqa: PLC0415

            start = address_of(found)
            _places[found] = Place(start, start + size, os.fstat(fd).st_ino)
            _watch()
    return found


def place_at(address: int) -> Place | None:
    """The mapping of :func:`map_file` that this address is in. Raises RuntimeError: another thread
    maps a file just now."""
    for mapping, place in list(_places.items()):
        # One that was closed may have left its address to another one.
        if place.start <= address < place.end and not mapping.closed:
            return place
    return None


def _watch() -> None:
    """Have SIGBUS handled from now on. Raises as loading ctypes does, and OSError."""
    if _watching.is_set():
        return
    with _watch_lock:
        if not _watching.is_set():
            from livingai.queue.bus_errors import handle_bus_errors  # noqa: PLC0415

            _watching.set()
            handle_bus_errors(signal.SIGBUS, place_at, CUTS.note)
