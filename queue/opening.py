"""Opening the files of a state directory: every one is opened here, and by these rules.

1. A name may lead to anything: a directory, a FIFO that blocks the process that opens it, a
   socket, a device, a symbolic link to somewhere else, a file of another user. Only a regular file
   that belongs to this user (or to the owner of the folder) is opened; all else is an
   :class:`~livingai.errors.OddFileError`, at once.
2. A link is never followed, so no other user can have us write or read elsewhere.
3. Another program may have made a file larger than it should be: no more of it is read than the
   caller asks for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from typing import Any, BinaryIO, Final, cast

from livingai.errors import OddFileError

_ALWAYS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: What open() says of names that are no regular files, or not to be read by us.
_ODD: Final = {
    errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM, errno.EAGAIN
}  # fmt: skip


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a regular file of the state directory; never waits, never follows a link.

    Raises:
        OddFileError: there is something else, or a file that is not ours or not to be read by us.
        OSError: it is not there, or cannot be opened now.
    """
    try:
        fd = os.open(path, flags | _ALWAYS, mode)
    except OSError as error:
        if error.errno in _ODD and (what := _what_is(path)):
            raise _odd(path, what) from error
        raise
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise _odd(path, _KINDS.get(stat.S_IFMT(info.st_mode), "no regular file"))
        if info.st_uid != os.geteuid() and info.st_uid != _owner_of_folder(path):
            raise _odd(path, f"a file of user {info.st_uid}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_binary(path: str, flags: int = os.O_RDONLY) -> BinaryIO:
    """As :func:`open_file`, as a file object for reading (and writing, if ``flags`` say so)."""
    access = flags & os.O_ACCMODE
    mode = (
        "ab" if flags & os.O_APPEND else {os.O_RDONLY: "rb", os.O_WRONLY: "wb"}.get(access, "r+b")
    )
    return cast(BinaryIO, os.fdopen(open_file(path, flags), mode))


def read_json(path: str, most: int = 65536) -> Any:
    """The JSON value in a small file.

    Raises:
        OSError: see :func:`open_file`.
        ValueError: it is no JSON, or longer than ``most`` bytes, or nested without end.
    """
    with open_binary(path) as file:
        return parse_json(file.read(most + 1), most)


def parse_json(data: bytes, most: int = 65536) -> Any:
    """The JSON value in ``data``. Raises ValueError as :func:`read_json` does."""
    if len(data) > most:
        raise ValueError(f"longer than {most} bytes")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def what_is(path: str) -> str:
    """What is under the name of a file: "a FIFO", "a directory", ...; "" for a regular file, or
    nothing."""
    try:
        return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "")
    except OSError:
        return ""


def _what_is(path: str) -> str:
    """Why a file that is there cannot be opened; "" if it is not there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return ""
    return _KINDS.get(stat.S_IFMT(mode), f"a file of mode {stat.S_IMODE(mode):04o}")


def _owner_of_folder(path: str) -> int:
    return os.stat(os.path.dirname(path)).st_uid


def _odd(path: str, what: str) -> OddFileError:
    return OddFileError(
        f"{path} is {what}, where livingai expects a file of its own; it is left as it is: move it "
        "away, or give it back to this user"
    )


def sync_file(path: str) -> None:
    """Sync the bytes of a file. Raises as :func:`open_file`."""
    fd = open_file(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def sync_path(path: str) -> None:
    """Sync a file, or a folder with the names in it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_names(path: str) -> None:
    """Sync a folder and every one above it, as far as its file system reaches: each may be as new,
    and a name is as safe as the folders that lead to it. Raises OSError."""
    sync_path(path)
    device = os.stat(path).st_dev
    while (above := os.path.dirname(path)) != path and os.stat(above).st_dev == device:
        with contextlib.suppress(PermissionError):  # not ours, and not to be read by us
            sync_path(above)
        path = above
