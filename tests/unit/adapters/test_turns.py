"""Turns: one at a time, by name, in any event loop."""

from __future__ import annotations

import asyncio
import threading

from livingai.adapters.turns import Turns
from tests.support.patience import patience


async def hold(turns: Turns, order: list[str], name: str) -> None:
    async with turns.of("x"):
        order.append(name)
        await asyncio.sleep(0)
        order.append(name)


async def test_who_comes_first_is_first() -> None:
    turns, order = Turns(), list[str]()
    await asyncio.gather(*(hold(turns, order, name) for name in "abcd"))
    assert order == list("aabbccdd")
    assert turns._waiting == {}, "a name that nobody uses costs nothing"


async def test_names_do_not_wait_for_each_other() -> None:
    turns = Turns()
    async with turns.of("x"), turns.of("y"):
        assert set(turns._waiting) == {"x", "y"}


async def test_who_gives_up_is_passed_over() -> None:
    turns, order = Turns(), list[str]()
    async with turns.of("x"):
        tasks = [asyncio.ensure_future(hold(turns, order, name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(patience(10)):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert order == list("bbcc")


async def test_who_gives_up_as_its_turn_comes_passes_it_on() -> None:
    turns, order = Turns(), list[str]()
    async with turns.of("x"):
        tasks = [asyncio.ensure_future(hold(turns, order, name)) for name in "ab"]
        await asyncio.sleep(0)
    tasks[0].cancel()  # it has been given the turn, and does not know yet
    async with asyncio.timeout(patience(10)):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert order == list("bb")
    assert turns._waiting == {}


def test_event_loops_of_several_threads_take_turns() -> None:
    turns, order = Turns(), list[str]()

    def work(name: str) -> None:
        async def often() -> None:
            for _ in range(200):
                await hold(turns, order, name)

        asyncio.run(often())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2]
    assert len(order) == 1200
