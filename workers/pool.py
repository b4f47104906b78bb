"""The compressor pool: a ProcessPoolExecutor that survives the death of its processes.

One killed process breaks the whole executor. Then a new one is made and what was under way is
submitted again, record by record; a record that was under way in too many broken pools is not
compressed but stored raw.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Protocol

from livingai.workers.compressor import Encoded, Task, encode_tasks, start_compressor, warm_up

_log = logging.getLogger("livingai.service")
#: A task holds at most this many records and raw bytes: large enough to pay for its hand-over,
#: small enough to share the work.
_TASK_RECORDS = 16
_TASK_BYTES = 512 * 1024
#: Broken pools that a record may have been part of before it is stored raw.
_MAX_BREAKS = 3
#: Calls of :meth:`CompressorPool.check` without an answer after which the pool is made anew (it is
#: called five times a second), and how much of a large state may take one call more.
_SILENT_CHECKS = 50
_BYTES_PER_CHECK = 4 << 20


class Job(Protocol):
    """What the pool needs to know of a record."""

    breaks: int

    def task(self) -> Task:
        """The record's place."""

    def raw_bytes(self) -> int:
        """The size of its state."""


class CompressorPool:
    """Runs in the dispatcher's event loop. ``done(job, encoded)`` is called there; ``encoded`` is
    None where the record should be stored raw."""

    def __init__(
        self, processes: int, codec: str, done: Callable[[Job, Encoded | None], None]
    ) -> None:
        self._processes = processes
        self._codec = codec
        self._done = done
        self._queue: collections.deque[Job] = collections.deque()
        self._running: dict[int, list[Job]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._executor = self._make()
        self._closed = False
        self._dead_seen = False
        #: Calls of :meth:`check` since a task has ended, while one is under way.
        self._silent_checks = 0

    def _make(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=start_compressor,
            initargs=(os.getpid(),),
        )

    async def warm(self) -> None:
        """Start all processes and wait until each has answered or the pool broke."""
        executor = self._executor
        try:
            futures = [executor.submit(warm_up) for _ in range(self._processes)]
            await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        except BrokenProcessPool:
            if executor is self._executor:  # else it is a new one already
                self._rebuild()

    def pids(self) -> list[int]:
        """Process ids of the pool; empty before its first task."""
        return list(getattr(self._executor, "_processes", None) or ())

    def check(self) -> None:
        """Called now and then: make the pool anew if one of its processes has been dead for two
        calls and the executor has not noticed, or nobody has asked it; or if no task has ended for
        many calls. One stopped process is enough for that: the one that waits for the next task
        holds the lock on the executor's queue, and the others wait for it."""
        sentinels = [process.sentinel for process in _processes(self._executor)]
        dead = bool(sentinels and multiprocessing.connection.wait(sentinels, timeout=0))
        self._silent_checks = self._silent_checks + 1 if self._running else 0
        largest = max(
            (job.raw_bytes() for jobs in self._running.values() for job in jobs), default=0
        )
        if dead and self._dead_seen:
            self._rebuild()
        elif self._silent_checks > _SILENT_CHECKS + largest // _BYTES_PER_CHECK:
            self._rebuild("no compressor has answered for long")
        else:
            self._dead_seen = dead

    def add(self, job: Job) -> None:
        """Queue a record; call :meth:`flush` when all of a turn are queued."""
        self._queue.append(job)

    def flush(self) -> None:
        """Hand queued records to the pool, in tasks, as long as its processes have less than one
        task each in reserve: what waits here can still be grouped."""
        while self._queue and len(self._running) < 2 * self._processes and not self._closed:
            jobs: list[Job] = []
            size = 0
            while self._queue and len(jobs) < _TASK_RECORDS and size < _TASK_BYTES:
                if jobs and self._queue[0].breaks:
                    break
                job = self._queue.popleft()
                jobs.append(job)
                size += job.raw_bytes()
                if job.breaks:
                    break
            self._submit(jobs)

    def _submit(self, jobs: list[Job]) -> None:
        self._number += 1
        number = self._number
        self._running[number] = jobs
        try:
            future = self._executor.submit(encode_tasks, [job.task() for job in jobs], self._codec)
        except BrokenProcessPool:
            self._rebuild()
            return
        future.add_done_callback(lambda f: self._notify(number, f))

    def _notify(self, number: int, future: Future[list[Encoded]]) -> None:
        """Called in a thread of the executor."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._finished, number, future)

    def _finished(self, number: int, future: Future[list[Encoded]]) -> None:
        if number not in self._running or self._closed:
            return  # its pool broke and it was submitted again
        self._silent_checks = 0
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._rebuild()
        elif error is not None:
            _log.error("compression failed, storing raw: %r", error)
            for job in self._running.pop(number):
                self._done(job, None)
        else:
            for job, encoded in zip(self._running.pop(number), future.result(), strict=True):
                self._done(job, encoded)
        self.flush()

    def _rebuild(self, why: str = "a compressor died") -> None:
        """Make a new pool and submit again what was under way."""
        if self._closed:
            return
        _log.warning("%s; the pool is made anew", why)
        old, self._executor = self._executor, self._make()
        self._dead_seen = False
        self._silent_checks = 0
        _end(old)
        lost = [job for jobs in self._running.values() for job in jobs]
        self._running.clear()
        for job in reversed(lost):
            job.breaks += 1
            if job.breaks >= _MAX_BREAKS:
                self._done(job, None)
            else:
                self._queue.appendleft(job)
        self._loop.call_soon(self.flush)

    def close(self) -> None:
        """End the processes, without waiting for what they do."""
        self._closed = True
        _end(self._executor)


def _processes(executor: ProcessPoolExecutor) -> list[BaseProcess]:
    """Its processes; the executor offers no public way to them."""
    return list((getattr(executor, "_processes", None) or {}).values())


def _end(executor: ProcessPoolExecutor) -> None:
    """End an executor, whatever its thread is doing.

    A process that dies while it writes its answer leaves the executor's thread reading the rest
    for ever, because this process holds the other end of that pipe, too: so close it.
    """
    processes = _processes(executor)
    results = getattr(executor, "_result_queue", None)  # shutdown() forgets both
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    if results is not None:
        results._writer.close()
