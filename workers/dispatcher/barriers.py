"""Barriers: wait until what was accepted before now is terminal, so that a read sees it."""

from __future__ import annotations

import asyncio
import time

from livingai.failpoint import failpoint
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.ports import BarrierPort


class Barriers:
    """Waits of readers; checked after every turn and every batch."""

    def __init__(self, intake: Intake, port: BarrierPort) -> None:
        self._intake = intake
        self._port = port
        self._waiting: list[tuple[int, int | None, asyncio.Future[None]]] = []

    async def passed(self, key: int | None) -> None:
        """Return when every record accepted before the call is terminal: those of the execution
        with hash ``key``, or all of them (None).

        Raises:
            JournalError: a journal cannot be read; it may hold such records.
            StoreMismatchError, RecordsLeftError: nothing is stored before a person has settled it.
        """
        since = time.monotonic_ns()
        self._intake.unreadable.try_now()
        self._intake.refresh()
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((since, key, future))
        self._port.kick()
        if key is None:
            failpoint("dispatcher.before_drain")
        await future

    def check(self) -> None:
        """Let all waits go on that may."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            since, key, future = entry
            if future.done():
                continue
            error = self._intake.unreadable.error(since) or self._port.misplaced(since)
            if error is not None:
                future.set_exception(error)
            elif self._clear(since, key):
                future.set_result(None)
            else:
                self._waiting.append(entry)

    def _clear(self, since: int, key: int | None) -> bool:
        if self._intake.horizon_ns < since:
            return False
        if key is not None:
            return not self._port.has_older(key, since)
        return all(
            not feed.inflight or (feed.same_boot and feed.inflight[0].header.mono_ns > since)
            for feed in self._intake.feeds.values()
        )
