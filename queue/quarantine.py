"""Quarantine: records that cannot be stored are set aside as files, never dropped.

One file per record, written whole or not at all: a JSON line that says what, when and why, then the
record's bytes as they were in the journal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from livingai.errors import CorruptRecordError
from livingai.failpoint import failpoint
from livingai.queue.layout import RECORD_HEADER_BYTES
from livingai.queue.opening import open_binary, parse_json, sync_path
from livingai.queue.record import parse_header

_SUFFIX = ".record"
#: What is said of damaged records: the numbers of the first and the last one.
LOST = "lost"
#: What a file system without hard links answers.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
#: The line that says what a file is.
_MAX_LINE_BYTES = 1 << 20


class Quarantined(NamedTuple):
    """A record that was set aside."""

    path: str
    about: dict[str, Any]
    data: bytes


def set_aside(folder: str, journal_id: int, position: int, data: bytes, **about: Any) -> str:
    """Write a record aside and sync it; the path. Nothing that is there is replaced: a place can
    have been noted before, for other bytes. What is there already is not written again, though.
    Raises OSError."""
    about = {"at": time.time(), "journal": f"{journal_id:016x}", "position": position, **about}
    fd, temporary = tempfile.mkstemp(prefix=".aside-", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps(about).encode() + b"\n" + data)
            file.flush()
            os.fsync(file.fileno())
        failpoint("quarantine.before_rename")
        path = _named(temporary, os.path.join(folder, f"{journal_id:016x}-{position:016x}"))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_path(folder)  # the name, too: the record is terminal from now on
    failpoint("quarantine.after_write")
    return path


def _named(written: str, start: str) -> str:
    """Give a file the first free name that begins so, unless one of these says the same; the name
    that it has then."""
    number = 1
    while True:
        path = f"{start}-{number}{_SUFFIX}" if number > 1 else f"{start}{_SUFFIX}"
        try:
            os.link(written, path)
        except FileExistsError:
            if _says_the_same(written, path):
                return path
            number += 1
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(path):
                raise
            os.rename(written, path)  # only the holder of the service's lock writes here
            return path
        else:
            return path


def _says_the_same(one: str, other: str) -> bool:
    """Whether two files hold the same bytes, set aside for the same records; the time and the
    words of the reason may differ."""
    try:
        said = []
        for path in (one, other):
            with open_binary(path) as file:
                about = parse_json(file.readline(_MAX_LINE_BYTES), _MAX_LINE_BYTES)
                said.append(({**about, "at": 0, "reason": ""}, file.read()))
    except (OSError, ValueError, TypeError):  # damaged, no file, or gone: another one
        return False
    return bool(said[0] == said[1])


def read_aside(path: str) -> Quarantined:
    """Read a quarantined record: what is said of it, and its bytes (of damaged ones, which are no
    record, only the beginning).

    Raises:
        CorruptRecordError: the file is damaged.
        FileNotFoundError: it is gone.
        OSError: it is no file of ours (:class:`~livingai.errors.OddFileError`), or cannot be read.
    """
    with open_binary(path) as file:
        line = file.readline(_MAX_LINE_BYTES)
        start = file.read(RECORD_HEADER_BYTES)
        header = parse_header(start, 0)
        more = 0 if header is None else header.length - len(start)
        data = start + file.read(min(more, os.fstat(file.fileno()).st_size))
    try:
        about = parse_json(line, _MAX_LINE_BYTES)
    except ValueError as error:
        raise CorruptRecordError(f"{path} is not a quarantined record") from error
    if not line.endswith(b"\n") or not isinstance(about, dict):
        raise CorruptRecordError(f"{path} is not a quarantined record")
    return Quarantined(path, about, data)


def aside_paths(folder: str) -> Iterator[str]:
    """Paths of all quarantined records, sorted by name: the journal's, then the position."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(_SUFFIX):
            yield os.path.join(folder, name)


def lost_records(folder: str, journal_id: int) -> list[range]:
    """The numbers (lsn) of a journal's records that are damaged, and of which what was left has
    been set aside."""
    found = []
    for path in aside_paths(folder):
        if not os.path.basename(path).startswith(f"{journal_id:016x}-"):
            continue
        with contextlib.suppress(CorruptRecordError, OSError, ValueError, TypeError):
            first, last = read_aside(path).about.get(LOST, (0, -1))
            found.append(range(first, last + 1))
    return found
