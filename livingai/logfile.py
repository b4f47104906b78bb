"""The service's log file: appended to by all of its processes, and never large."""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO, Final

_MAX_BYTES: Final = 1 << 20


def open_log(path: str) -> BinaryIO:
    """The log, for appending; a large one is put aside as ``.1`` first."""
    trim_log(path)
    return open(path, "ab")


def trim_log(path: str) -> None:
    """Put the end of a large log aside as ``.1`` and empty it. Its writers append, so they go on at
    the new end; what one of them writes between the two steps is lost. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        size = os.stat(path).st_size
        if size <= _MAX_BYTES:
            return
        with open(path, "rb") as log, open(f"{path}.1", "wb") as aside:
            log.seek(size - _MAX_BYTES)
            aside.write(log.read())
        os.truncate(path, 0)
