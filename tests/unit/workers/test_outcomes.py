"""Outcomes: what is written before what, and what waits where the quarantine takes nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.cursor import CursorFile
from livingai.queue.journal import JournalLimits
from livingai.queue.quarantine import set_aside
from livingai.queue.record import unpack_outcome
from livingai.workers.dispatcher import outcomes as outcomes_module
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.outcomes import Outcomes
from tests.support.journals import Writer, failing, flip_in_record, records, state_directory
from tests.support.patience import patience

MET, FENCED, LATE, QUARANTINED = (
    STATUS_CODES[status]
    for status in (
        OutcomeStatus.MET, OutcomeStatus.FENCED, OutcomeStatus.LATE, OutcomeStatus.QUARANTINED,
    )
)  # fmt: skip


def cursor_of(feed: Feed) -> int:
    """The number that the cursor's file has now."""
    with closing(CursorFile(feed.path, feed.journal_id, write=False)) as file:
        return file.read().lsn


class Listener:
    """Hears what owners and the dispatcher are told, and looks at the journal at that moment."""

    def __init__(self) -> None:
        #: Of each message: what the cursor was then, the pairs, the reasons.
        self.told: list[tuple[int, list[tuple[int, int]], dict[int, str]]] = []
        self.lost: list[list[tuple[int, int, str]]] = []
        self.stored: list[tuple[int, bool]] = []
        self.kicked = asyncio.Event()

    def tell(self, feed: Feed, outcomes: list[tuple[int, int]], reasons: dict[int, str]) -> None:
        self.told.append((cursor_of(feed), outcomes, reasons))

    def tell_lost(self, feed: Feed) -> None:
        self.lost.append(list(feed.lost))

    def settled(self, item: Item, *, stored: bool) -> None:
        self.stored.append((item.header.lsn, stored))

    def kick(self) -> None:
        self.kicked.set()


class Bench:
    """A journal of three records, taken, and the outcomes of its service."""

    def __init__(self, folder: Path) -> None:
        self.directory = state_directory(folder)
        self.owner = Writer(self.directory, JournalLimits())
        self.quarantine = Path(self.directory.quarantine)
        for _ in range(3):
            self.owner.save("run-1", b"x" * 100, budget_us=50_000)
        self.intake = Intake(self.directory)
        self.begin()

    def begin(self) -> None:
        """A life of the service."""
        self.intake.close()
        self.intake = Intake(self.directory)
        self.listener = Listener()
        self.outcomes = Outcomes(str(self.quarantine), self.intake, self.listener, self.listener)

    def take(self) -> list[Item]:
        return list(self.intake.take(100))

    @property
    def feed(self) -> Feed:
        (feed,) = self.intake.feeds.values()
        return feed

    def close(self) -> None:
        self.intake.close()
        self.owner.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def test_an_agent_hears_of_it_once_the_cursor_has_moved(bench: Bench) -> None:
    items = bench.take()
    now = time.monotonic_ns()
    bench.outcomes.settle(items[0], MET, items[0].header.mono_ns + 1000)
    bench.outcomes.settle(items[1], FENCED, now, "taken over")
    assert bench.listener.told == []
    assert cursor_of(bench.feed) == 0
    bench.outcomes.tell()
    ((cursor, pairs, reasons),) = bench.listener.told
    assert cursor == 2
    assert reasons == {2: "taken over"}
    for item, (lsn, word) in zip(items, pairs, strict=False):
        assert lsn == item.header.lsn
        assert unpack_outcome(lsn, word) == bench.feed.outcome_of(item)
    assert bench.listener.stored == [(1, True), (2, False)]
    bench.outcomes.tell()
    assert len(bench.listener.told) == 1


def test_the_outcome_is_in_the_journal_before_the_cursor_moves(bench: Bench) -> None:
    item = bench.take()[0]
    segments = bench.feed.tail.segments
    real, seen = segments.write_outcome, []

    def write(*arguments: int) -> int:
        seen.append(cursor_of(bench.feed))
        return real(*arguments)

    with mock.patch.object(segments, "write_outcome", write):
        bench.outcomes.settle(item, MET, time.monotonic_ns())
        bench.outcomes.tell()
    assert seen == [0]
    assert cursor_of(bench.feed) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_a_cursor_that_could_not_be_written_is_moved_later(bench: Bench, *, gone: bool) -> None:
    """The disk fails for a moment, and no more records come: the owner of a full journal would wait
    for ever."""
    items = bench.take()
    bench.outcomes.settle(items[0], MET, time.monotonic_ns())
    with failing("pwrite", errno.EIO):
        bench.outcomes.tell()
        bench.outcomes.tell()
    assert cursor_of(bench.feed) == 0
    assert [len(pairs) for _, pairs, _ in bench.listener.told] == [1], "told all the same, and once"
    feed = bench.feed
    if gone:  # its journal is removed meanwhile
        feed.close()
        bench.intake.feeds.clear()
    bench.outcomes.tell()
    assert cursor_of(feed) == (0 if gone else 1)
    assert not bench.outcomes._untold


@pytest.mark.parametrize(
    ("status", "after_us", "expected"),
    [(MET, 50_000, MET), (MET, 50_001, LATE), (FENCED, 50_001, FENCED), (MET, 0, MET)],
)
def test_what_is_late(bench: Bench, status: int, after_us: int, expected: int) -> None:
    item = bench.take()[0]
    bench.outcomes.settle(item, status, item.header.mono_ns + after_us * 1000)
    assert bench.feed.outcome_of(item) == (expected, after_us)
    assert bench.listener.stored == [(1, status == MET)]


def test_a_record_of_another_boot_is_late_by_the_wall_clock(bench: Bench) -> None:
    """The monotonic clock has begun anew since it was accepted."""
    item = bench.take()[0]
    bench.feed.same_boot = False
    with mock.patch("time.time_ns", return_value=item.header.wall_ns + 70_000_000):
        bench.outcomes.settle(item, MET, 1)
    assert bench.feed.outcome_of(item) == (LATE, 70_000)


def test_what_has_an_outcome_is_not_taken_again(bench: Bench) -> None:
    """The service was killed between the outcomes and the cursor."""
    items = bench.take()
    for item in items[:2]:
        bench.outcomes.settle(item, MET, time.monotonic_ns())
    bench.begin()
    again = bench.take()
    assert [bench.outcomes.known(item) for item in again] == [True, True, False]
    bench.outcomes.tell()
    assert cursor_of(bench.feed) == 2
    assert bench.listener.told == [], "its owner finds them in the journal"


def test_a_record_waits_until_the_quarantine_takes_it(bench: Bench) -> None:
    async def main() -> None:
        bench.begin()
        item = bench.take()[0]
        bench.quarantine.rmdir()
        bench.quarantine.write_bytes(b"")  # no folder: nothing can be written there
        with mock.patch.object(outcomes_module, "_RETRY_S", 0.0):
            bench.outcomes.set_aside(item, "refused")
            for _ in range(20):
                await asyncio.sleep(0)
            bench.outcomes.tell()
            assert bench.feed.outcome_of(item) is None
            assert not item.done
            assert bench.listener.told == []
            bench.quarantine.unlink()
            bench.quarantine.mkdir()
            await asyncio.wait_for(bench.listener.kicked.wait(), patience(60))
        outcome = bench.feed.outcome_of(item)
        assert outcome is not None
        assert outcome[0] == QUARANTINED
        assert bench.listener.stored == [(1, False)]
        (file,) = bench.quarantine.glob("*")
        assert b"x" * 100 in file.read_bytes()
        bench.outcomes.tell()
        ((_, _, reasons),) = bench.listener.told
        assert reasons == {1: "refused"}

    asyncio.run(main())


def test_damage_waits_until_the_quarantine_takes_it(tmp_path: Path) -> None:
    async def main() -> None:
        with closing(Bench(tmp_path)) as bench:
            bench.owner.die()
            flip_in_record(
                bench.owner.journal.directory, records(bench.owner.journal.directory)[1], 8
            )
            bench.begin()
            items = bench.take()
            bench.feed.check_owner()
            assert bench.feed.damage or items
            bench.take()
            assert bench.feed.damage
            bench.quarantine.rmdir()
            bench.quarantine.write_bytes(b"")
            with mock.patch.object(outcomes_module, "_RETRY_S", 0.0):
                bench.outcomes.set_damage_aside()
                assert bench.feed.damage
                assert not bench.listener.lost
                assert not bench.outcomes.counts[OutcomeStatus.QUARANTINED]
                bench.quarantine.unlink()
                bench.quarantine.mkdir()
                bench.outcomes.set_damage_aside()
            assert not bench.feed.damage
            assert [entry[:2] for entry in bench.listener.lost[-1]] == [(2, 2)]
            assert [entry[:2] for entry in bench.feed.lost] == [(2, 2)]
            assert bench.outcomes.counts[OutcomeStatus.QUARANTINED] == 1
            (file,) = bench.quarantine.glob("*")
            assert b"x" * 100 in file.read_bytes()

    asyncio.run(main())


def test_an_owner_hears_what_an_untrue_cursor_has_passed(tmp_path: Path) -> None:
    """It may have connected before its journal could be read."""

    async def main() -> None:
        with closing(Bench(tmp_path)) as bench:
            journal = bench.owner.journal.directory
            with closing(CursorFile(journal, bench.owner.journal.id, write=True)) as file:
                first, second, _ = records(journal)
                file.write(1, second.position)
            for damaged in (first, second):
                flip_in_record(journal, damaged, 8)
            bench.begin()
            bench.take()
            bench.outcomes.set_damage_aside()
            assert [entry[:2] for entry in bench.listener.lost[-1]] == [(2, 2)]
            assert not bench.feed.damage
            assert bench.outcomes.counts[OutcomeStatus.QUARANTINED] == 0

    asyncio.run(main())


def test_a_patch_is_set_aside_with_its_whole_state(tmp_path: Path) -> None:
    """Its base is drained, and its segment will be gone."""
    directory = state_directory(tmp_path)
    base = bytes(range(256)) * 400
    state = base[:5000] + b"changed" + base[5000:]
    with closing(Writer(directory, JournalLimits(), patch_from=4096)) as owner:
        owner.save("run-1", base)
        assert owner.save("run-1", state).patched
        with closing(Intake(directory)) as intake:
            listener = Listener()
            outcomes = Outcomes(directory.quarantine, intake, listener, listener)
            _, item = intake.take(10)
            outcomes.set_aside(item, "refused")
    (file,) = Path(directory.quarantine).glob("*")
    assert state in file.read_bytes()


def test_what_is_set_aside_is_synced_with_its_folder(tmp_path: Path) -> None:
    """Before that the record must not be terminal: a power loss would take it for good."""
    synced: list[str] = []
    fsync = os.fsync

    def sync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    with mock.patch("os.fsync", sync):
        set_aside(str(tmp_path), 1, 128, b"data", reason="refused")
    assert len(synced) == 2
    assert os.path.basename(synced[0]).startswith(".aside-")
    assert synced[1] == str(tmp_path)
