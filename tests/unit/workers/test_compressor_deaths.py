"""Compressors that die, stop or fail: each record comes back once, and which of them raw."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from livingai.queue.journal import JournalLimits
from livingai.workers import compressor
from livingai.workers.dispatcher import compressor_pool
from livingai.workers.dispatcher.compressor_executors import make_processes, make_thread
from livingai.workers.dispatcher.compressor_pool import CompressorPool
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.encoding import encode
from livingai.workers.encoding_task import EncodingResult
from tests.support.journals import Writer, state_directory
from tests.support.patience import patience
from tests.support.poison import poisoned
from tests.support.waiting import gone, kill, until

COUNT = 6


class Bench:
    """Records of a journal, and a pool that encodes them."""

    def __init__(self, folder: Path, processes: int, *, careful: bool) -> None:
        self.owner = Writer(state_directory(folder), JournalLimits())
        for number in range(COUNT):
            self.owner.save("run-1", b"state %d " % number * 300)
        self.feed = Feed(self.owner.journal.directory)
        self.feed.read_ahead()
        self.items = [self.feed.next() for _ in range(COUNT)]
        self.pool = CompressorPool(processes, "auto", self._done, careful=careful)
        #: Number of each record that came back, and what was made of it.
        self.done: list[tuple[int, EncodingResult | None]] = []
        #: Executors of processes that were made, and how often the thread was.
        self.pools = self.threads = 0
        self._changed = asyncio.Event()

    def _done(self, item: Any, encoded: EncodingResult | None) -> None:
        self.done.append((item.header.lsn, encoded))
        self._changed.set()

    def make_processes(self, make: Callable[[int], Any], count: int) -> Any:
        self.pools += 1
        self._changed.set()
        return make(count)

    def make_thread(self) -> Any:
        self.threads += 1
        return make_thread()

    def add(self, *numbers: int) -> None:
        """Have these records encoded, in one task if that is possible."""
        for number in numbers or range(COUNT):
            self.pool.add(self.items[number])
        self.pool.flush()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that comes with a record or a pool."""
        while not holds():
            assert self.pools < 9, "it goes on for ever"
            self._changed.clear()
            await self._changed.wait()

    async def all_done(self, count: int = COUNT) -> None:
        """Wait until so many came back."""
        await self.until(lambda: len(self.done) >= count)

    def raw(self) -> list[int]:
        """Numbers of those that are stored raw, once each has come back once."""
        assert sorted(number for number, _ in self.done) == list(range(1, COUNT + 1))
        return [number for number, encoded in self.done if encoded is None]

    def close(self) -> None:
        self.pool.close()
        self.feed.close()
        self.owner.close()


def run(
    folder: Path,
    test: Callable[[Bench], Awaitable[None]],
    *,
    processes: int = 1,
    careful: bool = False,
    make: Callable[[int], Any] = make_processes,
) -> None:
    """Run a test with a pool whose processes are made so."""

    async def main() -> None:
        with (
            closing(Bench(folder, processes, careful=careful)) as bench,
            mock.patch.object(
                compressor_pool, "make_processes", lambda n: bench.make_processes(make, n)
            ),
            mock.patch.object(compressor_pool, "make_thread", bench.make_thread),
        ):
            await asyncio.wait_for(test(bench), patience(120))

    asyncio.run(main())


def test_what_a_dead_compressor_had_comes_again_in_order(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        await bench.pool.warm()
        (pid,) = bench.pool.pids()
        os.kill(pid, signal.SIGSTOP)
        bench.add()
        kill(pid)
        await bench.all_done()
        assert bench.raw() == []
        assert [number for number, _ in bench.done] == list(range(1, COUNT + 1))
        assert [item.breaks for item in bench.items] == [1] * COUNT

    run(tmp_path, test)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_record_that_kills_is_stored_raw_and_no_other(tmp_path: Path, processes: int) -> None:
    poison: set[int] = set()

    async def test(bench: Bench) -> None:
        poison.add(bench.items[2].at)
        await bench.pool.warm()
        bench.add()
        await bench.all_done()
        assert bench.raw() == [3]
        assert bench.items[2].breaks == 3
        assert bench.pools == 4

    run(tmp_path, test, processes=processes, make=poisoned(poison))


def test_what_comes_meanwhile_is_not_blamed(tmp_path: Path) -> None:
    poison: set[int] = set()

    async def test(bench: Bench) -> None:
        poison.add(bench.items[2].at)
        await bench.pool.warm()
        bench.add(0, 1, 2)
        await bench.all_done(1)  # alone, by the second pool: the thread is not needed any more
        bench.add(3, 4, 5)
        await bench.all_done()
        assert bench.raw() == [3]
        assert [item.breaks for item in bench.items] == [1, 1, 3, 0, 0, 0]

    run(tmp_path, test, make=poisoned(poison))


def test_a_record_whose_encoding_fails_is_stored_raw(tmp_path: Path) -> None:
    """In the thread here: the processes have not come up."""
    failures = iter([MemoryError("no window")])

    def failing_once(*arguments: Any) -> Any:
        for error in failures:
            raise error
        return encode(*arguments)

    async def test(bench: Bench) -> None:
        bench.add(0)
        bench.add(1)
        await bench.until(lambda: any(number == 2 for number, _ in bench.done))
        assert bench.done[0] == (1, None)
        assert bench.done[1][1] is not None

    with (
        mock.patch.object(compressor, "encode", failing_once),
        mock.patch.object(compressor_pool, "_LATER_S", 1e6),
    ):
        run(tmp_path, test)


def test_a_compressor_that_is_stopped_holds_nothing_up(tmp_path: Path) -> None:
    """Nobody tells: it is neither dead nor does it answer."""

    async def test(bench: Bench) -> None:
        await bench.pool.warm()
        (pid,) = bench.pool.pids()
        os.kill(pid, signal.SIGSTOP)
        bench.add()
        for _ in range(50):
            bench.pool.check()
        assert bench.pool.pids() == [pid], "it may be slow"
        bench.pool.check()
        assert pid not in bench.pool.pids()
        await bench.all_done()
        assert bench.raw() == []
        gone(pid)

    run(tmp_path, test)


def test_a_compressor_that_dies_idle_is_replaced_before_there_is_work(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        await bench.pool.warm()
        (pid,) = bench.pool.pids()
        kill(pid)

        def replaced() -> bool:
            bench.pool.check()
            return bench.pools == 2

        until(replaced, what="a new pool")
        bench.add()
        await bench.all_done()
        assert bench.raw() == []

    run(tmp_path, test)


def test_what_may_have_ended_the_dispatcher_is_never_given_to_its_thread(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.add()
        await bench.all_done()
        assert bench.raw() == []
        assert bench.threads == 0

    run(tmp_path, test, careful=True)


def test_where_there_can_be_no_processes_it_is_stored_raw(tmp_path: Path) -> None:
    def none(count: int) -> Any:
        raise OSError("no semaphores here")

    async def test(bench: Bench) -> None:
        bench.add()
        for pools in (1, 2, 3):
            assert bench.pools == pools
            assert bench.done == []
            for _ in range(3):
                await asyncio.sleep(0)
            bench.pool.check()
        await bench.all_done()
        assert bench.raw() == list(range(1, COUNT + 1))
        assert bench.threads == 0

    with mock.patch.object(compressor_pool, "_FIRST_DELAY_S", 0.0):
        run(tmp_path, test, careful=True, make=none)


def test_processes_that_do_not_come_up_are_started_anew(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.pool._start()
        with mock.patch.object(compressor_pool, "_START_S", -1.0):
            bench.pool.check()
        assert bench.pools == 2
        bench.add()
        await bench.all_done()
        assert bench.raw() == []

    run(tmp_path, test)
