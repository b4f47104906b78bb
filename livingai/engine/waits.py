"""Engine methods that wait, written once for both kinds of callers.

A method with a twin is a generator that yields each :class:`WaitFor` that it needs;
:func:`pass_time` drives it in an event loop and :func:`pass_time_sync` in a thread. An error that
ends a wait is raised at the ``yield``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

from livingai.outcome import Receipt
from livingai.promise import Deferred

T = TypeVar("T")


class WaitFor(NamedTuple):
    """Wait until ``what`` is done, at most ``seconds`` (None: without a limit), else a TimeoutError
    is raised. With ``what`` None, ``seconds`` pass."""

    what: Receipt | Deferred[Any] | None
    seconds: float | None


Waits = Generator[WaitFor, None, T]


async def pass_time(waits: Waits[T]) -> T:
    """The generator's value; each wait leaves the event loop to others."""
    error: Exception | None = None
    while True:
        try:
            wait = next(waits) if error is None else waits.throw(error)
        except StopIteration as end:
            value: T = end.value
            return value
        error = None
        try:
            if wait.what is None:
                await asyncio.sleep(wait.seconds or 0)
            else:
                async with asyncio.timeout(wait.seconds):
                    await wait.what
        except Exception as failure:
            error = failure


def pass_time_sync(waits: Waits[T]) -> T:
    """The generator's value; each wait holds the calling thread."""
    error: Exception | None = None
    while True:
        try:
            wait = next(waits) if error is None else waits.throw(error)
        except StopIteration as end:
            value: T = end.value
            return value
        error = None
        try:
            if wait.what is None:
                time.sleep(wait.seconds or 0)
            else:
                wait.what.result(wait.seconds)
        except Exception as failure:
            error = failure
