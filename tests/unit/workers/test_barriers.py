"""Barriers: what they wait for, wherever a record is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.errors import JournalError, LivingAIError, StoreMismatchError
from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.journal import JournalLimits
from livingai.queue.record import execution_hash
from livingai.workers.dispatcher.barriers import Barriers
from livingai.workers.dispatcher.feed import Item
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.lanes import Lanes
from tests.support.journals import Writer, state_directory

MET = STATUS_CODES[OutcomeStatus.MET]
KEYS = [None, execution_hash("run-1")]


class Turns:
    """The parts of a dispatcher that a barrier looks at, one step at a time."""

    def __init__(self, folder: Path) -> None:
        self.directory = state_directory(folder)
        self.owner = Writer(self.directory, JournalLimits())
        self.intake = Intake(self.directory)
        self.lanes = Lanes()
        self.barriers = Barriers(self.intake, self)
        self.wrong: LivingAIError | None = None

    def kick(self) -> None:
        """Turns are taken by hand here."""

    def misplaced(self, since_ns: int) -> LivingAIError | None:
        return self.wrong

    def has_older(self, key: int, since_ns: int) -> bool:
        return self.lanes.has_older(key, since_ns)

    def take(self) -> list[Item]:
        items = list(self.intake.take(100))
        for item in items:
            item.ready = True
            self.lanes.add(item)
        return items

    def settle(self) -> None:
        """All that waits is terminal."""
        batch = self.lanes.batch(100, 1 << 20)
        for item in batch:
            item.feed.settle(item, MET, 1)
            item.feed.advance()
        self.lanes.release(batch)

    async def ask(self, key: int | None) -> asyncio.Task[None]:
        """A reader that waits, once it does."""
        task = asyncio.ensure_future(self.barriers.passed(key))
        await asyncio.sleep(0)
        return task

    async def passes(self, reader: asyncio.Task[None]) -> bool:
        """Whether the reader goes on after a look."""
        self.barriers.check()
        for _ in range(3):
            await asyncio.sleep(0)
        return reader.done()

    def close(self) -> None:
        self.intake.close()
        self.owner.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Callable[[Turns], Awaitable[None]]], None]]:
    """Run a test in an event loop."""
    with closing(Turns(tmp_path)) as turns:
        yield lambda test: asyncio.run(test(turns))  # type: ignore[arg-type]


Run = Callable[[Callable[[Turns], Awaitable[None]]], None]


@pytest.mark.parametrize("key", KEYS)
def test_it_waits_for_what_is_not_read_yet_and_for_what_is_under_way(
    run: Run, key: int | None
) -> None:
    async def test(turns: Turns) -> None:
        turns.take()
        turns.owner.save("run-1", b"x")
        reader = await turns.ask(key)
        assert not await turns.passes(reader), "it is in the journal only"
        turns.take()
        assert not await turns.passes(reader), "it waits for the store"
        batch = turns.lanes.batch(1, 1 << 20)
        assert not await turns.passes(reader), "the store has it"
        turns.lanes.put_back(batch)
        assert not await turns.passes(reader), "the store was away"
        turns.settle()
        assert await turns.passes(reader)
        await reader

    run(test)


@pytest.mark.parametrize("key", KEYS)
def test_it_waits_for_a_journal_that_is_new(run: Run, key: int | None) -> None:
    async def test(turns: Turns) -> None:
        turns.take()
        with closing(Writer(turns.directory, JournalLimits())) as other:
            other.save("run-1", b"x")
            reader = await turns.ask(key)
            assert not await turns.passes(reader)
            assert len(turns.take()) == 1
            assert not await turns.passes(reader)
            turns.settle()
            assert await turns.passes(reader)

    run(test)


@pytest.mark.parametrize("key", KEYS)
def test_it_does_not_wait_for_what_came_later(run: Run, key: int | None) -> None:
    async def test(turns: Turns) -> None:
        reader = await turns.ask(key)
        turns.owner.save("run-1", b"x")
        turns.take()
        assert await turns.passes(reader)

    run(test)


@pytest.mark.parametrize("key", KEYS)
def test_times_of_another_boot_say_nothing(run: Run, key: int | None) -> None:
    """That clock began anew: a record that seems to be from later was accepted before."""

    async def test(turns: Turns) -> None:
        reader = await turns.ask(key)
        turns.owner.save("run-1", b"x")
        (item,) = turns.take()
        item.feed.same_boot = False
        assert not await turns.passes(reader)
        turns.settle()
        assert await turns.passes(reader)

    run(test)


def test_another_executions_records_hold_up_only_who_asks_for_all(run: Run) -> None:
    async def test(turns: Turns) -> None:
        turns.owner.save("run-2", b"x")
        one, every = await turns.ask(KEYS[1]), await turns.ask(None)
        turns.take()
        assert await turns.passes(one)
        assert not every.done()
        turns.settle()
        assert await turns.passes(every)

    run(test)


@pytest.mark.parametrize("key", KEYS)
def test_it_ends_with_the_error_that_a_person_has_to_settle(run: Run, key: int | None) -> None:
    async def test(turns: Turns) -> None:
        turns.owner.save("run-1", b"x")
        reader = await turns.ask(key)
        turns.wrong = StoreMismatchError("another database")
        assert await turns.passes(reader)
        with pytest.raises(StoreMismatchError, match="another database"):
            await reader

    run(test)


@pytest.mark.parametrize("key", KEYS)
def test_it_ends_with_the_error_of_a_journal_that_stays_unreadable(
    run: Run, key: int | None
) -> None:
    """It may hold what was accepted before; but an attempt from before the question says
    nothing."""

    async def test(turns: Turns) -> None:
        journal = turns.owner.journal.directory
        turns.intake.unreadable.note(journal, OSError("no descriptors"))
        reader = await turns.ask(key)
        assert not await turns.passes(reader)
        turns.intake.unreadable.note(journal, OSError("no descriptors"))
        assert await turns.passes(reader)
        with pytest.raises(JournalError, match="no descriptors"):
            await reader

    with mock.patch("livingai.workers.dispatcher.unreadable._PATIENCE_S", -1.0):
        run(test)
