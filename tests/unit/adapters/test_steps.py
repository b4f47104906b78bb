"""Logic that is written once takes its steps in an event loop, or without one."""

from __future__ import annotations

import asyncio

import pytest

from livingai.adapters.steps import Step, Steps, take, take_sync


class Target:
    """Something with a method and its twin."""

    def __init__(self) -> None:
        self.called: list[str] = []

    async def halve(self, number: int, *, by: int = 2) -> int:
        """In an event loop."""
        await asyncio.sleep(0)
        self.called.append("halve")
        return self._halved(number, by)

    def halve_sync(self, number: int, *, by: int = 2) -> int:
        """Without one."""
        self.called.append("halve_sync")
        return self._halved(number, by)

    @staticmethod
    def _halved(number: int, by: int) -> int:
        if number % by:
            raise ValueError(f"{number} is odd")
        return number // by


def twice(target: Target, number: int) -> Steps[int]:
    """Two steps; an odd number in between counts as itself."""
    half: int = yield Step(target, "halve", number)
    try:
        quarter: int = yield Step(target, "halve", half, by=2)
    except ValueError:
        quarter = half
    return quarter


def none_at_all() -> Steps[str]:
    """No step."""
    yield from ()
    return "at once"


@pytest.mark.parametrize(("number", "gives"), [(8, 2), (6, 3)])
async def test_steps(number: int, gives: int) -> None:
    target = Target()
    assert await take(twice(target, number)) == gives
    assert target.called == ["halve", "halve"]
    target.called.clear()
    assert take_sync(twice(target, number)) == gives
    assert target.called == ["halve_sync", "halve_sync"]


async def test_an_error_that_the_logic_does_not_handle_comes_out() -> None:
    target = Target()
    with pytest.raises(ValueError, match="7 is odd"):
        await take(twice(target, 7))
    with pytest.raises(ValueError, match="7 is odd"):
        take_sync(twice(target, 7))
    assert target.called == ["halve", "halve_sync"], "it went on behind the error"


async def test_no_step_at_all() -> None:
    assert await take(none_at_all()) == take_sync(none_at_all()) == "at once"


async def test_a_cancelled_wait_ends_the_logic() -> None:
    ended = []

    class Endless:
        """Something that never comes."""

        async def wait(self) -> None:
            """For ever."""
            await asyncio.Event().wait()

    def logic() -> Steps[None]:
        try:
            yield Step(Endless(), "wait")
        finally:
            ended.append("ended")

    task = asyncio.create_task(take(logic()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]
