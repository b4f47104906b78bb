"""Where a reader goes on: behind the cursor, if all that it says is so, else at the beginning."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.layout import OUTCOME_OFFSET, offset_of, segment_of
from livingai.queue.segment import segment_name
from livingai.queue.tail import Found, JournalTail
from tests.support.journals import (
    Consumer,
    Writer,
    garbage,
    overwrite,
    records,
    segment_files,
    state_directory,
)

RECORDS = 9


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Three segments of three records; six are stored."""
    made = Writer(state_directory(tmp_path))
    for number in range(RECORDS):
        made.save("run-1", garbage(number, 1000))
    assert len(segment_files(made.journal.directory)) == 3
    with closing(Consumer(made.journal.directory)) as consumer:
        consumer.take(6)
    made.die()
    return made


def resumed(writer: Writer, at: int, lsn: int) -> tuple[list[int], str]:
    """Numbers of the records that a reader sees, and what it thinks of the cursor."""
    tail = JournalTail(writer.journal.directory, position=at, after_lsn=lsn)
    with closing(tail):
        found = [record.header.lsn for record in tail.read(alive=False)]
        assert tail.damage == []
        return found, tail.doubt


def end(record: Found) -> int:
    return record.position + record.header.length


def test_behind_a_record_whose_forerunners_have_their_outcomes(writer: Writer) -> None:
    found = records(writer.journal.directory)
    for lsn in range(1, 7):
        rest = list(range(lsn + 1, RECORDS + 1))
        assert resumed(writer, end(found[lsn - 1]), lsn) == (rest, "")
    assert resumed(writer, 0, 0) == (list(range(1, RECORDS + 1)), "")


@pytest.mark.parametrize("lsn", [7, 8, 9])
def test_behind_a_record_that_waits(writer: Writer, lsn: int) -> None:
    found = records(writer.journal.directory)
    seen, doubt = resumed(writer, end(found[lsn - 1]), lsn)
    assert seen == list(range(1, RECORDS + 1))
    assert "before it has no outcome" in doubt


@pytest.mark.parametrize("lost", [1, 3, 5])
def test_behind_a_record_that_waits_in_any_segment(writer: Writer, lost: int) -> None:
    found = records(writer.journal.directory)
    at = found[lost - 1].position
    path = Path(writer.journal.directory, segment_name(segment_of(at)))
    overwrite(path, offset_of(at) + OUTCOME_OFFSET, bytes(8))
    seen, doubt = resumed(writer, end(found[5]), 6)
    assert seen == list(range(1, RECORDS + 1))
    assert doubt == f"record {lost} before it has no outcome"


@pytest.mark.parametrize(("lsn", "at"), [(3, 2), (2, 3), (6, 4), (5, 6)])
def test_the_number_and_the_place_of_two_records(writer: Writer, lsn: int, at: int) -> None:
    found = records(writer.journal.directory)
    seen, doubt = resumed(writer, end(found[at - 1]), lsn)
    assert seen == list(range(1, RECORDS + 1))
    assert doubt == f"record {lsn} does not end at its position"


@pytest.mark.parametrize("by", [-64, 64])
def test_a_place_where_no_record_ends(writer: Writer, by: int) -> None:
    found = records(writer.journal.directory)
    seen, doubt = resumed(writer, end(found[1]) + by, 2)
    assert seen == list(range(1, RECORDS + 1))
    assert doubt == "record 2 does not end at its position"


@pytest.mark.parametrize(("lsn", "true"), [(3, True), (2, True), (4, False), (99, False)])
def test_in_a_segment_that_was_reused_since(writer: Writer, lsn: int, true: bool) -> None:
    """What comes behind it has to be later."""
    found = records(writer.journal.directory)
    at = end(found[2])
    assert segment_of(at) == 1
    os.unlink(Path(writer.journal.directory, segment_name(1)))
    seen, doubt = resumed(writer, at, lsn)
    assert seen == list(range(4, RECORDS + 1))
    assert doubt == ("" if true else "record 4 comes behind it")
