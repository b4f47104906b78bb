"""What surrounds a save: the bare write it is compared with, and the event loop it shares."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

#: As the journal: files of 16 MiB, allocated beforehand, used again after 256 MiB.
_SEGMENT_BYTES: Final = 16 << 20
_SEGMENTS: Final = 16
_TICK_S: Final = 0.001


class BareWrites:
    """``os.pwritev`` into preallocated files that are used in turn, and nothing else.

    The first round through the files is slower: the page cache takes new memory for them. So
    ``every`` (each how many saves one is written here) makes the round shorter by as much, and
    the share of writes in it is the journal's.
    """

    def __init__(self, directory: str, every: int) -> None:
        self._directory = directory
        self._segments = max(2, _SEGMENTS // every)
        self._files: list[int] = []
        self._number = -1
        self._used = _SEGMENT_BYTES

    def write(self, data: bytes) -> int:
        """Write ``data``; the nanoseconds that the call itself took."""
        if self._used + len(data) > _SEGMENT_BYTES:
            self._next()
        fd = self._files[self._number]
        began = time.perf_counter_ns()
        os.pwritev(fd, [data], self._used)
        took = time.perf_counter_ns() - began
        self._used += len(data)
        return took

    def _next(self) -> None:
        self._number = (self._number + 1) % self._segments
        self._used = 0
        if self._number == len(self._files):
            path = os.path.join(self._directory, f"bare-{os.getpid()}-{self._number}")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(fd, 0, _SEGMENT_BYTES)
            os.unlink(path)
            self._files.append(fd)

    def close(self) -> None:
        """Close the files (they have no names any more)."""
        for fd in self._files:
            os.close(fd)


class LoopLag:
    """How late a timer of 1 ms fires in an event loop. The selector rounds timers up to whole
    milliseconds, so an idle loop has some lag, too; that is measured first and reported as well."""

    def __init__(self) -> None:
        self.lags_ns: list[int] = []
        self._task: asyncio.Task[None] | None = None
        self._began_ns = 0

    async def _run(self) -> None:
        while True:
            self._began_ns = time.perf_counter_ns()
            await asyncio.sleep(_TICK_S)
            self._note()

    def _note(self) -> None:
        self.lags_ns.append(time.perf_counter_ns() - self._began_ns - int(_TICK_S * 1e9))

    async def idle(self, seconds: float) -> list[int]:
        """The lags of a loop that does nothing else for a while."""
        self.start()
        await asyncio.sleep(seconds)
        self.stop()
        lags, self.lags_ns = self.lags_ns, []
        return lags

    def start(self) -> None:
        """Begin to measure."""
        self._began_ns = time.perf_counter_ns()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Stop; :attr:`lags_ns` keeps what was measured, a timer that is overdue included."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            if time.perf_counter_ns() - self._began_ns > _TICK_S * 1e9:
                self._note()
