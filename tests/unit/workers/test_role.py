"""Roles of a store worker, and the database that they find at the store's place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from livingai.errors import (
    DirectoryError,
    DiskFullError,
    RecordsLeftError,
    StoreUnavailableError,
)
from livingai.queue.directory import StateDirectory
from livingai.stores.base import IDENTITY
from livingai.stores.sqlite import SQLiteStore
from tests.support.places import damage_the_notes
from tests.support.roles import Asked, Meanwhile


def identity(store: SQLiteStore) -> str:
    return (store.marks() or {})[IDENTITY]


def test_a_late_reader_does_not_write_the_old_identity(tmp_path: Path) -> None:
    """The reader has seen the old database, the writer is at the new one already, and only then
    does the reader write down what it has seen."""
    path = tmp_path / "agent.db"
    directory = Meanwhile(SQLiteStore(path).default_directory())
    directory.ensure(SQLiteStore(path).url)
    writer = Asked(SQLiteStore(path), StateDirectory(directory.path))
    reader = Asked(SQLiteStore(path), directory)
    writer.handle("open", [])
    old = directory.manifest()[IDENTITY]

    def replaced() -> None:
        for suffix in ("-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        Asked(SQLiteStore(path), StateDirectory(directory.path)).handle("open", [])

    directory.deed = replaced
    reader.handle("open", [])
    assert directory.written == [False, True]
    writer.close()
    reader.close()
    with SQLiteStore(path) as store:
        assert identity(store) != old
        assert directory.manifest()[IDENTITY] == identity(store)


def test_an_idle_writer_notices_that_the_database_is_another(tmp_path: Path) -> None:
    """Closed when it was removed, its file's number is free, and often the next file's."""
    path = tmp_path / "agent.db"
    directory = StateDirectory(SQLiteStore(path).default_directory())
    directory.ensure(SQLiteStore(path).url)
    writer = Asked(SQLiteStore(path), directory)
    for _ in range(5):
        writer.handle("open", [])
        with SQLiteStore(path) as store:
            assert directory.manifest()[IDENTITY] == identity(store)
        for suffix in ("-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        writer.idle()
    writer.close()


class Refusing(StateDirectory):
    """A state directory that cannot be changed for now."""

    error: Exception | None = None

    def change_manifest(
        self, changes: Mapping[str, str | None], *, over: Mapping[str, Any] | None = None
    ) -> bool:
        if self.error is not None:
            raise self.error
        return super().change_manifest(changes, over=over)


def test_what_is_refused_once_stays_refused(tmp_path: Path) -> None:
    """Another database was put in the place of the open one, and the directory does not take it."""
    path = tmp_path / "agent.db"
    directory = Refusing(SQLiteStore(path).default_directory())
    directory.ensure(SQLiteStore(path).url)
    role = Asked(SQLiteStore(path), directory)
    role.handle("open", [])
    for suffix in ("-wal", "-shm", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    role.idle()
    directory.error = RecordsLeftError("records wait elsewhere")
    for _ in range(4):
        with pytest.raises(RecordsLeftError):
            role.handle("open", [])
    directory.error = None
    role.handle("open", [])
    role.close()
    with SQLiteStore(path) as store:
        assert directory.manifest()[IDENTITY] == identity(store)


@pytest.mark.parametrize("error", [DirectoryError("stopped"), DiskFullError("no space")])
def test_a_manifest_in_trouble_is_not_taken_for_a_fault_of_the_batch(
    error: Exception, tmp_path: Path
) -> None:
    """The dispatcher sends a batch again for as long as its writer says that the store is not
    available; what fails otherwise ends in the quarantine."""
    store = SQLiteStore(tmp_path / "agent.db")
    directory = Refusing(store.default_directory())
    directory.ensure(store.url)
    directory.error = error
    role = Asked(store, directory)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=str(error)):
            role.handle("open", [])
    directory.error = None
    role.handle("open", [])
    role.close()


def test_a_damaged_mark_is_not_taken_for_a_fault_of_the_batch(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "agent.db")
    directory = StateDirectory(store.default_directory())
    directory.ensure(store.url)
    role = Asked(store, directory)
    role.handle("open", [])
    role.close()
    damage_the_notes(tmp_path / "agent.db")
    role = Asked(SQLiteStore(tmp_path / "agent.db"), directory)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"livingai_marks.*remove.*not UTF-8"):
            role.handle("open", [])
    role.close()


def test_a_folder_in_trouble_is_not_taken_for_a_fault_of_the_batch(tmp_path: Path) -> None:
    """Another database than before: what was left for the old one cannot be counted."""
    store = SQLiteStore(tmp_path / "agent.db")
    directory = StateDirectory(store.default_directory())
    directory.ensure(store.url)
    directory.change_manifest({IDENTITY: "another"})
    Path(directory.journals).rmdir()
    Path(directory.journals).touch()
    role = Asked(store, directory)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=f"{directory.path} cannot be looked"):
            role.handle("open", [])
    Path(directory.journals).unlink()
    role.handle("open", [])
    role.close()
