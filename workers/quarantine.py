"""Quarantine: records that cannot be stored are set aside as files, never dropped.

One file per record, written whole or not at all: a JSON line that says what, when and why, then the
record's bytes as they stood in the journal.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from livingai.errors import CorruptRecordError
from livingai.failpoint import failpoint

_SUFFIX = ".record"


class Quarantined(NamedTuple):
    """A record that was set aside."""

    path: str
    about: dict[str, Any]
    data: bytes


def set_aside(folder: str, journal_id: int, position: int, data: bytes, **about: Any) -> str:
    """Write a record aside and sync it; the path. Raises OSError."""
    name = f"{journal_id:016x}-{position:016x}{_SUFFIX}"
    path = os.path.join(folder, name)
    about = {"at": time.time(), "journal": f"{journal_id:016x}", "position": position, **about}
    fd, temporary = tempfile.mkstemp(prefix=".aside-", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps(about).encode() + b"\n" + data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    failpoint("quarantine.after_write")
    return path


def read_aside(path: str) -> Quarantined:
    """Read a quarantined record.

    Raises:
        CorruptRecordError: the file is damaged.
        FileNotFoundError: it is gone.
    """
    with open(path, "rb") as file:
        raw = file.read()
    line, separator, data = raw.partition(b"\n")
    try:
        about = json.loads(line)
    except ValueError as error:
        raise CorruptRecordError(f"{path} is not a quarantined record") from error
    if not separator or not isinstance(about, dict):
        raise CorruptRecordError(f"{path} is not a quarantined record")
    return Quarantined(path, about, data)


def aside_paths(folder: str) -> Iterator[str]:
    """Paths of all quarantined records, oldest name first."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(_SUFFIX):
            yield os.path.join(folder, name)
