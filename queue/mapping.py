"""Mapped files, and what becomes of a process whose mapping loses its file.

Rules:

1. Every file of a state directory that is mapped is mapped here.
2. A page that the file no longer has (another program has cut it short), or that cannot be read
   from the disk, is a SIGBUS for whoever touches it: the end of the process, and of each one that
   maps the file. So such a page, and all behind it, is replaced by empty memory of this process's
   own, and the access goes on and finds zeros (:mod:`livingai.queue.bus_errors`). Nothing is
   checked before an access, so this costs nothing until it happens.
3. Zeros are no record, no slot and no cursor: a reader finds what it would find in a damaged file.
   What it has copied out is verified afterwards, as always.
4. Each time that happens :attr:`Cuts.count` grows. Who keeps a mapping compares it, and maps the
   file again: it may have grown again, and what its owner has written since is only there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import threading
import weakref
from typing import Final


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


CUTS: Final = Cuts()
#: Mappings that are there, and the inode of each one's file.
_inodes: weakref.WeakKeyDictionary[mmap.mmap, int] = weakref.WeakKeyDictionary()
_watch_lock = threading.Lock()
_watching = threading.Event()


def map_file(fd: int, size: int, *, write: bool = False) -> mmap.mmap:
    """Map the first ``size`` bytes of an open file, shared with all other processes.

    Raises:
        ValueError: the file is shorter.
        OSError: it cannot be mapped.
    """
    found = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | (mmap.PROT_WRITE if write else 0))
    _inodes[found] = os.fstat(fd).st_ino
    if not _watching.is_set():
        _watch()
    return found


def is_mapped(inode: int) -> bool:
    """Whether a file with this inode was mapped by :func:`map_file`, and still is."""
    return inode in list(_inodes.values())


def _watch() -> None:
    """Have SIGBUS handled from now on."""
    with _watch_lock:
        if _watching.is_set():
            return
        _watching.set()
        with contextlib.suppress(ImportError, AttributeError, OSError):
            # There are Pythons without ctypes: there the signal is what it is without us.
            from livingai.queue.bus_errors import handle_bus_errors  # noqa: PLC0415

            handle_bus_errors(signal.SIGBUS, is_mapped, CUTS.note)
