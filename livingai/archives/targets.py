"""Where an export or a backup may be written: never over a store.

Rules:

1. Refused is the store that is read, what belongs to a database (its ``-wal``, ``-shm`` or
   ``-journal``, what is in a state directory), and a name beside which a database's files or its
   state directory are: a new file of that name would be read together with them.
2. An SQLite database is replaced by a backup only if it is a backup that no process has opened as a
   store since, or if that is asked for; by an export, never.
3. A backup is known by its journal mode, in the header of the file
   (https://www.sqlite.org/fileformat2.html, bytes 18 and 19): a store is put into the mode WAL as
   it is opened, and a restore leaves it in that, but a backup is made with a rollback journal.

Nothing is removed here. What is looked at may be another's a moment later, so callers look again
before the new file takes its place.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from livingai.errors import ConfigurationError
from livingai.queue.manifest import MANIFEST
from livingai.stores.base import Store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite.schema import APPLICATION_ID

SQLITE_MAGIC: Final = b"SQLite format 3\0"
#: What SQLite has beside a database.
BESIDE: Final = ("-wal", "-shm", "-journal")
_DIRECTORY: Final = "-livingai"
_HEADER_BYTES: Final = 100
#: File format write and read version: 1 each with a rollback journal, 2 with a WAL.
_MODES: Final = slice(18, 20)
_ROLLBACK: Final = b"\1\1"
_APPLICATION: Final = slice(68, 72)


def check_export_target(path: str, store: Store) -> None:
    """Raise ConfigurationError unless an export of ``store`` may be written to ``path``; OSError if
    what is there cannot be read."""
    _check_place(path, store)
    if _header(path).startswith(SQLITE_MAGIC):
        raise ConfigurationError(
            f"{path} is an SQLite database, and no export replaces one: choose another name"
        )


def check_backup_target(path: str, store: Store, *, force: bool) -> None:
    """Raise ConfigurationError unless a backup of ``store`` may be written to ``path``; OSError if
    what is there cannot be read. ``force``: over an SQLite database that is no backup, too."""
    _check_place(path, store)
    header = _header(path)
    if header.startswith(SQLITE_MAGIC) and not force and not _is_backup(header):
        raise ConfigurationError(
            f"{path} is an SQLite database, and no backup, or one that was opened as a store "
            "since: choose another name, or replace it with --force"
        )


def _check_place(path: str, store: Store) -> None:
    real = os.path.realpath(path)
    if isinstance(store, SQLiteStore) and (
        real == os.path.realpath(store.path)
        or (os.path.exists(real) and os.path.exists(store.path)
            and os.path.samefile(real, store.path))
    ):  # fmt: skip
        raise ConfigurationError(f"{path} is the database itself")
    for suffix in (*BESIDE, _DIRECTORY):
        for each in dict.fromkeys((f"{path}{suffix}", f"{real}{suffix}")):
            if os.path.lexists(each):
                raise ConfigurationError(
                    f"{each} is there, which belongs to a database {path}: choose another name"
                )
    for suffix in BESIDE:
        database = real.removesuffix(suffix)
        if database != real and os.path.lexists(database):
            raise ConfigurationError(f"{path} belongs to {database}: choose another name")
    for folder in Path(real).parents:
        if (folder / MANIFEST).is_file() and (folder / "journals").is_dir():
            raise ConfigurationError(
                f"{folder} is a state directory of livingai's: choose another folder"
            )


def _header(path: str) -> bytes:
    """What the file begins with; nothing if it is none, or no regular one."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return b""


def _is_backup(header: bytes) -> bool:
    ours = header[_APPLICATION] == APPLICATION_ID.to_bytes(4, "big")
    return ours and header[_MODES] == _ROLLBACK
