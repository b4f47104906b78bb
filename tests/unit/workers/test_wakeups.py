"""When the dispatcher sleeps, and that no record is left lying while it does."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livingai.queue.layout import ServiceWord
from livingai.workers.dispatcher.wakeups import Wakeups
from tests.support.journals import state_directory

FOR_EVER = 3600.0


class Page:
    """The page of a service as an agent sees it, and the dispatcher's wake-ups."""

    def __init__(self, folder: Path, longest_s: float = FOR_EVER) -> None:
        directory = state_directory(folder)
        self._path = Path(directory.service_state)
        self.wakeups = Wakeups(directory, longest_s)

    @property
    def waiting(self) -> bool:
        """What an agent reads after an append: whether it has to send a message."""
        word: int = struct.unpack_from("<Q", self._path.read_bytes(), 8 * ServiceWord.WAITING)[0]
        return word == 1


def run(test: Callable[[Page], Awaitable[None]], folder: Path, longest_s: float = FOR_EVER) -> None:
    async def with_page() -> None:
        await asyncio.wait_for(test(Page(folder, longest_s)), 30)

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
        assert page.waiting
        page.wakeups.beat()
        task = await asleep(page.wakeups)
        assert not task.done()
        page.wakeups.kick()
        await task
        assert page.waiting, "what was kicked within sent no message"

    run(test, tmp_path)


def test_a_message_ends_the_sleep_and_spares_the_others(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.wakeups.after_turn(0)
        page.wakeups.beat()
        task = await asleep(page.wakeups)
        page.wakeups.appended()
        assert not page.waiting
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
        assert page.waiting
        await page.wakeups.after_turn(100)
        assert not page.waiting

    run(test, tmp_path)


def test_a_sleep_has_an_end(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        await page.wakeups.after_turn(0)
        page.wakeups.beat()
        await page.wakeups.after_turn(0)

    run(test, tmp_path, longest_s=0.01)


@given(schedule=st.lists(st.integers(0, 3), max_size=60))
def test_no_record_is_left_lying(schedule: list[int]) -> None:
    """Agents act at any moment, in two steps: append, then look whether a message is due. When they
    are done and it sleeps, everything has been taken."""

    async def test(page: Page) -> None:
        moments = iter(schedule)
        appended = taken = undecided = messages = 0

        def agents() -> None:
            nonlocal appended, undecided, messages
            for _ in range(next(moments, 0)):
                if undecided:
                    undecided = 0
                    messages += page.waiting
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
            while messages:
                messages -= 1
                page.wakeups.appended()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not task.done():
                if undecided:
                    undecided = 0
                    if page.waiting:
                        page.wakeups.appended()
                        await asyncio.sleep(0)
                assert task.done() or taken == appended
                page.wakeups.kick()
            await task

    with tempfile.TemporaryDirectory() as folder:
        run(test, Path(folder))


def test_a_page_that_cannot_be_mapped(tmp_path: Path) -> None:
    directory = state_directory(tmp_path)
    Path(directory.service_state).unlink()
    with pytest.raises(FileNotFoundError):
        Wakeups(directory, FOR_EVER)
