"""What can be wrong with an SQLite file, and its errors as livingai's.

A store of this kind fails in three ways, and the service treats each differently:
:class:`StoreUnavailableError` (a lock, a full or failing disk) is retried,
:class:`RecordRefusedError` concerns one row, and every other :class:`StoreError` needs a person.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from livingai.errors import (
    RecordRefusedError,
    StoreDamagedError,
    StoreError,
    StoreUnavailableError,
)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise SQLite's errors as livingai's; any other error passes as it is."""
    try:
        yield
    except Exception as error:
        ours = translate(error, path)
        if ours is error:
            raise
        raise ours from error


def translate(error: Exception, path: str) -> Exception:
    """``error``, raised by SQLite on the file at ``path``, as one of livingai's."""
    import apsw  # noqa: PLC0415 - no driver before the store is used

    if isinstance(error, (UnicodeError, OverflowError)):
        return RecordRefusedError(f"SQLite cannot hold a value of this row: {error}")
    if not isinstance(error, apsw.Error):
        return error
    code = getattr(error, "extendedresult", 0)
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code, code)
    what = f"{error} ({name})"
    if isinstance(error, (apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError)):
        return RecordRefusedError(what)
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreUnavailableError(f"another process keeps {path} locked: {what}")
    if isinstance(error, apsw.FullError):
        return StoreUnavailableError(f"the disk that holds {path} is full: {what}; free space")
    if isinstance(error, (apsw.NotADBError, apsw.FormatError)):
        return StoreDamagedError(
            f"{path} is not an SQLite database, or its beginning is damaged; use another path, or "
            "move it away with its -wal and -shm and restore a backup"
        )
    if isinstance(error, apsw.CorruptError):
        return damaged(path, what)
    for_now = (
        apsw.CantOpenError,
        apsw.InterruptError,
        apsw.IOError,
        apsw.NoMemError,
        apsw.PermissionsError,
        apsw.ProtocolError,
        apsw.ReadOnlyError,
    )
    if isinstance(error, for_now):
        return StoreUnavailableError(f"{path} cannot be used for now: {what}")
    return StoreError(f"SQLite failed on {path}: {what}")


def damaged(path: str, what: str) -> StoreDamagedError:
    """The error for a damaged file at ``path``."""
    return StoreDamagedError(
        f"{path} is damaged: {what}. Move it away with its -wal and -shm and restore a backup, "
        "or save what is readable with `sqlite3 FILE .recover`"
    )


def check_place(path: str) -> None:
    """Whether a database can be at ``path`` as far as the file system shows.

    Raises:
        StoreError: it cannot; the message says why and what to do.
    """
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise StoreError(f"the directory {parent} does not exist; create it, or use another path")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}") from error
    else:
        if not stat.S_ISREG(mode):
            raise StoreError(f"{path} is not a regular file; name a file for the database")
        if not os.access(path, os.R_OK | os.W_OK):
            raise StoreError(f"{path} is not writable for this user; change its permissions")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise StoreError(
            f"the directory {parent} is not writable for this user, and SQLite keeps its log "
            "beside the database; change its permissions or use another path"
        )


def is_open_here(path: str) -> bool:
    """Whether this process has the file open; also True where that cannot be found out.

    Then it may not be opened and closed with a second copy of SQLite: POSIX drops all of a
    process's locks on a file as soon as any descriptor of it is closed.
    """
    try:
        target = os.stat(path)
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        return True
    for descriptor in descriptors:
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue  # the listing's own descriptor, closed by now
        if (status.st_dev, status.st_ino) == (target.st_dev, target.st_ino):
            return True
    return False
