"""The segments of a journal: which one is reused or deleted, when, and what never is."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai import failpoint
from livingai.errors import DiskFullError, JournalError, JournalFullError
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.patch import is_patch
from livingai.queue.reuse import _AT_ONCE_BYTES, is_settled, look
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from tests.support.journals import (
    LIMITS,
    MET,
    Consumer,
    Writer,
    failing,
    flip_in_record,
    garbage,
    read_all,
    record_at,
    records,
    segment_files,
    state_directory,
    untrue_cursor,
)

#: No drained segment is kept for the cache, unless it is used.
LEAN = dataclasses.replace(LIMITS, cache_bytes=1)
#: As many are kept as the journal may have.
RICH = dataclasses.replace(LIMITS, cache_bytes=1 << 30, cache_ttl_s=3600.0)


class Bench:
    """A journal whose segments hold one record each: record n is in segment n."""

    def __init__(self, folder: Path, limits: JournalLimits) -> None:
        self.writer = Writer(state_directory(folder), limits)
        self.journal = self.writer.journal
        self.stored = 0

    def save(self, count: int, size: int = 3000) -> None:
        for _ in range(count):
            self.writer.save("run-1", garbage(self.journal.tail_lsn + 1, size))

    def store(self, count: int) -> None:
        """The service stores so many more."""
        with closing(Consumer(self.journal.directory)) as consumer:
            self.stored += len(consumer.take(count))

    def store_all(self) -> None:
        """The service reads the journal from its beginning."""
        with closing(Segments(self.journal.directory)) as segments:
            for found in records(self.journal.directory):
                segments.write_outcome(found.position, found.header.lsn, MET, 1)
        untrue_cursor(self.journal.directory, self.journal.tail_lsn)  # it is true by now
        self.stored = self.journal.tail_lsn

    @property
    def numbers(self) -> list[int]:
        """Numbers of the segments that are there; each holds its record, in a file of its size."""
        found = [int(path.stem) for path in segment_files(self.journal.directory)]
        records, tail = read_all(self.journal.directory)
        assert tail.damage == []
        assert [record.header.lsn for record in records] == found
        for record in records:
            assert record.state == garbage(record.header.lsn, len(record.state))
        assert set(range(self.stored + 1, self.journal.tail_lsn + 1)) <= set(found)
        return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[JournalLimits], Bench]]:
    made: list[Bench] = []

    def make(limits: JournalLimits) -> Bench:
        made.append(Bench(tmp_path, limits))
        return made[0]

    yield make
    made[0].writer.close()


Make = Callable[[JournalLimits], Bench]


def test_only_what_is_stored_is_reused(make: Make) -> None:
    journal = make(LEAN)
    journal.save(2)
    journal.store(1)
    journal.save(1)
    assert journal.numbers == [2, 3]
    journal.save(1)
    assert journal.numbers == [2, 3, 4]
    journal.store(2)
    journal.save(1)
    assert journal.numbers == [3, 4, 5]


def test_the_segment_that_is_written_now_is_not_reused(make: Make) -> None:
    journal = make(LEAN)
    journal.save(1)
    journal.store(1)
    journal.save(1)
    assert journal.numbers == [1, 2]


def test_what_was_used_last_is_kept_for_the_cache(make: Make) -> None:
    """Any process may have read it."""
    journal = make(LEAN)
    journal.save(4)
    journal.store(3)
    journal.journal.index.touch(1)
    journal.save(1)
    assert journal.numbers == [1, 3, 4, 5]


def test_the_cache_keeps_its_bytes(make: Make) -> None:
    journal = make(dataclasses.replace(LIMITS, cache_bytes=2 * LIMITS.segment_bytes))
    journal.save(2)
    journal.store(2)
    journal.save(1)
    assert journal.numbers == [1, 2, 3]
    journal.save(1)
    assert journal.numbers == [2, 3, 4]


def test_a_full_journal_takes_from_the_cache(make: Make) -> None:
    journal = make(dataclasses.replace(RICH, journal_bytes=3 * LIMITS.segment_bytes))
    journal.save(3)
    journal.store(1)
    journal.save(1)
    assert journal.numbers == [2, 3, 4]


def test_a_full_disk_takes_from_the_cache(make: Make) -> None:
    journal = make(RICH)
    journal.save(2)
    with failing("posix_fallocate", errno.ENOSPC):
        with pytest.raises(DiskFullError):
            journal.save(1)
        assert journal.numbers == [1, 2]
        journal.store(1)
        journal.save(1)
    assert journal.numbers == [2, 3]


def test_on_a_full_disk_small_segments_make_room_for_a_large_one(make: Make) -> None:
    journal = make(RICH)
    journal.save(3)
    journal.store(2)
    with failing("posix_fallocate", errno.ENOSPC, times=2):
        journal.save(1, size=9000)
    assert journal.numbers == [3, 4]


@pytest.mark.parametrize("name", ["journal.before_recycle", "journal.after_rename"])
def test_a_segment_that_was_recycled_half_is_not_left(make: Make, name: str) -> None:
    journal = make(LEAN)
    journal.save(2)
    journal.store(1)
    failpoint.arm(f"{name}=error")
    try:
        with pytest.raises(JournalError, match="cannot recycle"):
            journal.save(1)
    finally:
        failpoint.arm("")
    assert journal.numbers == [2]
    journal.save(1)
    assert journal.numbers == [2, 3]


def test_who_watches_hears_of_a_reuse_before_it(make: Make) -> None:
    journal = make(LEAN)
    heard: list[tuple[int, bool]] = []

    def hear(number: int) -> None:
        path = Path(journal.journal.directory, segment_name(number))
        heard.append((number, garbage(number, 3000) in path.read_bytes()))

    journal.journal.watch_reuse(hear)
    journal.save(3)
    journal.store(2)
    journal.save(1)  # recycles the first one
    journal.journal.expire()  # deletes the second one
    assert heard == [(1, True), (2, True)]
    assert journal.numbers == [3, 4]


@pytest.mark.parametrize(("ttl_s", "left"), [(3600.0, [1, 2, 3, 4]), (0.0, [3, 4])])
def test_what_was_not_used_for_long_is_deleted(make: Make, ttl_s: float, left: list[int]) -> None:
    journal = make(dataclasses.replace(RICH, cache_ttl_s=ttl_s))
    journal.save(4)
    journal.store(2)
    journal.journal.expire()
    assert journal.numbers == left


def test_what_is_deleted_during_a_sync_is_closed_after_it(make: Make) -> None:
    """Else the sync could be one of another file that has got the same descriptor."""
    journal = make(dataclasses.replace(RICH, cache_ttl_s=0.0))
    journal.save(2)
    journal.store(1)
    (first,) = journal.journal._space.sealed
    fdatasync, open_then = os.fdatasync, []

    def sync(fd: int) -> None:
        journal.journal.expire()
        open_then.append(first.fd >= 0)
        fdatasync(fd)

    with mock.patch.object(os, "fdatasync", sync):
        assert journal.journal.sync() == 2
    assert open_then == [True, True]
    assert first.fd == -1
    assert journal.numbers == [2]


def room_for(count: int) -> JournalLimits:
    """All segments are kept, until the journal has so many."""
    return dataclasses.replace(RICH, journal_bytes=count * LIMITS.segment_bytes)


def test_without_outcomes_no_segment_is_used_again(make: Make) -> None:
    """Whatever the cursor says: nobody may have found out, or be able to correct it."""
    journal = make(LEAN)
    journal.save(3)
    untrue_cursor(journal.journal.directory, 3)
    journal.save(2)
    assert journal.numbers == [1, 2, 3, 4, 5]
    journal.store_all()
    journal.save(1)
    assert journal.numbers == [2, 3, 4, 5, 6]


def test_what_a_segment_held_before_says_nothing_of_what_it_holds(make: Make) -> None:
    journal = make(LEAN)
    journal.save(2)
    journal.store(1)
    journal.save(2)
    assert journal.numbers == [2, 3, 4], "the third one is the first one, used again"
    untrue_cursor(journal.journal.directory, 4)
    journal.save(2)
    assert journal.numbers == [2, 3, 4, 5, 6]


def test_without_outcomes_no_segment_is_deleted_because_it_is_old(make: Make) -> None:
    journal = make(dataclasses.replace(RICH, cache_ttl_s=0.0))
    journal.save(3)
    untrue_cursor(journal.journal.directory, 3)
    journal.journal.expire()
    assert journal.numbers == [1, 2, 3]


def test_without_outcomes_no_segment_makes_room(make: Make) -> None:
    journal = make(room_for(3))
    journal.save(3)
    untrue_cursor(journal.journal.directory, 3)
    for size in (3000, 9000):  # it fits into one of them, or they would have to go
        with pytest.raises(JournalFullError):
            journal.save(1, size=size)
    assert journal.numbers == [1, 2, 3]


def test_without_outcomes_no_segment_goes_for_a_full_disk(make: Make) -> None:
    journal = make(RICH)
    journal.save(3)
    untrue_cursor(journal.journal.directory, 3)
    with failing("posix_fallocate", errno.ENOSPC):
        for size in (3000, 9000):
            with pytest.raises(DiskFullError):
                journal.save(1, size=size)
    assert journal.numbers == [1, 2, 3]


def small(tmp_path: Path) -> Writer:
    """A journal with several records in each segment."""
    writer = Writer(state_directory(tmp_path), LEAN)
    while len(segment_files(writer.journal.directory)) < 2:
        writer.save("run-1", garbage(writer.journal.tail_lsn + 1, 400))
    return writer


@pytest.mark.parametrize("lsn", [1, 3, -1])
def test_one_record_without_an_outcome_keeps_its_segment(tmp_path: Path, lsn: int) -> None:
    """The others of the segment have theirs: they were stored out of order."""
    with closing(small(tmp_path)) as writer:
        journal = writer.journal.directory
        found = records(journal)
        first = [each for each in found if segment_of(each.position) == 1]
        missing = first[lsn if lsn < 0 else lsn - 1]
        with closing(Segments(journal)) as segments:
            for each in found:
                if each is not missing:
                    segments.write_outcome(each.position, each.header.lsn, MET, 1)
            untrue_cursor(journal, found[-1].header.lsn)
            writer.journal.expire()
            assert Path(journal, segment_name(1)).exists()
            segments.write_outcome(missing.position, missing.header.lsn, MET, 1)
        writer.journal.expire()
        assert not Path(journal, segment_name(1)).exists()


def test_outcomes_are_looked_for_before_a_segment_is_needed(tmp_path: Path) -> None:
    """Some at a time: an append that had to look at a whole segment would take long."""
    limits = dataclasses.replace(RICH, segment_bytes=1 << 20, journal_bytes=8 << 20)
    with closing(Writer(state_directory(tmp_path), limits)) as writer:
        journal = writer.journal
        while len(journal._space.sealed) < 2:
            writer.save("run-1", b"small")
        first, second = journal._space.sealed
        assert first.used > 2 * _AT_ONCE_BYTES
        with closing(Consumer(journal.directory)) as consumer:
            consumer.take(len(first.outcomes) + 10)
        journal.look_ahead()
        assert (first.settled, second.settled) == (len(first.outcomes), 0)
        with mock.patch("livingai.queue.reuse.os.pread", side_effect=AssertionError("again")):
            assert is_settled(first, journal.id)


def test_only_some_of_a_segment_is_looked_at_in_one_go(tmp_path: Path) -> None:
    limits = dataclasses.replace(RICH, segment_bytes=1 << 20, journal_bytes=8 << 20)
    with closing(Writer(state_directory(tmp_path), limits)) as writer:
        while not writer.journal._space.sealed:
            writer.save("run-1", b"small")
        (segment,) = writer.journal._space.sealed
        with closing(Consumer(writer.journal.directory)) as consumer:
            consumer.take(len(segment.outcomes))
        steps = 0
        while look(segment, writer.journal.id):
            steps += 1
        assert segment.settled == len(segment.outcomes)
        assert steps == -(-segment.used // _AT_ONCE_BYTES)


def test_what_the_disk_does_not_give_back_keeps_no_segment(tmp_path: Path) -> None:
    """As damage; it would end a process that has the file mapped."""
    with closing(small(tmp_path)) as writer:
        journal = writer.journal
        segment = journal._space.sealed[0]
        bad, pread = segment.outcomes[1] << 3, os.pread
        with closing(Segments(journal.directory)) as segments:
            for each in records(journal.directory):
                if segment_of(each.position) == 1 and each.header.lsn != 2:
                    segments.write_outcome(each.position, each.header.lsn, MET, 1)

        def read(fd: int, size: int, at: int) -> bytes:
            if fd == segment.fd and at <= bad < at + size:
                raise OSError(errno.EIO, "a bad sector")
            return pread(fd, size, at)

        assert not is_settled(segment, journal.id)
        with mock.patch("livingai.queue.reuse.os.pread", read):
            assert is_settled(segment, journal.id)


def test_a_segment_that_lost_its_name_makes_room(tmp_path: Path) -> None:
    """Nobody can store what is in it, and nobody can say in it that it was."""
    with closing(small(tmp_path)) as writer:
        journal = writer.journal
        for path in segment_files(journal.directory)[:-1]:
            path.unlink()
        untrue_cursor(journal.directory, journal.tail_lsn)
        journal.expire()
        assert not journal._space.sealed


def test_a_cursor_in_a_file_that_was_made_anew_is_seen(make: Make) -> None:
    """The service makes another one where it was lost, or was no file of ours."""
    bench = make(LEAN)
    bench.save(2)
    Path(bench.journal.directory, "cursor").rename(f"{bench.journal.directory}.aside")
    untrue_cursor(bench.journal.directory, 2)
    assert bench.journal._stored().lsn == 2


def test_a_damaged_record_has_no_outcome_and_keeps_no_segment(tmp_path: Path) -> None:
    """The service sets it aside and goes on."""
    with closing(small(tmp_path)) as writer:
        journal = writer.journal.directory
        for record, place in ((records(journal)[1], 9), (records(journal)[2], 200)):
            flip_in_record(journal, record, place)
        with closing(Consumer(journal)) as consumer:
            consumer.take(alive=False)
        writer.journal.expire()
        assert not Path(journal, segment_name(1)).exists()


def test_a_segment_that_was_cut_short_is_given_away(tmp_path: Path) -> None:
    """What was behind that is gone, and has no outcome."""
    with closing(small(tmp_path)) as writer:
        journal = writer.journal.directory
        found = records(journal)
        with closing(Consumer(journal)) as consumer:
            consumer.take(2)
        os.truncate(Path(journal, segment_name(1)), offset_of(found[2].position) + 20)
        untrue_cursor(journal, found[-1].header.lsn)
        writer.journal.expire()
        assert not Path(journal, segment_name(1)).exists()


def test_the_base_of_a_patch_without_an_outcome_is_kept(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, segment_bytes=8192, journal_bytes=16 * 8192, cache_bytes=1)
    state = bytearray(garbage(1, 6000))
    with closing(Writer(state_directory(tmp_path), limits, patch_from=4096)) as writer:
        journal = writer.journal.directory
        writer.save("run-1", bytes(state))
        while len(segment_files(journal)) < 3:
            state[:8] = writer.journal.tail_lsn.to_bytes(8, "little")
            assert writer.save("run-1", bytes(state)).patched
            writer.save("run-2", garbage(writer.journal.tail_lsn, 2000))
        found = records(journal)
        patches = [each for each in found if is_patch(each.header)]
        with closing(Segments(journal)) as segments:
            for each in found:
                if each is not patches[-1]:
                    segments.write_outcome(each.position, each.header.lsn, MET, 1)
            untrue_cursor(journal, found[-1].header.lsn)
            writer.journal.expire()
            assert record_at(segments, patches[-1].position).state == bytes(state)
            segments.write_outcome(patches[-1].position, patches[-1].header.lsn, MET, 1)
        writer.journal.expire()
        assert not Path(journal, segment_name(1)).exists()
