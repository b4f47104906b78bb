"""Ownership: which process is alive, by locks that the kernel releases when a process dies.

``fcntl.lockf`` (POSIX record locks) rather than ``flock``: a forked child inherits a ``flock``, so
it would seem that the owner still lives. The price: a process that opens and closes the locked file
again, under whatever name, loses its own lock. Hence one :class:`OwnerLock` per file and process,
and every look from outside goes through :func:`owner_alive`, which never opens a file that this
process has locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import threading
import uuid
from functools import cache
from typing import Any, NamedTuple

from livingai.queue.opening import open_file, read_json

#: (device, inode) of the files locked by this process; the value is the pid that locked it, so a
#: forked child knows that these are not its own.
_held: dict[tuple[int, int], int] = {}
#: Between a lock and its entry in ``_held`` no thread may open and close the file.
_guard = threading.Lock()
_FLOCK = struct.Struct("hhqqi4x")


class Boot(NamedTuple):
    """A boot of the machine: its id, and its place in the order of those that wrote into a state
    directory (:mod:`livingai.queue.boots`)."""

    id: bytes
    order: int


@cache
def boot_id() -> bytes:
    """16 bytes that change with every boot of the machine; monotonic times compare within one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return uuid.UUID(file.read().strip()).bytes
    except OSError:
        import psutil  # noqa: PLC0415 - only where Linux does not say

        return uuid.uuid5(uuid.NAMESPACE_OID, str(int(psutil.boot_time()))).bytes


def _write_identity(fd: int) -> None:
    """Write into a lock's file which process this is; see :func:`owner_identity`."""
    import psutil  # noqa: PLC0415 - only owners need it

    with contextlib.suppress(psutil.Error):
        identity = {
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "boot": boot_id().hex(),
        }
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(identity).encode(), 0)


class OwnerLock:
    """An exclusive lock on a file, held until :meth:`release` or the death of this process."""

    def __init__(self, path: str, fd: int, file: tuple[int, int]) -> None:
        self.path = path
        self._fd = fd
        self._file = file
        self._pid = os.getpid()

    @classmethod
    def acquire(cls, path: str) -> OwnerLock | None:
        """Lock ``path`` (made if missing) without waiting; None if a process holds it already.

        The file then says which process holds it: pid, start time and boot id, as JSON (if the
        disk has room for that). Raises OSError.
        """
        with _guard:
            if _ours(path):
                return None
            fd = open_file(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file = _file(os.fstat(fd))
                if _file_at(path) != file:  # deleted between our open and our lock
                    os.close(fd)
                    return None
            except OSError as error:
                os.close(fd)
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return None
                raise
            _held[file] = os.getpid()
        with contextlib.suppress(OSError, ImportError):  # out of descriptors, perhaps
            _write_identity(fd)
        return cls(path, fd, file)

    def release(self) -> None:
        """Give the lock up. Idempotent; in a forked child it only closes the child's copy."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if _held.get(self._file) == self._pid:
            del _held[self._file]

    def moved(self, path: str) -> None:
        """The locked file has been renamed to ``path``."""
        self.path = path


def owner_alive(path: str) -> bool:
    """Whether some process holds the lock on ``path``; False if the file is not there.

    Raises:
        OddFileError: it is no file of ours.
        OSError: it cannot be looked at now.
    """
    return owner_pid(path) is not None


def owner_pid(path: str) -> int | None:
    """Process id of the process that holds the lock on ``path``, as the kernel knows it; 0 if that
    process has none here (it runs in another container), None if no process holds the lock. Raises
    as :func:`owner_alive`."""
    with _guard:
        if _ours(path):
            return os.getpid()
        try:
            fd = open_file(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
            return None if kind == fcntl.F_UNLCK else max(0, int(pid))
        finally:
            os.close(fd)


def owner_identity(path: str) -> dict[str, Any]:
    """What the (last) holder wrote into the lock file: pid, started, boot; empty if unreadable."""
    with _guard:
        if _ours(path):
            return {"pid": os.getpid(), "boot": boot_id().hex()}
        try:
            identity = read_json(path)
        except (OSError, ValueError):
            return {}
    return identity if isinstance(identity, dict) else {}


def _fresh_guard() -> None:
    global _guard  # noqa: PLW0603 - the parent's may have been held while forking
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_fresh_guard)


def _ours(path: str) -> bool:
    """Whether this process (not its parent) holds the lock on the file."""
    file = _file_at(path)
    return file is not None and _held.get(file) == os.getpid()


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        return _file(os.lstat(path))
    except FileNotFoundError:
        return None


def _file(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino
