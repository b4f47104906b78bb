"""The service's log file: appended to by all of its processes, and never large."""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO, Final

from livingai.queue.opening import open_binary

_MAX_BYTES: Final = 1 << 20


def open_log(path: str) -> BinaryIO:
    """The log, for appending; a large one is put aside as ``.1`` first."""
    trim_log(path)
    log = open_binary(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(PermissionError):  # an earlier livingai left it to the umask
        os.fchmod(log.fileno(), 0o600)
    return log


def trim_log(path: str) -> None:
    """Put the end of a large log aside as ``.1`` and empty it. Its writers append, so they go on at
    the new end; what one of them writes between the two steps is lost. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        size = os.lstat(path).st_size
        if size <= _MAX_BYTES:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open_binary(path, os.O_RDWR) as log, open_binary(f"{path}.1", flags) as aside:
            log.seek(size - _MAX_BYTES)
            aside.write(log.read(_MAX_BYTES))
            log.truncate(0)
