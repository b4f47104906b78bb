"""What a database that was removed or replaced leaves beside the next one of its name: its log.

SQLite finds a log (``-wal``) and its index (``-shm``) by name. Where the database was removed and
they were not, or another file was put in its place, a new connection would read the old log as if
it were the new database's, and as long as anyone has the old index open it would share that, too:
its writes fail, or ruin the new file. Rules:

1. A log is another database's if there is no database, or an empty one; if it is the very file that
   we had open with another database; or if a process has the index open and none has the database
   (each connection holds a lock on both).
2. Such a log is set aside under a name that says so: what is in it may be of use with the database
   that it belongs to, which may only have been moved. Its index is removed. A process that has them
   open is not disturbed, and closes them at its next look.
3. Setting aside and making a new database take turns, by a lock on the directory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from livingai.errors import StoreUnavailableError
from livingai.stores.sqlite.errors import is_open_here

Identity = tuple[int, int]

_PATIENCE_S: Final = 10.0
_SUFFIXES: Final = ("-wal", "-shm")
#: Where SQLite locks: bytes of the database that every connection holds, and the byte of the index
#: that says "in use" (os_unix.c, SHARED_FIRST and UNIX_SHM_DMS).
_SHARED: Final = (0x40000002, 510)
_IN_USE: Final = (128, 1)
#: ``struct flock`` of Linux on 64 bits.
_FLOCK: Final = struct.Struct("hhqqi4x")

_log = logging.getLogger("livingai.stores")


def identity(path: str) -> Identity | None:
    """Which file this is; None: none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def own_log(path: str, lost: Collection[Identity | None]) -> Iterator[None]:
    """Inside the block the database at ``path`` can be opened, or made, with a log of its own.
    ``lost``: files that we had open with another database.

    Raises:
        StoreUnavailableError: another process has been at this for too long.
    """
    if not (_is_missing(path) or _is_foreign(path, lost)):
        yield
        return
    with _turn(path):
        if _is_missing(path) or _is_foreign(path, lost):
            _set_aside(path)
        yield


def has_foreign_log(path: str) -> bool:
    """Whether the log beside ``path``, if there is one, belongs to another database."""
    return _is_missing(path) or _is_foreign(path, ())


def _is_missing(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except OSError:
        return True


def _is_foreign(path: str, lost: Collection[Identity | None]) -> bool:
    log, index = (identity(path + suffix) for suffix in _SUFFIXES)
    if any(each is not None and each in lost for each in (log, index)):
        return True
    # Looking at the locks of a file that this process has open would drop its own.
    if index is None or is_open_here(path) or _is_locked(path, *_SHARED):
        return False
    in_use = is_open_here(f"{path}-shm") or _is_locked(f"{path}-shm", *_IN_USE)
    return in_use and not _is_locked(path, *_SHARED)  # nor has anyone come meanwhile


def _is_locked(path: str, start: int, length: int) -> bool:
    """Whether any process holds a lock there."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
    except OSError:
        return False  # a file system without locks; SQLite will say so
    finally:
        os.close(descriptor)


def _set_aside(path: str) -> None:
    log, index = (path + suffix for suffix in _SUFFIXES)
    with suppress(FileNotFoundError):
        os.unlink(index)
    with suppress(FileNotFoundError):
        status = os.stat(log)
        if not status.st_size:
            os.unlink(log)
            return
        aside = f"{log}.left-{status.st_ino}"
        os.rename(log, aside)
        _log.warning(
            "%s was removed or replaced and its log was not: the log is kept as %s. If you have "
            "moved the database, move the log to it (as its -wal); else remove it",
            path, aside,
        )  # fmt: skip


@contextmanager
def _turn(path: str) -> Iterator[None]:
    """A lock on the directory; without one where its file system has none."""
    try:
        descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"another process has been making {path} for {_PATIENCE_S:.0f} s and is not "
                    "done; is it stopped?"
                )
            time.sleep(0.005)  # flock() itself has no deadline
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # this file system has none
    return True
