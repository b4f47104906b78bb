"""What a database remembers of the state directories that it was used with, and its identity."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.queue.directory import StateDirectory
from livingai.stores import belonging, elsewhere
from livingai.stores.base import IDENTITY
from livingai.stores.sqlite import SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "agent.db") as store:
        yield store


def noted(store: SQLiteStore) -> dict[str, str]:
    return {
        name.removeprefix("directory:"): when
        for name, when in store.marks().items()
        if name.startswith("directory:")
    }


def test_the_directories_that_were_noted_last_are_remembered(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "_REMEMBERED", 3)
    directory = StateDirectory(tmp_path / "state")
    for number in (5, 1, 4, 2, 3):
        store.mark(f"directory:/left/{number}", str(number))
    store.mark("directory:/damaged", "not a time")
    elsewhere.note_directory(store, directory, store.marks())
    assert set(noted(store)) == {"/left/3", "/left/4", "/left/5", directory.path}


def test_a_directory_in_use_is_noted_once_a_day(store: SQLiteStore, tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "state")
    for age, again in ((3_600, False), (100_000, True)):
        when = f"{time.time() - age:.0f}"
        store.mark(f"directory:{directory.path}", when)
        elsewhere.note_directory(store, directory, store.marks())
        assert (noted(store)[directory.path] != when) is again


def test_a_database_gets_the_identity_of_the_process_that_was_faster(store: SQLiteStore) -> None:
    """Of two that have found none."""
    store.mark(IDENTITY, "the first")
    assert belonging._make_identity(store) == "the first"
    assert store.marks()[IDENTITY] == "the first"
