"""When the dispatcher's main loop sleeps, and who wakes it.

Rules:

1. While the word WAITING of the service's page is APPENDS, whoever appends a record sends a
   message.
2. An append from before the word was set sent none. So the loop sleeps only after a turn that began
   with the word set and found nothing.
3. The first message clears the word: of a burst of appends, one pays for it.
4. A turn that found several records leaves it cleared, for there will be more; behind a lone record
   it is set at once, which spares a turn.
5. Waking three processes costs more than storing a record. So for some time (``linger_s``) after a
   turn that found records the word is HASTE: only who waits for an outcome, or has too little
   time, sends a message, and the records of all others are taken together at the end of that time.
   Only for so long that twice ``linger_s``, the least budget of a record that may be left, is time
   enough for twice the longest that storing took within the last seconds, too; but for a fifth of
   ``linger_s`` in any case: where storing is slow because the machine is busy, waking three
   processes for each record would make it slower still.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable

from livingai.queue.directory import StateDirectory
from livingai.queue.layout import SERVICE_STATE_BYTES, ServiceWord, WakeFor
from livingai.queue.mapping import CUTS, map_file
from livingai.queue.opening import open_binary

_log = logging.getLogger("livingai.service")
#: More records in a turn than this are part of a burst.
_FEW = 2
#: The part of ``linger_s`` for which it lingers however long storing takes.
_LEAST = 0.2
#: After so many seconds the longest time that storing took counts for half.
_HALF_LIFE_S = 2.0


class Wakeups:
    """See the rules above. Used in the event loop of the dispatcher."""

    def __init__(self, directory: StateDirectory, longest_s: float, linger_s: float = 0.0) -> None:
        """``longest_s``: a sleep ends after this time, should a message have been lost.
        ``linger_s``: see rule 5; 0: it does not linger.

        Raises:
            OSError: the page cannot be mapped.
        """
        self._path = directory.service_state
        self._longest_s = longest_s
        self._linger_s = linger_s
        self._cuts = CUTS.count
        self._words = self._map()
        #: When the last turn began, and until when it lingers (CLOCK_MONOTONIC, s).
        self._began = self._linger_until = 0.0
        #: The longest that storing took lately, and when that was.
        self._slowest_s = self._slowest_at = 0.0
        self._kicked = False
        self._sleep: asyncio.Future[None] | None = None

    def _map(self) -> memoryview:
        """The page's words, with all in them that does not change. Raises OSError."""
        with open_binary(self._path, os.O_RDWR) as file:
            page = map_file(file.fileno(), SERVICE_STATE_BYTES, write=True, owner=True)
        words = memoryview(page).cast("Q")
        words[ServiceWord.WAITING] = WakeFor.NOTHING
        words[ServiceWord.PID] = os.getpid()
        words[ServiceWord.LINGER_NS] = int(self._linger_s * 1e9)
        return words

    def beat(self) -> float:
        """A turn begins: what is kicked from now on is for the next one. The time of that
        (CLOCK_MONOTONIC, s), which is also told to the agents."""
        self._kicked = False
        now = self._began = time.monotonic()
        self._words[ServiceWord.HEARTBEAT_NS] = int(now * 1e9)
        if self._cuts != CUTS.count:
            self._cuts = CUTS.count
            _log.error("%s", CUTS.take_message())
        return now

    def kick(self) -> None:
        """Something may have changed: take another turn."""
        self._kicked = True
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    def appended(self) -> None:
        """An agent's message: it has appended something (rule 3)."""
        self._words[ServiceWord.WAITING] = WakeFor.NOTHING
        self.kick()

    async def after_turn(self, taken: int) -> None:
        """Wait until the next turn, the last one having found so many records."""
        if taken:
            spare_s = 2 * self._linger_s - 2 * self._slowest_now(self._began)
            linger_s = max(_LEAST * self._linger_s, min(self._linger_s, spare_s))
            self._linger_until = self._began + linger_s
        if taken > _FEW:
            self._words[ServiceWord.WAITING] = WakeFor.NOTHING
            await asyncio.sleep(0)
            return
        left = self._linger_until - time.monotonic()
        waiting = WakeFor.HASTE if left > 0 else WakeFor.APPENDS
        if self._words[ServiceWord.WAITING] != waiting:
            self._words[ServiceWord.WAITING] = waiting
        elif taken:
            await asyncio.sleep(0)
        elif 0 < left < self._longest_s:
            await self._until_kicked(left, self._linger_over)
        else:
            await self._until_kicked(self._longest_s, self.kick)

    @property
    def began(self) -> float:
        """When the turn began (CLOCK_MONOTONIC, s)."""
        return self._began

    def stored(self, began: float, now: float) -> None:
        """A record that was taken in a turn that began then has its outcome now (CLOCK_MONOTONIC,
        s)."""
        took_s = min(now - began, self._linger_s)  # more would have no other effect, but longer
        if took_s >= self._slowest_now(now):
            self._slowest_s, self._slowest_at = took_s, now

    def _slowest_now(self, now: float) -> float:
        half_lives = (now - self._slowest_at) / _HALF_LIFE_S
        return self._slowest_s * math.pow(0.5, half_lives)

    def _linger_over(self) -> None:
        # Before the turn, which may then be followed by a sleep (rule 2).
        self._words[ServiceWord.WAITING] = WakeFor.APPENDS
        self.kick()

    async def _until_kicked(self, longest_s: float, then: Callable[[], None]) -> None:
        # No task, which asyncio.wait_for makes: each lone save passes through here.
        if self._kicked:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        self._sleep = loop.create_future()
        timer = loop.call_later(longest_s, then)
        try:
            await self._sleep
        finally:
            timer.cancel()
            self._sleep = None

    def close(self) -> None:
        """No message is needed any more."""
        self._words[ServiceWord.WAITING] = WakeFor.NOTHING
