"""What waits in a state directory, counted from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from tests.support.journals import Consumer, Writer, garbage, segment_files, state_directory


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return state_directory(tmp_path / "state")


@pytest.fixture
def living(directory: StateDirectory) -> Iterator[Writer]:
    made = Writer(directory)
    yield made
    made.close()


def counted(directory: StateDirectory) -> tuple[int, int]:
    """How many records wait, and how many of these are of dead owners."""
    every = waiting_records(directory)
    return every, waiting_records(directory, of_dead_owners=True)


def store(writer: Writer, count: int) -> None:
    with closing(Consumer(writer.journal.directory)) as consumer:
        assert len(consumer.take(count)) == count


def test_what_has_an_outcome_does_not_wait(directory: StateDirectory, living: Writer) -> None:
    assert counted(directory) == (0, 0)
    for number in range(5):
        living.save("run-1", garbage(number, 1500))
    assert counted(directory) == (5, 0)
    store(living, 3)
    assert counted(directory) == (2, 0)
    store(living, 2)
    assert counted(directory) == (0, 0)


def test_an_outcome_counts_where_the_cursor_has_not_come_to_it(
    directory: StateDirectory, living: Writer
) -> None:
    for number in range(3):
        living.save("run-1", garbage(number, 100))
    with closing(Consumer(living.journal.directory)) as consumer:
        _, second, _ = list(consumer.tail.read(alive=True))
        consumer.tail.segments.write_outcome(second.position, second.header.lsn, 1, 1)
    assert counted(directory) == (2, 0)


def test_the_dead_are_told_from_the_living(directory: StateDirectory, living: Writer) -> None:
    dead = Writer(directory)
    for number in range(3):
        dead.save("run-1", garbage(number, 100))
    store(dead, 1)
    dead.die()
    living.save("run-2", b"x")
    assert counted(directory) == (3, 2)


def test_a_journal_that_cannot_be_read_counts_as_one(directory: StateDirectory) -> None:
    dead = Writer(directory)
    for number in range(3):
        dead.save("run-1", garbage(number, 100))
    dead.die()
    os.unlink(Path(dead.journal.directory, "cursor"))
    assert counted(directory) == (1, 1)
    for path in segment_files(dead.journal.directory):
        path.unlink()
    assert counted(directory) == (0, 0), "nothing is left that could be stored"
