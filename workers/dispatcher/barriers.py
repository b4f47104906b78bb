"""Barriers: wait until what was accepted before now is terminal, so that a read sees it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livingai.workers.dispatcher.dispatcher import Dispatcher


class Barriers:
    """Waits of readers; checked after every turn and every batch."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._waiting: list[tuple[int, int | None, asyncio.Future[None]]] = []

    async def passed(self, key: int | None) -> None:
        """Return when every record accepted before the call is terminal: those of the execution
        with hash ``key``, or all of them (None).

        Raises:
            JournalError: a journal cannot be read; it may hold such records.
            StoreMismatchError, RecordsLeftError: nothing is stored before a person has settled it.
        """
        since = time.monotonic_ns()
        self._dispatcher.intake.unreadable.try_now()
        self._dispatcher.intake.refresh()
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((since, key, future))
        self._dispatcher.kick()
        await future

    def check(self) -> None:
        """Let pass whoever may."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            since, key, future = entry
            if future.done():
                continue
            error = self._dispatcher.intake.unreadable.error(since) or self._dispatcher.misplaced
            if error is not None:
                future.set_exception(error)
            elif self._clear(since, key):
                future.set_result(None)
            else:
                self._waiting.append(entry)

    def _clear(self, since: int, key: int | None) -> bool:
        dispatcher = self._dispatcher
        if dispatcher.intake.horizon_ns < since:
            return False
        if key is not None:
            lane = dispatcher.writers[key % len(dispatcher.writers)]
            return not lane.lanes.has_older(key, since)
        return all(
            not feed.inflight or (feed.same_boot and feed.inflight[0].header.mono_ns > since)
            for feed in dispatcher.intake.feeds.values()
        )
