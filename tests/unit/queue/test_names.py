"""Segments that were renamed get their names back where these are certain."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.layout import position
from livingai.queue.names import put_aside, put_back_names
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from tests.support.journals import Writer, garbage, segment_files, state_directory


@pytest.fixture
def journal(tmp_path: Path) -> Writer:
    """Three segments, of a record each, of an owner that has died."""
    writer = Writer(state_directory(tmp_path / "state"))
    for number in range(3):
        writer.save("run-1", garbage(number, 3000))
    writer.die()
    return writer


def named(journal: Writer, number: int) -> Path:
    return Path(journal.journal.directory, segment_name(number))


def put_back(journal: Writer, cursor: int = 0) -> list[tuple[int, int]]:
    with closing(Segments(journal.journal.directory)) as segments:
        return put_back_names(segments, journal.journal.id, cursor)


def numbers(journal: Writer) -> list[int]:
    return [int(path.stem) for path in segment_files(journal.journal.directory)]


def test_what_has_its_own_name_keeps_it(journal: Writer) -> None:
    assert put_back(journal) == []
    assert numbers(journal) == [1, 2, 3]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", [7, 1000])
def test_what_was_renamed(journal: Writer, number: int, name: int) -> None:
    before = named(journal, number).read_bytes()
    named(journal, number).rename(named(journal, name))
    assert put_back(journal) == [(name, number)]
    assert numbers(journal) == [1, 2, 3]
    assert named(journal, number).read_bytes() == before


#: Names given in this order to the segments, and what is undone, in which order.
IN_A_ROW = [
    ({1: 9, 2: 1}, [(1, 2), (9, 1)]),
    ({3: 4, 2: 3, 1: 2}, [(2, 1), (3, 2), (4, 3)]),
    ({1: 9, 2: 1, 3: 2}, [(2, 3), (1, 2), (9, 1)]),
]


@pytest.mark.parametrize(("names", "done"), IN_A_ROW)
def test_one_whose_number_another_one_bears_comes_after_that(
    journal: Writer, names: dict[int, int], done: list[tuple[int, int]]
) -> None:
    for number, name in names.items():
        named(journal, number).rename(named(journal, name))
    assert put_back(journal) == done
    assert numbers(journal) == [1, 2, 3]


@pytest.mark.parametrize(("names", "done"), IN_A_ROW)
def test_a_death_between_two_names(
    journal: Writer, names: dict[int, int], done: list[tuple[int, int]]
) -> None:
    """The next one goes on where that one was."""
    for number, name in names.items():
        named(journal, number).rename(named(journal, name))
    for name, number in done[:-1]:
        named(journal, name).rename(named(journal, number))
        assert put_back(journal, position(4, 64)) == []  # what is terminal has no need of a name
    assert put_back(journal) == done[-1:]
    assert numbers(journal) == [1, 2, 3]


def test_a_number_that_is_taken_is_not_given(journal: Writer) -> None:
    """Two that have changed their names keep them: neither number is free."""
    named(journal, 1).rename(named(journal, 9))
    named(journal, 2).rename(named(journal, 1))
    named(journal, 9).rename(named(journal, 2))
    named(journal, 3).rename(named(journal, 8))
    named(journal, 3).write_bytes(b"another file")
    assert put_back(journal) == []
    assert numbers(journal) == [1, 2, 3, 8]


def test_one_that_was_being_recycled_stays_where_it_is(journal: Writer) -> None:
    """Its owner died between the new name and the new header; its records are terminal. The one
    that the cursor points into is not: it has others behind that."""
    named(journal, 2).rename(named(journal, 4))
    assert put_back(journal, position(3, 128)) == []
    assert put_back(journal, position(2, 4000)) == [(4, 2)]
    assert numbers(journal) == [1, 2, 3]


def test_one_of_another_journal_stays_where_it_is(journal: Writer, tmp_path: Path) -> None:
    other = Writer(state_directory(tmp_path / "other"))
    other.save("run-1", b"x")
    other.die()
    named(other, 1).rename(named(journal, 7))
    named(journal, 1).unlink()
    assert put_back(journal) == []
    assert numbers(journal) == [2, 3, 7]


@pytest.mark.parametrize("there", ["file", "broken link"])
def test_what_is_moved_aside_replaces_nothing(tmp_path: Path, there: str) -> None:
    """Not even what was moved there from the same place before."""
    aside, path = tmp_path / "quarantine", tmp_path / "journal" / "cursor"
    aside.mkdir()
    path.parent.mkdir()
    moved = []
    for number in range(4):
        path.write_text(str(number))
        moved.append(Path(put_aside(str(path), str(aside))))
        assert not path.exists()
        if there == "broken link" and number == 1:
            moved.pop().unlink()
            (aside / "journal-cursor.odd1").symlink_to(tmp_path / "nowhere")
    kept = [0, 1, 2, 3] if there == "file" else [0, 2, 3]
    assert [int(each.read_text()) for each in moved] == kept
    assert len(list(aside.iterdir())) == 4
