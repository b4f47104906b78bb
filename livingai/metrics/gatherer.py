"""Gathers figures for the pages: each kind in a thread of its own, and not more often than needed.

Rules:

1. However many ask, files are looked at and the service is asked at most once in ``_FRESH_S``.
2. What is said on a page names no path and repeats no error: anybody may read it.
3. Who asks waits for at most ``_PATIENCE_S``. What takes longer (a disk that hangs) goes on beside
   it, once, and nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, NamedTuple, TypeVar

from livingai.errors import LivingAIError
from livingai.inspection.directories import DirectoryView
from livingai.inspection.doubts import count_doubts
from livingai.inspection.figures import DirectoryFigures, look_at
from livingai.metrics.exposition import Figures, ServiceFigures
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import STATUS

Value = TypeVar("Value")
#: Seconds for which figures are good.
_FRESH_S: Final = 1.0
_DOUBTS_S: Final = 60.0
_PATIENCE_S: Final = 8.0
#: Seconds that the service has for an answer, and after which one that does not is not alive.
_ANSWER_S: Final = 2.0
#: For so long (s) a service that has not answered yet may be starting; and how often it is asked.
_STARTING_S: Final = 2.0
_LOOK_S: Final = 0.05
_DEAD_S: Final = 30.0
#: /readyz: a disk with less space than this is full, and a journal with a larger share in use.
_ROOM_BYTES: Final = 64 << 20
_FULL_SHARE: Final = 0.95


class Fresh(Generic[Value]):
    """A value that is computed in a thread of its own, shared by all who ask for it."""

    def __init__(self, compute: Callable[[], Value], fresh_s: float) -> None:
        self._compute = compute
        self._fresh_s = fresh_s
        self._thread = ThreadPoolExecutor(1)
        self._under_way: asyncio.Future[Value] | None = None
        self._value: tuple[float, Value] | None = None

    async def get(self) -> Value:
        """The value, at most ``fresh_s`` old.

        Raises:
            TimeoutError: it takes too long.
            Exception: what computing it has raised.
        """
        if self._value is not None and time.monotonic() - self._value[0] < self._fresh_s:
            return self._value[1]
        if self._under_way is None:
            loop = asyncio.get_running_loop()
            self._under_way = loop.run_in_executor(self._thread, self._compute)
            self._under_way.add_done_callback(self._done)
        return await asyncio.wait_for(asyncio.shield(self._under_way), _PATIENCE_S)

    async def forget(self) -> None:
        """What is asked for from now on is computed from now on."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way], timeout=_ANSWER_S)
        self._value = None

    def _done(self, future: asyncio.Future[Value]) -> None:
        self._under_way = None
        if not future.cancelled() and future.exception() is None:
            self._value = time.monotonic(), future.result()


class Check(NamedTuple):
    """One line of /livez or /readyz."""

    name: str
    #: Why it is not well; "" if it is.
    trouble: str


class Gatherer:
    """All figures of one state directory."""

    def __init__(self, view: DirectoryView, journal_bytes: int) -> None:
        """``journal_bytes``: what a journal may hold; 0: that is not known."""
        self._view = view
        self._journal_bytes = journal_bytes
        self._store = view.store_url.partition(":")[0]
        self._directory: Fresh[DirectoryFigures] = Fresh(lambda: look_at(view.directory), _FRESH_S)
        self._service: Fresh[ServiceFigures | None] = Fresh(self._ask, _FRESH_S)
        self._doubts: Fresh[int] = Fresh(lambda: count_doubts(view), _DOUBTS_S)
        self._doubts_found: int | None = None
        #: When the service answered last (CLOCK_MONOTONIC); at first it may be starting.
        self._answered_at = time.monotonic()
        self._has_answered = False

    def _ask(self) -> ServiceFigures | None:
        status: ServiceStatus | None = None
        while status is None:
            try:
                status = self._view.ask(STATUS, timeout_s=_ANSWER_S)
            except LivingAIError:
                if self._has_answered or time.monotonic() > self._answered_at + _STARTING_S:
                    return None
                time.sleep(_LOOK_S)  # in a thread; nothing announces that it listens
        self._has_answered = True
        self._answered_at = time.monotonic()
        return ServiceFigures(not status.store_trouble, status.flow.oldest_s, status.agents)

    async def figures(self) -> Figures:
        """All figures, now.

        Raises:
            OSError, TimeoutError: the directory cannot be looked at now.
        """
        service, directory = await asyncio.gather(self._service.get(), self._directory.get())
        return Figures(self._store, directory, service, self._doubts_found)

    async def last_figures(self) -> Figures:
        """All figures, of this very moment. Raises as :meth:`figures`."""
        await self._service.forget()
        await self._directory.forget()
        return await self.figures()

    async def watch_doubts(self) -> None:
        """Count tools in doubt again and again. What cannot be found out stays as it was."""
        delay_s = _ANSWER_S
        while True:
            try:
                self._doubts_found = await self._doubts.get()
            except (LivingAIError, OSError):  # it is starting, or the store takes nothing
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _DOUBTS_S)
            else:
                delay_s = _ANSWER_S
                await asyncio.sleep(_DOUBTS_S)

    async def alive(self) -> list[Check]:
        """Whether the service turns: one that has not answered for long has to be ended."""
        await self._service.get()
        silent_s = time.monotonic() - self._answered_at
        trouble = "" if silent_s < _DEAD_S else f"no answer for {silent_s:.0f} s"
        return [Check("service", trouble)]

    async def ready(self) -> list[Check]:
        """Whether a save made now would be stored: the store takes writes, and there is room."""
        figures = await self.figures()
        store = "unknown, the service does not answer"
        if figures.service is not None:
            store = "" if figures.service.store_up else "takes no writes (livingai status says why)"
        found = figures.directory
        room = ""
        if found.free_bytes < _ROOM_BYTES:
            room = f"{found.free_bytes} bytes are free on the disk of the state directory"
        elif 0 < self._journal_bytes * _FULL_SHARE < found.fullest_bytes:
            room = f"{found.fullest_bytes} of {self._journal_bytes} bytes of a journal wait"
        return [Check("store", store), Check("room", room)]
