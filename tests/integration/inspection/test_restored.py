"""A database is replaced by an older copy of itself: what the journals still have goes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai import SQLiteStore
from livingai.errors import StoreMismatchError
from livingai.inspection.repair import repair_directory
from livingai.inspection.report import Code
from livingai.stores.base import Row, RowResult
from livingai.stores.belonging import recognise
from tests.support import acts, peek
from tests.support.place import Place
from tests.support.places import move_database
from tests.support.processes import TAG
from tests.support.states import LARGE, state_of
from tests.support.store_damage import Stored, restore
from tests.support.waiting import gone, kill

#: Steps of the first agent before and after the copy was made, then those of its successor.
BEFORE, AFTER, LAST = 2, 5, 8


def write(place: Place) -> Stored:
    """Two agents, one after the other, each in two executions: one began before the copy."""
    stored = Stored(place.folder)
    first, second = place.agent(idle_s=60.0), place.agent(idle_s=60.0)
    for step in range(BEFORE):
        first.call(acts.save, "known", step)
    first.call(acts.drain)
    with closing(apsw.Connection(str(stored.database))) as connection:
        connection.execute("VACUUM INTO ?", (str(stored.older),))
    for step in range(BEFORE, AFTER):
        first.call(acts.save, "known", step)
        first.call(acts.save, "large", step, size=LARGE)
    for step in range(AFTER, LAST):
        second.call(acts.save, "known", step)
        second.call(acts.save, "large", step, size=LARGE)
    second.call(acts.drain)
    service = place.service_processes()
    first.kill()
    second.kill()
    kill(*service)
    gone(*service)
    place.service_killed = True
    return stored


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Nobody changes it."""
    place = Place(tmp_path_factory.mktemp("restored"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(TAG, place.tag)
        yield write(place)
        with place.service():
            place.ask("drain")
        place.finish()


@pytest.fixture
def stored(original: Stored, tmp_path: Path) -> Stored:
    copy = original.copy(tmp_path / "stored")
    assert copy.check().findings == []
    restore(copy)
    assert {finding.code for finding in copy.check().findings} == {Code.NOT_STORED}
    return copy


def test_all_of_it_is_stored_again(stored: Stored) -> None:
    repaired = repair_directory(stored.directory.path, stored.store())
    assert repaired.done
    assert all(what.endswith("stored again") for _, what in repaired.done), repaired.done
    assert not repaired.lost
    assert stored.check().findings == []
    assert peek.stored_steps(stored.database, "known") == list(range(LAST))
    assert peek.stored_steps(stored.database, "large") == list(range(BEFORE, LAST))
    assert peek.stored_state(stored.database, "known") == state_of("known", LAST - 1)
    assert peek.stored_state(stored.database, "large") == state_of("large", LAST - 1, LARGE)
    assert peek.stored_versions(stored.database, "large") == [
        *((1, seq) for seq in range(1, 4)), *((2, seq) for seq in range(1, 4)),
    ]  # fmt: skip
    assert repair_directory(stored.directory.path, stored.store()).done == []


def test_what_others_have_claimed_since_is_left_to_them(stored: Stored) -> None:
    with stored.store() as store:
        assert store.claim("known", "another-1") == 2
        assert store.claim("large", "another-1") == 1
    repaired = repair_directory(stored.directory.path, stored.store())
    assert repaired.lost
    assert all("left as it is" in what for _, what in repaired.done), repaired.done
    assert peek.stored_steps(stored.database, "known") == list(range(BEFORE))
    with SQLiteStore(stored.database) as store:
        assert store.claim("known", "another-1") == 2, "it was fenced"
        assert store.claim("large", "another-1") == 1, "it was fenced"
    assert {finding.code for finding in stored.check().findings} == {Code.NOT_STORED}


def test_an_older_claim_does_not_overtake_a_newer_one(
    original: Stored, stored: Stored, tmp_path: Path
) -> None:
    """The store knows the second agent's claim by now, and not the first one's."""
    with original.copy(tmp_path / "before").store() as before:
        _, second = max(before.owners("large"))
    assert second is not None
    with stored.store() as store:
        assert store.claim("large", second) == 1
    repaired = repair_directory(stored.directory.path, stored.store())
    assert repaired.lost
    left = [what for _, what in repaired.done if "left as it is" in what]
    assert len(left) == 1, "the first one's records"
    assert peek.stored_steps(stored.database, "large") == list(range(AFTER, LAST))
    assert peek.stored_state(stored.database, "large") == state_of("large", LAST - 1, LARGE)
    with stored.store() as store:
        assert max(store.owners("large")) == (1, second)


class OvertakenStore(SQLiteStore):
    """Others claim "large" and write it just before the commit of this number."""

    def __init__(self, database: Path, commits: int) -> None:
        super().__init__(database)
        self.commits = commits

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        if all(row.execution_id == "large" for row in rows):
            self.commits -= 1
            if not self.commits:
                with SQLiteStore(self.place or "") as other:
                    assert other.claim("large", "another-1")
        return super().commit(rows)


@pytest.mark.parametrize("commits", [1, 2])
def test_others_that_claim_it_during_the_repair_are_not_fenced(
    stored: Stored, commits: int
) -> None:
    store = OvertakenStore(stored.database, commits)
    repaired = repair_directory(stored.directory.path, store)
    assert store.commits <= 0, "nobody came"
    assert repaired.lost
    with SQLiteStore(stored.database) as other:
        newest = max(other.owners("large"))
        assert newest[1] == "another-1", "it was fenced"
        assert other.claim("large", "another-1") == newest[0]
    assert peek.stored_steps(stored.database, "known") == list(range(LAST))


def test_a_copy_beside_the_database_is_not_repaired(stored: Stored, tmp_path: Path) -> None:
    """It has the same identity, but nobody reads what would be stored there."""
    with stored.store() as store:
        recognise(store, stored.directory)  # both were copied: it is the directory's from now on
    copy = tmp_path / "copy.db"
    with closing(apsw.Connection(str(stored.database))) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    before = copy.read_bytes()
    with pytest.raises(StoreMismatchError, match=r"is a copy of the database of .*name that one"):
        repair_directory(stored.directory.path, SQLiteStore(copy))
    assert copy.read_bytes() == before
    move_database(stored.database, tmp_path / "gone.db")
    assert repair_directory(stored.directory.path, SQLiteStore(copy)).done
    assert peek.stored_steps(copy, "known") == list(range(LAST))
