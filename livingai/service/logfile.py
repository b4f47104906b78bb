"""The service's log file: appended to by all of its processes, and never large."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import BinaryIO, Final

from livingai.queue.opening import open_binary

_MAX_BYTES: Final = 1 << 20


class JsonLines(logging.Formatter):
    """A log entry as one JSON object on one line; ``docs/METRICS.md`` has the fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, in ASCII: whatever is in the message ends no line and moves no cursor."""
        more = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        level = record.levelname.lower()
        return json_line(self._process, record.getMessage(), level, record.created, **more)


def json_line(
    process: str, message: str, level: str = "info", when: float | None = None, **more: str
) -> str:
    """An entry of the log as one JSON object, of this moment unless ``when`` (Unix time) says."""
    moment = datetime.fromtimestamp(time.time() if when is None else when, UTC)
    return json.dumps({
        "time": moment.isoformat(timespec="milliseconds"), "level": level, "process": process,
        "pid": os.getpid(), "message": message, **more,
    })  # fmt: skip


def log_to_stderr(process: str, log_format: str, level: int = logging.INFO) -> None:
    """Have this process, which plays a part of the service, write its log to standard error: as
    text, or in ``log_format`` "json" as :class:`JsonLines`; warnings and what ends the process,
    too."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonLines(process))
        sys.excepthook = _log_exception
        threading.excepthook = lambda found: _log_exception(
            found.exc_type, found.exc_value or found.exc_type(), found.exc_traceback
        )
        logging.captureWarnings(True)
    else:
        text = f"%(asctime)s {process} %(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(text))
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _log_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("livingai.service").critical(
        "the process ends: %s", error, exc_info=(kind, error, trace)
    )


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
