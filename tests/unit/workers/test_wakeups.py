"""When the dispatcher sleeps, and that no record is left lying while it does."""

from __future__ import annotations

import asyncio
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livingai.queue.layout import ServiceWord, WakeFor
from livingai.workers.dispatcher.wakeups import Wakeups
from tests.support.journals import state_directory
from tests.support.patience import patience

FOR_EVER = 3600.0


class Page:
    """The page of a service as an agent sees it, and the dispatcher's wake-ups."""

    def __init__(self, folder: Path, longest_s: float = FOR_EVER, linger_s: float = 0.0) -> None:
        directory = state_directory(folder)
        self._path = Path(directory.service_state)
        self.wakeups = Wakeups(directory, longest_s, linger_s)

    def word(self, which: ServiceWord) -> int:
        """What an agent reads."""
        word: int = struct.unpack_from("<Q", self._path.read_bytes(), 8 * which)[0]
        return word

    def waiting(self) -> bool:
        """Whether an agent has to send a message after an append."""
        return self.word(ServiceWord.WAITING) == WakeFor.APPENDS

    def lingers(self) -> bool:
        """Whether only who waits has to."""
        return self.word(ServiceWord.WAITING) == WakeFor.HASTE


def run(
    test: Callable[[Page], Awaitable[None]],
    folder: Path,
    longest_s: float = FOR_EVER,
    linger_s: float = 0.0,
) -> None:
    async def with_page() -> None:
        await asyncio.wait_for(test(Page(folder, longest_s, linger_s)), patience(30))

    asyncio.run(with_page())


async def asleep(wakeups: Wakeups, taken: int = 0) -> asyncio.Task[None]:
    """The end of a turn, in a task that has begun."""
    task = asyncio.create_task(wakeups.after_turn(taken))
    await asyncio.sleep(0)
    return task


def test_it_sleeps_only_after_a_turn_with_the_word_set(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        page.wakeups.beat()
        await page.wakeups.after_turn(0)  # it does not sleep
        assert page.waiting()
        page.wakeups.beat()
        task = await asleep(page.wakeups)
        assert not task.done()
        page.wakeups.kick()
        await task
        assert page.waiting(), "what was kicked within sent no message"

    run(test, tmp_path)


def test_a_message_ends_the_sleep_and_spares_the_others(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.wakeups.after_turn(0)
        page.wakeups.beat()
        task = await asleep(page.wakeups)
        page.wakeups.appended()
        assert not page.waiting()
        await task

    run(test, tmp_path)


def test_a_kick_during_a_turn_is_not_forgotten(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.wakeups.after_turn(0)
        page.wakeups.beat()
        page.wakeups.kick()
        await page.wakeups.after_turn(0)

    run(test, tmp_path)


def test_a_burst_needs_no_messages(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.wakeups.after_turn(1)
        assert page.waiting()
        await page.wakeups.after_turn(100)
        assert not page.waiting()

    run(test, tmp_path)


def test_a_sleep_has_an_end(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.wakeups.after_turn(0)
        page.wakeups.beat()
        await page.wakeups.after_turn(0)

    run(test, tmp_path, longest_s=0.01)


def test_it_lingers_behind_a_turn_that_found_something(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        page.wakeups.beat()
        await page.wakeups.after_turn(1)
        assert page.lingers()
        page.wakeups.beat()
        task = await asleep(page.wakeups)
        assert page.lingers()
        assert not task.done()
        page.wakeups.appended()  # somebody waits
        await task
        assert not page.lingers()
        assert not page.waiting()

    run(test, tmp_path, linger_s=FOR_EVER)


def test_lingering_ends_by_itself_and_a_turn_comes_with_the_word_set(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        page.wakeups.beat()
        await page.wakeups.after_turn(1)
        page.wakeups.beat()
        await page.wakeups.after_turn(0)
        assert page.waiting()
        page.wakeups.beat()
        task = await asleep(page.wakeups)
        assert not task.done(), "one turn is enough"
        page.wakeups.kick()
        await task

    run(test, tmp_path, linger_s=0.01)


def test_it_lingers_no_longer_than_it_should(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        page.wakeups.beat()
        began = page.wakeups._began
        await page.wakeups.after_turn(1)
        assert page.wakeups._linger_until == pytest.approx(began + 100.0)

    run(test, tmp_path, linger_s=100.0)


def test_it_lingers_less_where_storing_took_long_lately(tmp_path: Path) -> None:
    """Twice ``linger_s`` is the budget of what may be left: twice what storing took at most
    within the last seconds has to fit into that as well."""

    async def lingered(page: Page) -> float:
        page.wakeups.beat()
        await page.wakeups.after_turn(1)
        return page.wakeups._linger_until - page.wakeups._began

    async def test(page: Page) -> None:
        wakeups = page.wakeups
        assert await lingered(page) == pytest.approx(100.0)
        now = time.monotonic()
        wakeups.stored(now - 75.0, now)
        for _ in range(3):  # which nothing quick makes forgotten
            wakeups.stored(now - 1.0, now)
        assert await lingered(page) == pytest.approx(50.0, abs=5.0)
        wakeups._slowest_at -= 5.0  # after a while
        assert await lingered(page) == pytest.approx(100.0)
        wakeups.stored(now - 1e6, now)
        assert await lingered(page) == pytest.approx(20.0)  # but not for less than a fifth
        wakeups._slowest_at -= 10.0  # however long it took
        assert await lingered(page) == pytest.approx(100.0)

    run(test, tmp_path, linger_s=100.0)


def test_agents_read_for_how_long(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        assert page.word(ServiceWord.LINGER_NS) == 25_000_000

    run(test, tmp_path, linger_s=0.025)


@given(
    schedule=st.lists(st.integers(0, 3), max_size=60),
    haste=st.lists(st.booleans(), min_size=80, max_size=80),
    linger_s=st.sampled_from([0.0, FOR_EVER]),
)
def test_no_record_is_left_lying(schedule: list[int], haste: list[bool], linger_s: float) -> None:
    """Agents act at any moment, in two steps: append, then look whether a message is due, which
    while it lingers is so for some records only. When they are done and it sleeps, everything has
    been taken, but for those records while it lingers; and these once that is over."""

    async def test(page: Page) -> None:
        moments, hasty = iter(schedule), iter(haste)
        appended = taken = undecided = messages = 0
        #: The last record of which somebody said that it is there.
        told = 0

        def look() -> None:
            nonlocal undecided, messages, told
            undecided = 0
            if page.waiting() or (page.lingers() and next(hasty, True)):
                messages += 1
            if not page.lingers() or messages:
                told = appended

        def deliver() -> None:
            nonlocal messages
            while messages:
                messages -= 1
                page.wakeups.appended()

        def agents() -> None:
            nonlocal appended, undecided
            for _ in range(next(moments, 0)):
                if undecided:
                    look()
                else:
                    appended += 1
                    undecided = 1

        for _ in range(len(schedule) + 3):
            page.wakeups.beat()
            agents()
            found, taken = appended - taken, appended
            agents()
            task = await asleep(page.wakeups, found)
            agents()
            deliver()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not task.done():
                if undecided:
                    look()
                    deliver()
                    await asyncio.sleep(0)
                assert task.done() or taken == appended or (page.lingers() and taken >= told)
                if page.lingers():
                    page.wakeups._linger_over()
                page.wakeups.kick()
            await task

    with tempfile.TemporaryDirectory() as folder:
        run(test, Path(folder), linger_s=linger_s)


def test_a_page_that_cannot_be_mapped(tmp_path: Path) -> None:
    directory = state_directory(tmp_path)
    Path(directory.service_state).unlink()
    with pytest.raises(FileNotFoundError):
        Wakeups(directory, FOR_EVER)
