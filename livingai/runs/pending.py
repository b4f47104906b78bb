"""Recorded calls of an asynchronous run that were made and are not done.

A call gets its place in the program when it is made, and does its work when it is awaited. Python
reports a coroutine that was never awaited late, and by the name of an inner function. So the run
keeps a list of its calls, and raises NotAwaitedError at its end if one is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Coroutine, Generator, Iterable
from typing import Any, TypeVar

from livingai.errors import NotAwaitedError

T = TypeVar("T")
_MOST_NAMED = 3


class PendingCalls:
    """The calls of one run that were made and are not done."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._numbers = itertools.count()
        #: Made, not begun.
        self._waiting: dict[int, str] = {}
        self._under_way: dict[int, str] = {}

    def add(self, name: str) -> int:
        """A call was made; its number here."""
        number = next(self._numbers)
        self._waiting[number] = name
        return number

    def begun(self, number: int) -> None:
        """A call is awaited."""
        self._under_way[number] = self._waiting.pop(number)

    def done(self, number: int) -> None:
        """A call has ended, or was closed without being awaited."""
        self._waiting.pop(number, None)
        self._under_way.pop(number, None)

    def error(self) -> NotAwaitedError | None:
        """What to raise at the run's end; None if all calls were awaited and have ended."""
        if self._waiting:
            names = list(self._waiting.values())
            what = "called but never awaited, so nothing was done: write"
        elif self._under_way:
            names = list(self._under_way.values())
            what = "still under way at the end of the run: await it before, for example with"
        else:
            return None
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        were = "was" if len(names) == 1 else "were"
        return NotAwaitedError(
            f"run {self._run_id!r}: {', '.join(names[:_MOST_NAMED])}{more} {were} {what} "
            f"`await {names[0]}`"
        )


def check_awaited(name: str, values: Iterable[Any]) -> None:
    """Raise NotAwaitedError if one of the arguments of the call ``name`` is a call that was not
    awaited: the outcome of such a call would be recorded and served ever after."""
    for value in values:
        if isinstance(value, PendingCall) and not value.begun:
            raise NotAwaitedError(
                f"an argument of {name!r} is {value.__name__}, which was not awaited: write "
                f"`await {value.__name__}`"
            )


class PendingCall(Coroutine[Any, Any, T]):
    """What ``run.step(...)`` gives in an asynchronous run: await it."""

    def __init__(self, calls: PendingCalls, name: str, work: Coroutine[Any, Any, T]) -> None:
        self.__name__ = self.__qualname__ = name
        self._calls = calls
        self._number = calls.add(name)
        self._begun = False
        self._work = work

    def __repr__(self) -> str:
        return f"<{self.__name__}{'' if self._begun else ' (not awaited)'}>"

    @property
    def begun(self) -> bool:
        """Whether it is, or was, awaited."""
        return self._begun

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._calls.begun(self._number)

    def __await__(self) -> Generator[Any, Any, T]:
        self._begin()
        try:
            return (yield from self._work.__await__())
        finally:
            self._calls.done(self._number)

    def send(self, value: Any) -> Any:
        """Go on with the call, as a coroutine does."""
        self._begin()
        try:
            return self._work.send(value)
        except BaseException:  # StopIteration is its end
            self._calls.done(self._number)
            raise

    def throw(self, *error: Any) -> Any:
        """Raise an error inside of the call, as a coroutine does."""
        self._begin()
        try:
            return self._work.throw(*error)
        except BaseException:
            self._calls.done(self._number)
            raise

    def close(self) -> None:
        """End the call without a result, as a coroutine does."""
        self._begun = True
        self._calls.done(self._number)
        self._work.close()

    def __del__(self) -> None:
        if not self._begun:
            self._work.close()  # so that Python does not complain of an inner function
