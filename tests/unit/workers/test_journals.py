"""Journals of dead owners: synced, kept for the cache while it has room, removed when drained."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import OwnerLock
from livingai.workers.dispatcher import journals as journals_module
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.journals import Journals
from tests.support.journals import (
    LIMITS,
    Consumer,
    Writer,
    flip_in_record,
    records,
    state_directory,
)

MET = STATUS_CODES[OutcomeStatus.MET]


class Bench:
    """A service's view of some owners, each with one segment."""

    def __init__(self, folder: Path, cache_bytes: int = 1 << 30) -> None:
        self.directory = state_directory(folder)
        self.intake = Intake(self.directory)
        self.journals = Journals(self.directory, self.intake, cache_bytes)
        self.owners: list[Writer] = []

    def owner(self, *, records: int = 1) -> Writer:
        """One more owner, with so many records."""
        owner = Writer(self.directory, LIMITS)
        for _ in range(records):
            owner.save(f"run-{len(self.owners)}", b"x")
        self.owners.append(owner)
        return owner

    def settle(self) -> None:
        """All that was not taken is taken and stored."""
        for item in self.intake.take(1000):
            item.feed.settle(item, MET, 1)
        for feed in self.intake.feeds.values():
            feed.advance()

    def dies(self, owner: Writer) -> None:
        """The service sees at once that an owner has died."""
        owner.die()
        self.journals.look(now=True)

    def feed(self, owner: Writer) -> Feed:
        return self.intake.feeds[owner.journal.directory]

    def kept(self) -> list[int]:
        """Owners whose journals are there, for the service too."""
        there = [os.path.isdir(owner.journal.directory) for owner in self.owners]
        assert there == [owner.journal.directory in self.intake.feeds for owner in self.owners]
        return [number for number, is_ in enumerate(there) if is_]

    def close(self) -> None:
        self.intake.close()
        for owner in self.owners:
            owner.cache.close()


def run(folder: Path, test: Callable[[Bench], Awaitable[None]], cache_bytes: int = 1 << 30) -> None:
    async def main() -> None:
        with closing(Bench(folder, cache_bytes)) as bench:
            await test(bench)

    asyncio.run(main())


def test_the_cache_keeps_the_journals_that_were_drained_last(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(4):
            bench.owner()
        bench.journals.look(now=True)
        bench.settle()
        for owner in (bench.owners[number] for number in (2, 0, 3, 1)):
            bench.dies(owner)
            bench.settle()  # there is no more
        bench.journals.look(now=True)
        assert bench.kept() == [1, 3]

    run(tmp_path, test, cache_bytes=2 * LIMITS.segment_bytes)


def test_only_so_many_journals_are_kept(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(3):
            bench.dies(bench.owner())
            bench.settle()
        bench.journals.look(now=True)
        assert bench.kept() == [2]

    with mock.patch.object(journals_module, "_MAX_RETIRED", 1):
        run(tmp_path, test)


def test_a_journal_with_records_that_wait_is_not_removed(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        waiting, drained = bench.owner(records=2), bench.owner()
        bench.dies(waiting)
        bench.dies(drained)
        items = list(bench.intake.take(100))
        for item in items:
            if item is not items[1]:
                item.feed.settle(item, MET, 1)
                item.feed.advance()
        bench.settle()
        bench.journals.look(now=True)
        assert bench.kept() == [0]
        items[1].feed.settle(items[1], MET, 1)
        items[1].feed.advance()
        bench.journals.look(now=True)
        assert bench.kept() == []

    run(tmp_path, test, cache_bytes=0)


def test_what_its_owner_has_removed_is_forgotten(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        owner = bench.owner()
        bench.journals.look(now=True)
        bench.settle()
        owner.journal.close(remove=True)
        bench.journals.look(now=True)
        assert bench.kept() == []

    run(tmp_path, test)


def test_owners_are_looked_at_now_and_then_or_at_once(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        owner = bench.owner()
        assert bench.journals.look(now=True)
        owner.die()
        with mock.patch.object(journals_module, "_OWNER_CHECK_S", 1e9):
            late = bench.owner()
            assert not bench.journals.look()
            assert bench.feed(late).alive, "new journals are seen all the same"
            assert bench.feed(owner).alive
            assert bench.journals.look(now=True)
            assert not bench.feed(owner).alive
        late.die()
        with mock.patch.object(journals_module, "_OWNER_CHECK_S", 0.0):
            assert bench.journals.look()
            assert not bench.feed(late).alive

    run(tmp_path, test)


def test_what_a_dead_owner_left_is_synced_once(tmp_path: Path) -> None:
    """Until then a power loss would take what was accepted."""
    synced: list[str] = []
    fdatasync = os.fdatasync

    def sync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fdatasync(fd)

    async def test(bench: Bench) -> None:
        owner = bench.owner()
        with mock.patch.object(os, "fdatasync", sync):
            bench.journals.look(now=True)
            assert synced == []
            bench.dies(owner)
            bench.journals.look(now=True)
            await asyncio.get_running_loop().shutdown_default_executor()
        segments = [path for path in synced if path.endswith(".seg")]
        assert segments == [os.path.join(owner.journal.directory, "0000000001.seg")]

    run(tmp_path, test)


def test_the_names_that_lead_to_a_dead_owners_journal_are_synced(tmp_path: Path) -> None:
    """It may have died before its first sync: a file whose name is lost is lost, too."""
    owner = Writer(state_directory(tmp_path), LIMITS)
    owner.save("run-1", b"x")
    owner.die()
    synced: list[str] = []
    real = os.fsync

    def sync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    with closing(Feed(owner.journal.directory)) as feed, mock.patch("os.fsync", sync):
        feed.sync()
    journal = os.path.realpath(owner.journal.directory)
    assert {journal, os.path.dirname(journal), os.path.realpath(tmp_path)} <= set(synced)


def test_a_service_that_ends_removes_what_is_drained(tmp_path: Path) -> None:
    """It names the journals whose owners live: they remove them."""

    async def test(bench: Bench) -> None:
        drained, waiting, living, damaged = (bench.owner(records=3) for _ in range(4))
        for owner in (drained, living):
            with closing(Consumer(owner.journal.directory)) as consumer:
                consumer.take()
        waiting.die()
        journal = damaged.journal.directory
        flip_in_record(journal, records(journal)[1], 8)
        bench.intake.refresh()
        taken = list(bench.intake.take(100))
        assert len(taken) == 5, "all of one, two of the one that is damaged"
        drained.die()  # after the last look
        assert bench.journals.retire_all() == [living.journal.directory]
        assert bench.kept() == [1, 2, 3]
        living.die()
        damaged.die()

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "age_s", "stays"),
    [(".gone-1", 0, False), (".new-1", 0, True), (".new-1", 120, False), (".other", 120, True)],
)
def test_what_is_left_of_a_journal(tmp_path: Path, name: str, age_s: int, stays: bool) -> None:
    """One that is being made is not removed under its maker's hands."""
    directory = state_directory(tmp_path)
    path = Path(directory.journals, name)
    path.mkdir()
    path.joinpath("0000000001.seg").touch()
    made = time.time() - age_s
    os.utime(path, (made, made))
    with closing(Intake(directory)) as intake:
        Journals(directory, intake, 0)
    assert path.exists() == stays


def test_a_journal_that_is_being_made_for_long_stays(tmp_path: Path) -> None:
    """The disk is slow, or its maker is stopped."""
    directory = state_directory(tmp_path)
    path = Path(directory.journals, ".new-1")
    path.mkdir()
    lock = OwnerLock.acquire(os.fspath(path / OWNER_LOCK))
    assert lock is not None
    os.utime(path, (1, 1))
    with closing(Intake(directory)) as intake:
        Journals(directory, intake, 0)
        assert path.exists()
        lock.release()
        Journals(directory, intake, 0)
        assert not path.exists()


@pytest.mark.parametrize("name", [".gone-1", ".new-1", "note.txt"])
def test_a_file_among_the_journals_is_left_and_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = state_directory(tmp_path)
    path = Path(directory.journals, name)
    path.touch()
    os.utime(path, (1, 1))
    with closing(Intake(directory)) as intake:
        Journals(directory, intake, 0)
    assert path.exists()
    assert f"{path} is" in caplog.text
