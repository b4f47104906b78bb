"""A VFS for SQLite that tells a recorder of power losses what SQLite writes and syncs.

It has no shared memory, so a connection in WAL mode must lock exclusively; what goes to the disk is
the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import apsw

from tests.support.power_loss import PowerRecorder

_NAME = "power-recorder"
_BASE = apsw.vfs_names()[0]
#: Kinds of files whose first sync also syncs their folder (os_unix.c, UNIXFILE_DIRSYNC).
_WITH_FOLDER = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL


class _File(apsw.VFSFile):
    """A file of SQLite."""

    def __init__(self, recorder: PowerRecorder, name: Any, flags: list[int]) -> None:
        self._recorder = recorder
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._folder_too = bool(flags[0] & _WITH_FOLDER)
        super().__init__(_BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._recorder.event()

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._recorder.event()

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        synced = [os.stat(self._path).st_ino]
        if self._folder_too:
            synced.append(os.stat(os.path.dirname(self._path)).st_ino)
            self._folder_too = False
        self._recorder.event(*synced)


class _Files(apsw.VFS):
    """Opens and deletes them."""

    def __init__(self, recorder: PowerRecorder) -> None:
        self._recorder = recorder
        super().__init__(_NAME, _BASE)

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        return _File(self._recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._recorder.event(*([os.stat(os.path.dirname(filename)).st_ino] if syncdir else []))


@contextlib.contextmanager
def recorded_sqlite(recorder: PowerRecorder) -> Iterator[None]:
    """All databases that are opened in the block are recorded."""

    def lock_exclusively(connection: apsw.Connection) -> None:
        connection.pragma("locking_mode", "exclusive")

    files = _Files(recorder)
    apsw.set_default_vfs(_NAME)
    apsw.connection_hooks.append(lock_exclusively)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(lock_exclusively)
        apsw.set_default_vfs(_BASE)
        files.unregister()
