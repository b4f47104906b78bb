"""Ownership: who lives, by locks that the kernel releases when a process dies.

``fcntl.lockf`` (POSIX record locks) rather than ``flock``: a forked child inherits a ``flock``, so
it would seem that the owner still lives. The price: a process that opens and closes the lock file
again loses its own lock. Hence one :class:`OwnerLock` per file and process, and every look from
outside goes through :func:`owner_alive`, which never opens a file that this process has locked.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import uuid
from functools import cache
from typing import Any

import psutil

#: Files locked by this process; the value is the pid that locked it, so a forked child knows that
#: these are not its own.
_held: dict[str, int] = {}
_FLOCK = struct.Struct("hhqqi4x")


@cache
def boot_id() -> bytes:
    """16 bytes that change with every boot of the machine; monotonic times compare within one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return uuid.UUID(file.read().strip()).bytes
    except OSError:
        return uuid.uuid5(uuid.NAMESPACE_OID, str(int(psutil.boot_time()))).bytes


class OwnerLock:
    """An exclusive lock on a file, held until :meth:`release` or the death of this process."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._pid = os.getpid()

    @classmethod
    def acquire(cls, path: str) -> OwnerLock | None:
        """Lock ``path`` (made if missing) without waiting; None if another process holds it.

        The file then says who holds it: pid, start time and boot id, as JSON.
        """
        real = os.path.realpath(path)
        if _held.get(real) == os.getpid():
            return None
        fd = os.open(real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return None
            raise
        if not _same_file(fd, real):  # deleted between our open and our lock
            os.close(fd)
            return None
        _held[real] = os.getpid()
        identity = json.dumps(
            {
                "pid": os.getpid(),
                "started": psutil.Process().create_time(),
                "boot": boot_id().hex(),
            }
        ).encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, identity, 0)
        return cls(real, fd)

    def release(self) -> None:
        """Give the lock up. Idempotent; in a forked child it only closes the child's copy."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if _held.get(self.path) == self._pid:
            del _held[self.path]

    def moved(self, path: str) -> None:
        """The locked file has been renamed to ``path``."""
        _held.pop(self.path, None)
        self.path = os.path.realpath(path)
        _held[self.path] = self._pid


def owner_alive(path: str) -> bool:
    """Whether some process holds the lock on ``path``; False if the file is not there."""
    real = os.path.realpath(path)
    if _held.get(real) == os.getpid():
        return True
    try:
        fd = os.open(real, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(fd)


def owner_identity(path: str) -> dict[str, Any]:
    """What the (last) holder wrote into the lock file: pid, started, boot; empty if unreadable."""
    real = os.path.realpath(path)
    if _held.get(real) == os.getpid():
        return {"pid": os.getpid(), "boot": boot_id().hex()}
    try:
        with open(real, encoding="utf-8") as file:
            identity = json.load(file)
    except (OSError, ValueError):
        return {}
    return identity if isinstance(identity, dict) else {}


def _same_file(fd: int, path: str) -> bool:
    try:
        ours, there = os.fstat(fd), os.stat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
