"""When the dispatcher's main loop sleeps, and who wakes it.

Rules:

1. While the word WAITING of the service's page is 1, whoever appends a record sends a message.
2. An append from before the word was set sent none. So the loop sleeps only after a turn that began
   with the word set and found nothing.
3. The first message clears the word: of a burst of appends, one pays for it.
4. A turn that found several records leaves it cleared, for there will be more; behind a lone record
   it is set at once, which spares a turn.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time

from livingai.queue.directory import StateDirectory
from livingai.queue.layout import SERVICE_STATE_BYTES, ServiceWord
from livingai.queue.opening import open_binary

#: More records in a turn than this are part of a burst.
_FEW = 2


class Wakeups:
    """See the rules above. Used in the event loop of the dispatcher."""

    def __init__(self, directory: StateDirectory, longest_s: float) -> None:
        """``longest_s``: a sleep ends after this time, should a message have been lost.

        Raises:
            OSError: the page cannot be mapped.
        """
        with open_binary(directory.service_state, os.O_RDWR) as file:
            self._page = mmap.mmap(file.fileno(), SERVICE_STATE_BYTES)
        self._words = memoryview(self._page).cast("Q")
        self._words[ServiceWord.WAITING] = 0
        self._words[ServiceWord.PID] = os.getpid()
        self._longest_s = longest_s
        self._kicked = False
        self._sleep: asyncio.Future[None] | None = None

    def beat(self) -> float:
        """A turn begins: what is kicked from now on is for the next one. The time of that
        (CLOCK_MONOTONIC, s), which is also told to the agents."""
        self._kicked = False
        now = time.monotonic()
        self._words[ServiceWord.HEARTBEAT_NS] = int(now * 1e9)
        return now

    def kick(self) -> None:
        """Something may have changed: take another turn."""
        self._kicked = True
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    def appended(self) -> None:
        """An agent's message: it has appended something (rule 3)."""
        self._words[ServiceWord.WAITING] = 0
        self.kick()

    async def after_turn(self, taken: int) -> None:
        """Wait until the next turn, the last one having found so many records."""
        waiting = self._words[ServiceWord.WAITING]
        if taken > _FEW:
            self._words[ServiceWord.WAITING] = 0
            await asyncio.sleep(0)
        elif not waiting:
            self._words[ServiceWord.WAITING] = 1
        elif taken:
            await asyncio.sleep(0)
        else:
            await self._until_kicked()

    async def _until_kicked(self) -> None:
        # No task, which asyncio.wait_for makes: each lone save passes through here.
        if self._kicked:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        self._sleep = loop.create_future()
        timer = loop.call_later(self._longest_s, self.kick)
        try:
            await self._sleep
        finally:
            timer.cancel()
            self._sleep = None

    def close(self) -> None:
        """No message is needed any more."""
        self._words[ServiceWord.WAITING] = 0
