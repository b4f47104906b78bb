"""Backups: a whole store as one file, and back.

Rules:

1. Of an SQLite database a backup is an SQLite database, made while processes write, as it stood at
   one moment (:mod:`livingai.stores.sqlite.backup`): the same runs, claims and identity. Of any
   other store it is an export (:mod:`livingai.archives.export`).
2. A file is a backup by what it begins with, not by its name. Each kind can be restored into each
   kind of store.
3. Nothing is overwritten by a restore: into a server as by an import, and as an SQLite database
   only where there is none. A backup overwrites no store (:mod:`livingai.archives.targets`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from livingai.archives.export import Exported, export_runs
from livingai.archives.files import new_path, reading, writing
from livingai.archives.reading import import_runs
from livingai.archives.staging import Imported
from livingai.archives.targets import BESIDE, SQLITE_MAGIC, check_backup_target
from livingai.errors import ConfigurationError, StoreError, StoreFormatError
from livingai.stores.base import Store
from livingai.stores.copying import Copied, copy_store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite.backup import back_up, check_backup, make_store

_COMPRESSED: Final = (".gz", ".zst")
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What was made: the file's size, and what an export has (None: an SQLite database)."""

    size_bytes: int
    exported: Exported | None


def make_backup(
    store: Store, path: str, *, max_state_bytes: int, progress: Progress, force: bool = False
) -> BackedUp:  # fmt: skip
    """Make a backup of ``store`` at ``path``; a file of that name is replaced when it is complete.
    ``progress`` gets how much is done, and of how much if that is known. ``force``: an SQLite
    database that is no backup is replaced, too.

    Raises:
        ConfigurationError: the name promises what cannot be, or is that of a store.
        StoreUnavailableError, StoreDamagedError: as reading the store.
        OSError: the file cannot be written.
    """
    check_backup_target(path, store, force=force)
    if not isinstance(store, SQLiteStore):
        with store, writing(path) as file:
            done = export_runs(
                store, file.write, max_state_bytes=max_state_bytes,
                progress=lambda now: progress(now.runs, None),
            )  # fmt: skip
            check_backup_target(path, store, force=force)
        return BackedUp(os.path.getsize(path), done)
    if path.endswith(_COMPRESSED):
        raise ConfigurationError(
            f"a backup of an SQLite database is not compressed, so {path} would be a wrong name; "
            "choose another, or compress the file afterwards"
        )
    with new_path(path) as beside:
        with _called(beside, store.path):
            back_up(store.path, beside, progress=progress)
        check_backup_target(path, store, force=force)
    return BackedUp(os.path.getsize(path), None)


def is_database(path: str) -> bool:
    """Whether a backup is an SQLite database; else it is an export, or nothing that can be
    restored. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def restore_database(path: str, target: SQLiteStore) -> None:
    """Put a backup that is an SQLite database to its place, where no database is.

    Raises:
        StoreError: there is one already, or something of one.
        StoreFormatError, StoreDamagedError: it is no database of livingai's, or damaged.
        OSError: it cannot be read or written.
    """
    for each in (target.path, *(f"{target.path}{suffix}" for suffix in BESIDE)):
        if os.path.lexists(each):
            raise StoreError(
                f"{each} is there already, and a restore overwrites nothing: move it away with "
                f"its {', '.join(BESIDE)}, or restore to another place"
            )
    with new_path(target.path) as beside:
        shutil.copyfile(path, beside)
        with _called(beside, path):
            check_backup(beside)
            make_store(beside)
        if os.path.lexists(target.path):
            raise StoreError(f"{target.path} was made meanwhile; nothing was restored")


def restore_into(
    path: str, target: Store, *, max_state_bytes: int, progress: Progress
) -> Imported | Copied:
    """Bring the runs of a backup into an open store, as an import or a copy does; it may be
    interrupted and run again. ``-`` is an export on standard input.

    Raises:
        ImportSourceError: it is no backup, or damaged.
        CopyConflictError, StoreError, CorruptRecordError: as a copy.
    """
    if path != "-" and is_database(path):
        with tempfile.TemporaryDirectory(prefix="livingai-restore-") as folder:
            copied = os.path.join(folder, "backup.db")
            shutil.copyfile(path, copied)
            with _called(copied, path):
                check_backup(copied)
            with SQLiteStore(copied) as source:
                return copy_store(source, target, progress=lambda _, done: progress(done, None))
    with reading(path) as file:
        return import_runs(
            file, target, max_state_bytes=max_state_bytes,
            progress=lambda now: progress(now.runs + now.there, None),
        )  # fmt: skip


@contextmanager
def _called(passing: str, path: str) -> Iterator[None]:
    """What is found in a passing copy is told of the file that it was made of."""
    try:
        yield
    except StoreFormatError as error:
        raise type(error)(str(error).replace(passing, path)) from error
