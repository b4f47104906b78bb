"""Appending: what a journal holds after an append that failed, and what its owner may remove."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import pytest

from livingai import failpoint
from livingai.errors import JournalClosedError, JournalError, JournalFullError
from livingai.queue import journal as journal_module
from livingai.queue.cursor import CursorFile
from livingai.queue.index import Index, Slot
from livingai.queue.layout import Flag, Kind
from livingai.queue.record import execution_hash
from livingai.queue.segment import SegmentMap
from livingai.queue.walk import intact_records
from tests.support.journals import (
    Consumer,
    Writer,
    failing,
    garbage,
    read_all,
    segment_files,
    state_directory,
    untrue_cursor,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(state_directory(tmp_path))
    yield made
    if os.path.isdir(made.journal.directory):
        made.close()


@contextmanager
def failing_at(name: str) -> Iterator[None]:
    failpoint.arm(f"{name}=error")
    try:
        yield
    finally:
        failpoint.arm("")


def states(writer: Writer) -> list[bytes]:
    """What the service finds once the owner is dead."""
    found, tail = read_all(writer.journal.directory)
    assert tail.damage == []
    return [record.state for record in found]


@pytest.mark.parametrize("name", ["journal.before_append", "journal.after_append"])
def test_what_was_not_accepted_is_not_found_after_a_crash(writer: Writer, name: str) -> None:
    """Though all of it may have reached the file."""
    writer.save("run-1", b"accepted")
    with failing_at(name), pytest.raises(JournalError, match="cannot append"):
        writer.save("run-1", b"refused")
    writer.die()
    assert states(writer) == [b"accepted"]


def test_what_could_not_take_over_is_not_found_after_a_crash(tmp_path: Path) -> None:
    """It was overtaken while it was written, and the others could not be marked again."""
    directory = state_directory(tmp_path)
    with closing(Writer(directory)) as other:
        writer = Writer(directory)
        writer.save("run-2", b"accepted")
        marks = 0

        def supersede(key: int) -> None:
            nonlocal marks
            marks += 1
            if marks == 2:
                raise JournalError("no descriptors")
            writer._supersede(key)
            other.save("run-1", b"meanwhile")

        writer.journal.supersede = supersede
        with pytest.raises(JournalError, match="no descriptors"):
            writer.save("run-1", b"refused")
        writer.die()
        assert states(writer) == [b"accepted"]


def slot(writer: Writer) -> Slot:
    with closing(Index(writer.journal.directory, write=False)) as index:
        found = index.get(execution_hash("run-1"))
        assert found is not None
        return found


@pytest.mark.parametrize("when", ["before_publish", "after_publish"])
def test_two_that_take_over_at_once_both_do_not_count(tmp_path: Path, when: str) -> None:
    """Which of them the service meets first is not known: the cache must ask the store."""
    directory = state_directory(tmp_path)
    with closing(Writer(directory)) as writer, closing(Writer(directory)) as other:

        def meet(name: str) -> None:
            if name == f"journal.{when}" and "run-1" not in other.places:
                other.save("run-1", b"meanwhile")

        with mock.patch.object(journal_module, "failpoint", meet):
            writer.save("run-1", b"x")
        assert slot(writer).superseded
        assert slot(other).superseded
        other.save("run-1", b"y")
        assert slot(other).superseded, "it goes on with a claim that does not count"


@pytest.mark.parametrize("most", [1, 100, 129, 700])
def test_a_write_that_stops_early_is_finished(writer: Writer, most: int) -> None:
    """A signal may interrupt it, however often."""
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        return real(fd, data[:most] if offset else data, offset)

    def pwritev(fd: int, parts: list[bytes], offset: int) -> int:
        return real(fd, b"".join(map(bytes, parts))[:most], offset)

    saved = [garbage(number, 1100) for number in range(5)]
    with mock.patch.object(os, "pwritev", pwritev), mock.patch.object(os, "pwrite", pwrite):
        for state in saved:
            writer.save("run-1", state)
    assert_sealed(writer, 1)
    writer.die()
    assert states(writer) == saved


def assert_sealed(writer: Writer, number: int) -> None:
    """The segment's last word is the number of its last record."""
    with closing(SegmentMap(writer.journal.directory, number)) as segment:
        *found, (seal, _) = intact_records(segment, writer.journal.id, number)
    assert seal.kind == Kind.SEAL
    assert seal.lsn == found[-1][0].lsn
    assert all(header.kind == Kind.WRITE for header, _ in found)


def test_a_full_segment_says_how_many_records_there_were(writer: Writer) -> None:
    while len(segment_files(writer.journal.directory)) < 3:
        writer.save("run-1", b"x" * 500)
    assert_sealed(writer, 1)
    assert_sealed(writer, 2)


def test_a_segment_that_cannot_be_sealed_is_not_left(writer: Writer) -> None:
    """The next one that was made for nothing is removed; then the disk works again."""
    saved = [garbage(1, 3000), garbage(2, 3000)]
    writer.save("run-1", saved[0])
    before = segment_files(writer.journal.directory)
    with failing_at("rotate.after_create"), pytest.raises(JournalError, match="cannot seal"):
        writer.save("run-1", b"refused" * 400)
    assert segment_files(writer.journal.directory) == before
    writer.save("run-1", saved[1])
    writer.die()
    assert states(writer) == saved


def cursor_beyond(writer: Writer) -> None:
    with closing(CursorFile(writer.journal.directory, writer.journal.id, write=True)) as cursor:
        cursor.write(1 << 40, 1 << 40)


def cursor_over_the_last(writer: Writer) -> None:
    untrue_cursor(writer.journal.directory, writer.journal.tail_lsn)


def cursor_before_the_last(writer: Writer) -> None:
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take(1)


@pytest.mark.parametrize(
    "drain", [lambda _: None, cursor_before_the_last, cursor_beyond, cursor_over_the_last],
    ids=["nothing stored", "one stored", "a cursor that is not true", "one over what waits"],
)  # fmt: skip
def test_a_journal_with_records_that_wait_is_kept(
    writer: Writer, drain: Callable[[Writer], None]
) -> None:
    for number in range(2):
        writer.save("run-1", b"%d" % number)
    drain(writer)
    writer.journal.close(remove=True)
    assert states(writer) == [b"0", b"1"]


def test_a_cursor_that_is_not_true_gives_no_segment_free(writer: Writer) -> None:
    """All that the journal has room for is kept, and no more is taken."""
    cursor_beyond(writer)
    saved = [garbage(number, 1500) for number in range(12)]
    for state in saved:
        writer.save("run-1", state)
    with pytest.raises(JournalFullError):
        writer.save("run-1", garbage(12, 1500))
    writer.die()
    assert states(writer) == saved


def test_a_journal_whose_records_are_stored_is_removed(writer: Writer) -> None:
    for number in range(2):
        writer.save("run-1", b"%d" % number)
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take()
    writer.journal.close(remove=True)
    assert not os.path.exists(writer.journal.directory)


def test_a_closed_journal_takes_nothing(writer: Writer) -> None:
    writer.save("run-1", b"x")
    writer.journal.close()
    key = execution_hash("run-1")
    with pytest.raises(JournalClosedError):
        writer.journal.locate(key)
    with pytest.raises(JournalClosedError):
        writer.journal.append(
            key=key, slot=-1, node_key=0, claim=1, epoch=0, seq=2, flags=Flag.STATE, state_kind=1,
            node=writer.node, ext=b"", state=b"y", budget_us=1,
        )  # fmt: skip
    assert states(writer) == [b"x"]


@pytest.mark.parametrize("true", [True, False])
def test_only_what_is_not_stored_is_copied_after_a_failed_sync(writer: Writer, true: bool) -> None:
    for number in range(4):
        writer.save("run-1", b"%d" % number)
    cursor_before_the_last(writer)
    if not true:
        cursor_over_the_last(writer)
    with failing("fdatasync", errno.EIO, times=1):
        assert writer.journal.sync() == 7
    writer.die()
    assert states(writer) == [b"0", b"1", b"2", b"3", b"1", b"2", b"3"]
