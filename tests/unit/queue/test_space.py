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
from livingai.errors import DiskFullError, JournalError
from livingai.queue.journal import JournalLimits
from livingai.queue.segment import segment_name
from tests.support.journals import (
    LIMITS,
    Consumer,
    Writer,
    failing,
    garbage,
    read_all,
    segment_files,
    state_directory,
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
