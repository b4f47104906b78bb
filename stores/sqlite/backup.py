"""A copy of a SQLite database that processes use, as it stands at one moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import Final

from livingai.errors import StoreFormatError
from livingai.stores.sqlite.errors import translated
from livingai.stores.sqlite.examination import look_through
from livingai.stores.sqlite.file import connect
from livingai.stores.sqlite.schema import schema_version

#: Pages that are copied between two looks at signals.
_PAGES: Final = 1000


def back_up(
    path: str,
    target: str,
    *,
    busy_timeout_ms: int = 10_000,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Copy the database at ``path`` into ``target``, an empty file, by SQLite's online backup. A
    read transaction is held meanwhile, so writers go on and the copy is of the moment at which it
    began. The copy is a single file, without a log, and was looked through. ``progress`` gets the
    numbers of pages copied and in all.

    Raises:
        StoreUnavailableError, StoreDamagedError: as reading the database, or its copy.
    """
    with (
        translated(path),
        closing(connect(path, busy_timeout_ms, create=False)) as source,
        closing(connect(target, busy_timeout_ms)) as copy,
    ):
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchall()
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(_PAGES)
                progress(backup.page_count - backup.remaining, backup.page_count)
        source.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
    check_backup(target)


def check_backup(path: str) -> None:
    """Look whether the file at ``path``, which no process uses, is a sound database of livingai's.

    Raises:
        StoreFormatError: it is none of livingai's, or of a newer one.
        StoreDamagedError: it is damaged.
    """
    with translated(path):
        with closing(connect(path, 0, alone=True)) as connection:
            if not schema_version(connection, path):
                raise StoreFormatError(f"{path} is an SQLite database, but none of livingai's")
        look_through(path, 0)
    _remove_log(path)


def make_store(path: str) -> None:
    """Put the backup at ``path``, which no process uses, into the mode in which stores are, so that
    it is told from a backup from now on.

    Raises:
        StoreUnavailableError, StoreDamagedError: as writing to the database.
    """
    with translated(path), closing(connect(path, 0, create=False)) as connection:
        connection.pragma("journal_mode", "wal")
    _remove_log(path)


def _remove_log(path: str) -> None:
    for leftover in ("-wal", "-shm"):
        if os.path.exists(path + leftover):
            os.unlink(path + leftover)
