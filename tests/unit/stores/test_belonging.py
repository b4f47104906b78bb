"""Rows of the table of ``stores/belonging.py`` that an agent decides, in directories where nothing
waits. Those with records that wait are in ``tests/integration/service/test_moved.py`` and
``test_replaced.py`` there."""

from __future__ import annotations

from pathlib import Path

import pytest

from livingai.errors import DirectoryMismatchError
from livingai.queue.directory import StateDirectory
from livingai.stores.base import IDENTITY, Store
from livingai.stores.belonging import enter, recognise
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore
from tests.support.roles import Meanwhile


def used(folder: Path) -> SQLiteStore:
    """A database with its state directory, after its service has opened it."""
    folder.mkdir()
    store = SQLiteStore(folder / "agent.db")
    directory = StateDirectory(store.default_directory())
    enter(store, directory)
    with store:
        recognise(store, directory)
    return store


def test_another_database_at_another_place_is_refused_even_if_nothing_waits(tmp_path: Path) -> None:
    one, other = used(tmp_path / "one"), used(tmp_path / "other")
    directory = StateDirectory(one.default_directory())
    before = directory.manifest()
    with pytest.raises(DirectoryMismatchError, match="nothing waits there"):
        enter(other, directory)
    assert directory.manifest() == before


def test_a_directory_that_was_moved_without_its_database_goes_on_with_a_new_one(
    tmp_path: Path,
) -> None:
    old = used(tmp_path / "old")
    (tmp_path / "new").mkdir()
    new = SQLiteStore(tmp_path / "new" / "agent.db")
    Path(old.default_directory()).rename(new.default_directory())
    directory = StateDirectory(new.default_directory())
    enter(new, directory)
    assert directory.manifest()["store"] == new.url
    with new:
        recognise(new, directory)
        assert directory.manifest()[IDENTITY] == new.marks()[IDENTITY]


def test_a_directory_that_was_moved_to_another_database_is_refused(tmp_path: Path) -> None:
    """By their names they belong together, and the place where it lay has no database any more."""
    old, new = used(tmp_path / "old"), used(tmp_path / "new")
    Path(new.default_directory()).rename(tmp_path / "aside")
    Path(old.default_directory()).rename(new.default_directory())
    Path(old.place).unlink()
    directory = StateDirectory(new.default_directory())
    before = directory.manifest()
    with pytest.raises(DirectoryMismatchError):
        enter(SQLiteStore(new.place), directory)
    assert directory.manifest() == before


def test_an_agent_does_not_write_an_identity_over_a_newer_one(tmp_path: Path) -> None:
    """It has seen the second database. Then that is replaced by a third, whose service knows it
    before the agent writes down what it has seen."""
    store = used(tmp_path / "one")
    directory = Meanwhile(store.default_directory())

    def replaced(identity: str) -> None:
        for suffix in ("-wal", "-shm", ""):
            Path(f"{store.place}{suffix}").unlink(missing_ok=True)
        with SQLiteStore(store.place) as successor:
            successor.mark(IDENTITY, identity)

    def replaced_again() -> None:
        replaced("third")
        with SQLiteStore(store.place) as successor:
            recognise(successor, StateDirectory(directory.path))

    replaced("second")
    directory.deed = replaced_again
    enter(SQLiteStore(store.place), directory)
    assert directory.written == [False]
    assert directory.manifest()[IDENTITY] == "third"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://localhost:1/0", "redis://127.0.0.1:1/0"),
        ("postgresql://h/d?schema=a", "postgresql://h/d?schema=b"),
    ],
)
def test_a_server_under_another_url_is_refused(one: str, other: str, tmp_path: Path) -> None:
    """Whatever it holds: an agent does not ask it."""
    first: Store = open_store(one)
    directory = StateDirectory(tmp_path / "state")
    assert enter(first, directory) == first.url
    with pytest.raises(DirectoryMismatchError, match=r"nothing waits there.*livingai relocate"):
        enter(open_store(other), directory)
    assert directory.manifest()["store"] == first.url
