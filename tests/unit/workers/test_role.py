"""Roles of a store worker, and the database that they find at the store's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from livingai.errors import RecordsLeftError, StoreUnavailableError
from livingai.queue.directory import StateDirectory
from livingai.stores.base import IDENTITY
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.store.role import Role


class Asked(Role):
    """A role that may be asked to open its store, and no more."""

    def do_open(self) -> None:
        self._open().open()


class Meanwhile(StateDirectory):
    """A state directory in which ``deed`` is done just before the manifest is first written."""

    deed: Callable[[], None] | None = None

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.written: list[bool] = []

    def change_manifest(
        self,
        changes: Mapping[str, str | None],
        *,
        provided: Callable[[], bool] = lambda: True,
    ) -> bool:
        if (deed := self.deed) is not None:
            self.deed = None
            deed()
        self.written.append(super().change_manifest(changes, provided=provided))
        return self.written[-1]


def identity(store: SQLiteStore) -> str:
    return (store.marks() or {})[IDENTITY]


def test_one_that_is_late_does_not_write_the_old_identity_down(tmp_path: Path) -> None:
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


def test_one_that_was_idle_knows_the_database_for_another(tmp_path: Path) -> None:
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
        self,
        changes: Mapping[str, str | None],
        *,
        provided: Callable[[], bool] = lambda: True,
    ) -> bool:
        if self.error is not None:
            raise self.error
        return super().change_manifest(changes, provided=provided)


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


def test_a_store_in_trouble_is_no_trouble_of_the_manifest(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "agent.db")
    directory = StateDirectory(store.default_directory())
    directory.ensure(store.url)

    def unavailable() -> bool:
        raise StoreUnavailableError("locked")

    with pytest.raises(StoreUnavailableError, match="locked"):
        directory.change_manifest({"store": store.url}, provided=unavailable)
