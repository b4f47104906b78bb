"""Reading a journal: what counts as a record, how far a living owner's goes, and what is missed."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from livingai.errors import JournalError
from livingai.queue import journal as journal_module
from livingai.queue.control import NAME as CONTROL
from livingai.queue.control import Control
from livingai.queue.cursor import NAME as CURSOR
from livingai.queue.layout import RECORD_HEADER_BYTES, offset_of, segment_of
from livingai.queue.segment import segment_name
from livingai.queue.tail import Found, JournalTail
from tests.support import hostile
from tests.support.clocks import Clocks
from tests.support.journals import (
    Consumer,
    Writer,
    flip_in_record,
    garbage,
    overwrite,
    records,
    segment_files,
    state_directory,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(state_directory(tmp_path))
    yield made
    made.close()


def fill(writer: Writer, segments: int) -> None:
    """Save until so many segments are there; no record has the size of another."""
    size = 200
    while len(segment_files(writer.journal.directory)) < segments:
        writer.save("run-1", garbage(size, size))
        size += 64


def read(journal: str, *, alive: bool = False) -> tuple[list[int], list[tuple[int, int]], str]:
    """Numbers of the records, first and last of each damage, and all reasons."""
    with closing(JournalTail(journal)) as tail:
        found = [record.header.lsn for record in tail.read(alive=alive)]
        damage = [(each.first_lsn, each.last_lsn) for each in tail.damage]
        return found, damage, "; ".join(each.reason for each in tail.damage)


def wipe(journal: str, record: Found) -> None:
    path = Path(journal, segment_name(segment_of(record.position)))
    overwrite(path, offset_of(record.position), bytes(record.header.length))


def test_a_living_owners_records_go_up_to_what_it_has_published(writer: Writer) -> None:
    """What it is writing may still be refused."""
    writer.save("run-1", b"x")
    with closing(JournalTail(writer.journal.directory)) as tail:
        with mock.patch.object(Control, "publish"):
            writer.save("run-1", b"y")
            assert [found.header.lsn for found in tail.read(alive=True)] == [1]
        writer.save("run-1", b"z")
        assert [found.header.lsn for found in tail.read(alive=True)] == [2, 3]


def test_a_segment_that_is_only_being_made_is_not_gone_to(writer: Writer) -> None:
    """The owner's page is damaged, so it is read by scanning; and the owner goes on in the segment
    before, because it could not seal that one."""
    journal = writer.journal.directory
    overwrite(Path(journal, CONTROL), 0, bytes(64))
    writer.save("run-1", b"x" * 3000)
    seen: list[int] = []
    with closing(JournalTail(journal)) as tail:

        def look() -> None:
            seen.extend(found.header.lsn for found in tail.read(alive=True))

        def fail(name: str) -> None:
            if name == "rotate.after_create":
                look()
                raise OSError(errno.EIO, "no seal")

        with (
            mock.patch.object(journal_module, "failpoint", fail),
            pytest.raises(JournalError, match="cannot seal"),
        ):
            writer.save("run-1", b"x" * 3000)
        assert seen == [1]
        writer.save("run-1", b"y")
        look()
        assert seen == [1, 2]
        writer.save("run-1", b"z" * 3000)
        look()
        assert seen == [1, 2, 3]
        assert tail.damage == []


def test_a_torn_last_record_does_not_count(writer: Writer) -> None:
    writer.save("run-1", b"x" * 300)
    with mock.patch.object(Control, "publish"):
        writer.save("run-1", b"y" * 300)
    journal = writer.journal.directory
    writer.die()
    flip_in_record(journal, records(journal)[1], RECORD_HEADER_BYTES + 200)
    assert read(journal) == ([1], [], "")


@pytest.mark.parametrize("cursor", ["intact", "lost"])
@pytest.mark.parametrize("lost", [[2], [2, 3], [1], [4], [2, 4]])
def test_damage_is_passed_and_what_it_held_is_told(
    writer: Writer, lost: list[int], cursor: str
) -> None:
    """Without a cursor, too: damaged bytes are still there."""
    for _ in range(5):
        writer.save("run-1", b"x" * 300)
    journal = writer.journal.directory
    writer.die()
    found = records(journal)
    for lsn in lost:
        wipe(journal, found[lsn - 1])
    if cursor == "lost":
        Path(journal, CURSOR).unlink()
    left, damage, _ = read(journal)
    assert left == [lsn for lsn in range(1, 6) if lsn not in lost]
    told = [lsn for first, last in damage for lsn in range(first, last + 1)]
    assert told == lost


def test_damage_is_told_with_its_bytes_and_with_what_its_header_says(writer: Writer) -> None:
    """They are set aside."""
    for _ in range(3):
        writer.save("run-1", b"x" * 300)
    journal = writer.journal.directory
    writer.die()
    record = records(journal)[1]
    flip_in_record(journal, record, RECORD_HEADER_BYTES + 200)
    with closing(JournalTail(journal)) as tail:
        assert [found.header.lsn for found in tail.read(alive=False)] == [1, 3]
        (damage,) = tail.damage
    assert (damage.position, damage.length) == (record.position, record.header.length)
    assert damage.header == record.header


def test_what_is_stored_is_no_damage(writer: Writer) -> None:
    """It may have been stored since the reader began, and its segment be reused."""
    for _ in range(5):
        writer.save("run-1", b"x" * 300)
    journal = writer.journal.directory
    found = records(journal)
    with closing(Consumer(journal)) as consumer:
        consumer.take(3)
    writer.die()
    for lsn in (2, 3, 4):
        wipe(journal, found[lsn - 1])
    assert read(journal)[:2] == ([1, 5], [(4, 4)])


def test_damage_is_told_once(writer: Writer) -> None:
    """However often a reader comes back, and whoever finds it first."""
    fill(writer, 4)
    journal = writer.journal.directory
    with closing(Writer(state_directory(Path(journal).parents[1] / "other"))) as other:
        fill(other, 2)
        strange = segment_files(other.journal.directory)[0]
        shutil.copy(strange, Path(journal, segment_name(9)))
    writer.die()
    found = records(journal)
    wipe(journal, found[1])
    Path(journal, segment_name(3)).unlink()
    with closing(JournalTail(journal)) as tail:
        for _ in range(3):
            list(tail.read(alive=False))
        told = [(each.first_lsn, each.last_lsn) for each in tail.damage if each.count]
        words = [each.reason for each in tail.damage if not each.count]
    lost = [each.header.lsn for each in found if segment_of(each.position) == 3]
    assert told == [(2, 2), (lost[0], lost[-1])]
    assert len(words) == len(set(words))
    assert any(f"segment 9 is of journal {other.journal.id:016x}" in word for word in words)


@pytest.mark.parametrize("which", ["first", "middle", "last", "two"])
def test_segments_that_are_gone_are_missed(writer: Writer, which: str) -> None:
    fill(writer, 5)
    journal = writer.journal.directory
    writer.die()
    numbers = {"first": [1], "middle": [3], "last": [5], "two": [2, 3]}[which]
    found = records(journal)
    lost = [each.header.lsn for each in found if segment_of(each.position) in numbers]
    for number in numbers:
        Path(journal, segment_name(number)).unlink()
    left, damage, _ = read(journal)
    assert left == [each.header.lsn for each in found if each.header.lsn not in lost]
    assert damage == [(lost[0], lost[-1])]


def test_segments_that_the_cursor_has_passed_are_not_missed(writer: Writer) -> None:
    """They were recycled."""
    fill(writer, 4)
    journal = writer.journal.directory
    found = records(journal)
    stored = [each for each in found if segment_of(each.position) < 3]
    with closing(Consumer(journal)) as consumer:
        consumer.take(len(stored))
    writer.die()
    for number in (1, 2):
        Path(journal, segment_name(number)).unlink()
    assert read(journal) == ([each.header.lsn for each in found[len(stored) :]], [], "")


def test_an_empty_last_segment_says_what_was_before_it(writer: Writer) -> None:
    """Its owner died right after it was made; the one before is gone, and the page's words with
    it."""
    fill(writer, 3)
    journal = writer.journal.directory
    writer.die()
    found = records(journal)
    wipe(journal, found[-1])
    Path(journal, segment_name(2)).unlink()
    overwrite(Path(journal, CONTROL), 64, bytes(os.path.getsize(Path(journal, CONTROL)) - 64))
    lost = [each.header.lsn for each in found if segment_of(each.position) == 2]
    left, damage, reasons = read(journal)
    assert left == [each.header.lsn for each in found if segment_of(each.position) == 1]
    assert damage[0] == (lost[0], lost[-1])
    assert "segment 2 is missing" in reasons


@pytest.mark.parametrize("synced", [True, False])
def test_after_a_power_loss_only_what_was_synced_is_missed(tmp_path: Path, synced: bool) -> None:
    clocks = Clocks(Random(1))
    clocks.power_loss()
    with clocks.shown():
        writer = Writer(state_directory(tmp_path))
        for number in range(3):
            writer.save("run-1", b"%d" % number)
            if synced:
                writer.journal.sync()
        writer.die()
    journal = writer.journal.directory
    wipe(journal, records(journal)[2])
    with clocks.shown():
        assert read(journal)[:2] == ([1, 2], [(3, 3)]), "in the same boot it was published"
    clocks.power_loss()
    with clocks.shown():
        assert read(journal)[:2] == ([1, 2], [(3, 3)] if synced else [])


@pytest.mark.parametrize("lsn", [2, 3])
@pytest.mark.parametrize(("field", "value"), [("lsn", 99), ("segment", 2), ("journal_id", 5)])
def test_a_record_with_another_number_than_its_place_has_does_not_count(
    writer: Writer, lsn: int, field: str, value: int
) -> None:
    """All of its sums fit; what comes behind it, or that nothing does, makes no difference."""
    for _ in range(3):
        writer.save("run-1", b"x")
    journal = writer.journal.directory
    writer.die()
    record = records(journal)[lsn - 1]
    path = Path(journal, segment_name(1))
    hostile.record(path, offset_of(record.position), field, lambda _: value)
    assert read(journal)[:2] == ([other for other in (1, 2, 3) if other != lsn], [(lsn, lsn)])


def test_a_record_from_the_future_counts_as_accepted_with_the_one_before(writer: Writer) -> None:
    """Nobody has to wait for that time to come."""
    for _ in range(3):
        writer.save("run-1", b"x")
    journal = writer.journal.directory
    writer.die()
    first, second, third = records(journal)
    later = time.monotonic_ns() + 10**15
    path = Path(journal, segment_name(1))
    hostile.record(path, offset_of(second.position), "mono_ns", lambda _: later)
    times = [found.header.mono_ns for found in records(journal)]
    assert times == [first.header.mono_ns, first.header.mono_ns, third.header.mono_ns]
