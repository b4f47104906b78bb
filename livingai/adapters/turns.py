"""One at a time, by name, whatever event loop or thread a coroutine runs in.

An ``asyncio.Lock`` belongs to one event loop, and an adapter's object may be used from several: a
framework's synchronous entry points start a loop of their own, in a thread of their own.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager

_Waiters = collections.deque["Future[None]"]


class Turns:
    """Locks by name, first come first served; a name costs memory only while it is used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By name, while somebody has the turn: who waits for it.
        self._waiting: dict[str, _Waiters] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """``async with turns.of(name):`` nobody else is in the block of this name."""
        with self._lock:
            waiters = self._waiting.get(name)
            mine: Future[None] | None = None
            if waiters is None:
                self._waiting[name] = collections.deque()
            else:
                mine = Future()
                waiters.append(mine)
        if mine is not None:
            try:
                await asyncio.wrap_future(mine)
            except BaseException:
                if not mine.cancel():  # the turn had been given to it already
                    self._next(name)
                raise
        try:
            yield
        finally:
            self._next(name)

    def _next(self, name: str) -> None:
        """Give the turn to whoever has waited longest, and has not given up."""
        while True:
            with self._lock:
                waiters = self._waiting[name]
                if not waiters:
                    del self._waiting[name]
                    return
                following = waiters.popleft()
            if following.set_running_or_notify_cancel():
                following.set_result(None)
                return
