"""When a role compares its store with the directory again: whatever has happened in between."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from livingai.errors import StoreMismatchError, StoreUnavailableError
from livingai.queue.directory import StateDirectory
from livingai.stores.base import IDENTITY
from livingai.stores.sqlite import SQLiteStore
from tests.support.journals import Writer
from tests.support.roles import Asked, Meanwhile


class Troubled(Asked):
    """A role with requests that something happens to."""

    def do_replaced(self) -> None:
        """Another database is at the store's place when the request is over."""
        store = self._open()
        path = store.url.removeprefix("sqlite:///")
        for suffix in ("-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        store.let_go()
        store.open()

    def do_away(self) -> None:
        raise StoreUnavailableError("away")

    def do_break(self) -> None:
        raise RuntimeError("nobody has thought of this")


def role_of(folder: Path, directory: StateDirectory | None = None) -> Troubled:
    store = SQLiteStore(folder / "agent.db")
    directory = directory or StateDirectory(store.default_directory())
    directory.ensure(store.url)
    return Troubled(store, directory)


def test_a_database_that_is_refused_at_first_is_refused_every_time(tmp_path: Path) -> None:
    """Records wait for the one before it, and none of their owners lives to send them again."""
    with closing(role_of(tmp_path)) as role:
        directory = StateDirectory(SQLiteStore(tmp_path / "agent.db").default_directory())
        owner = Writer(directory)
        owner.save("run-1", b"x")
        owner.die()
        directory.change_manifest({IDENTITY: "another"})
        for _ in range(3):
            with pytest.raises(StoreMismatchError):
                role.handle("open", [])


def test_a_database_that_comes_during_a_request_is_known_at_its_end(tmp_path: Path) -> None:
    """Before its answer is taken for one of the database that the directory belongs to."""
    with closing(role_of(tmp_path)) as role:
        directory = StateDirectory(SQLiteStore(tmp_path / "agent.db").default_directory())
        role.handle("open", [])
        before = directory.manifest()[IDENTITY]
        role.handle("replaced", [])
        with SQLiteStore(tmp_path / "agent.db") as store:
            assert (store.marks() or {})[IDENTITY] == directory.manifest()[IDENTITY] != before


def test_a_store_that_was_away_is_compared_again(tmp_path: Path) -> None:
    """A server may come back without its data, and its connection does not say so."""
    directory = Meanwhile(SQLiteStore(tmp_path / "agent.db").default_directory())
    with closing(role_of(tmp_path, directory)) as role:
        for _ in range(2):
            role.handle("open", [])
        assert directory.written == [True]
        with pytest.raises(StoreUnavailableError):
            role.handle("away", [])
        role.handle("open", [])
        assert directory.written == [True, True]


def test_an_unknown_error_ends_the_connection(tmp_path: Path) -> None:
    """Nobody knows what it has left behind there, a transaction perhaps."""
    with closing(role_of(tmp_path)) as role:
        role.handle("open", [])
        with pytest.raises(RuntimeError):
            role.handle("break", [])
        assert not role._opened
        assert role.handle("marks", [])
