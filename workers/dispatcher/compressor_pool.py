"""The compressor pool: processes that encode states, and what is done while there are none.

Rules:

1. Before the processes are up, and where there can be none (no usable /dev/shm, no room for more
   processes), a thread of the dispatcher does their work. So the first record of a new service does
   not wait for them, and no service is without compression.
2. One killed process breaks the whole executor. Then a new one is made, and what was under way is
   submitted again, record by record and with nothing else under way, so that the one to blame is
   found; a record that was under way in too many broken pools is not compressed but stored raw.
3. A record that may have killed a process is never given to the thread: it waits for processes, and
   is stored raw where there can be none. After a death of the dispatcher that is true of each.
4. Processes that do not come up are started again with a growing delay.
5. Unless somebody asks for them (:meth:`CompressorPool.warm`), they are started a moment after the
   first record for them: many services never have one, since the writers encode what is quick, and
   the record itself comes first where cores are few.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import multiprocessing.connection
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, Protocol

from livingai.workers.compressor import encode_tasks, forget_segments, warm_up
from livingai.workers.dispatcher.compressor_executors import (
    end_processes,
    make_processes,
    make_thread,
    processes_of,
)
from livingai.workers.encoding_task import EncodingResult, EncodingTask

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
#: Processes that did not come up are started again after the first delay, twice that, ...
_FIRST_DELAY_S, _LAST_DELAY_S = 0.5, 60.0
#: After so many failed starts no record waits for the next one.
_MAX_FAILED_STARTS = 3
#: Seconds that a start may take.
_START_S = 60.0
#: Seconds between the first record for processes that were not asked for and their start.
_LATER_S = 0.5


class EncodingJob(Protocol):
    """What the pool needs to know of a record."""

    breaks: int

    def task(self) -> EncodingTask:
        """The record's place."""

    def raw_bytes(self) -> int:
        """The size of its state."""


class _Running(NamedTuple):
    jobs: list[EncodingJob]
    executor: Executor


class CompressorPool:
    """Runs in the dispatcher's event loop. ``done(job, encoded)`` is called there; ``encoded`` is
    None where the record should be stored raw."""

    def __init__(self, processes: int, codec: str, done: Any, *, careful: bool = False) -> None:
        """``careful``: a record may have ended the last dispatcher, see rule 3."""
        self._count = processes
        self._codec = codec
        self._done = done
        self._careful = careful
        self._queue: collections.deque[EncodingJob] = collections.deque()
        #: Those that the thread must not see.
        self._suspects: collections.deque[EncodingJob] = collections.deque()
        self._running: dict[int, _Running] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._pool: ProcessPoolExecutor | None = None
        #: Whether all of the pool's processes have come up.
        self._up = False
        self._thread: ThreadPoolExecutor | None = None
        #: Whether it keeps segments mapped.
        self._thread_used = False
        #: The start that the first record has led to.
        self._later: asyncio.TimerHandle | None = None
        self._failed_starts = 0
        self._start_at = self._started_at = 0.0
        self._why_none = ""
        #: Set once it is known whether there are processes.
        self._known = asyncio.Event()
        self._closed = False
        self._dead_seen = False
        #: Calls of :meth:`check` since a task has ended, while one is under way.
        self._silent_checks = 0

    # -- the processes --

    async def warm(self) -> None:
        """Start all processes and wait until each has answered, or the start has failed."""
        self._start()
        await self._known.wait()

    def pids(self) -> list[int]:
        """Process ids of the pool; empty before its start."""
        return [process.pid for process in processes_of(self._pool) if process.pid is not None]

    @property
    def where(self) -> str:
        """Where states are encoded now, for ``livingai status``."""
        if self._up:
            return f"in {self._count} processes"
        if self._codec == "raw":
            return "none (codec raw)"
        if self._later is None and self._pool is None and not self._failed_starts:
            return "by the writers (compressors start when they are needed)"
        return "in a thread of the dispatcher" + (f" ({self._why_none})" if self._why_none else "")

    def _start_later(self) -> None:
        """There is work for processes (rule 5)."""
        if self._later is None and self._pool is None and not self._failed_starts:
            self._later = self._loop.call_later(_LATER_S, self._start)

    def _start(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._closed or self._pool is not None:
            return
        self._started_at = time.monotonic()
        pool = None
        try:
            pool = make_processes(self._count)
            futures = [pool.submit(warm_up) for _ in range(self._count)]
        except Exception as error:  # OSError as a rule; whatever it is, it is tried again
            if pool is not None:
                end_processes(pool)
            self._start_failed(f"compressor processes cannot be started: {error!r}")
            return
        self._pool = pool
        answers = (asyncio.wrap_future(future) for future in futures)
        gathered = asyncio.gather(*answers, return_exceptions=True)
        gathered.add_done_callback(lambda done: self._started(pool, done))

    def _started(self, pool: ProcessPoolExecutor, answers: asyncio.Future[list[Any]]) -> None:
        if pool is not self._pool or self._closed or answers.cancelled():
            return
        if any(isinstance(answer, BaseException) for answer in answers.result()):
            self._break("a compressor died at its start")
            return
        if self._why_none:
            _log.info("compressor processes are there again")
        self._up = True
        self._failed_starts = 0
        self._why_none = ""
        self._known.set()
        self.flush()

    def _start_failed(self, why: str) -> None:
        self._failed_starts += 1
        delay_s = min(_FIRST_DELAY_S * 2**self._failed_starts, _LAST_DELAY_S)
        self._start_at = time.monotonic() + delay_s
        if why != self._why_none:
            _log.warning("%s; a thread of the dispatcher does their work", why)
        self._why_none = why
        self._known.set()
        self._loop.call_soon(self.flush)

    def check(self) -> None:
        """Called now and then: start what did not start, and make the pool anew if one of its
        processes has been dead for two calls (the executor may notice that only when it is given a
        task), or if no task has ended for many calls. One stopped process is enough for that: the
        one that waits for the next task holds the lock on the executor's queue, and the others wait
        for it."""
        now = time.monotonic()
        if self._pool is None:
            if self._failed_starts and now >= self._start_at:
                self._start()
            return
        sentinels = [process.sentinel for process in processes_of(self._pool)]
        dead = bool(sentinels and multiprocessing.connection.wait(sentinels, timeout=0))
        theirs = [job for tasks in self._of(self._pool) for job in tasks]
        self._silent_checks = self._silent_checks + 1 if theirs else 0
        largest = max((job.raw_bytes() for job in theirs), default=0)
        if dead and self._dead_seen:
            self._break()
        elif self._silent_checks > _SILENT_CHECKS + largest // _BYTES_PER_CHECK:
            self._break("no compressor has answered for long")
        elif not self._up and now - self._started_at > _START_S:
            self._break("the compressors do not come up")
        else:
            self._dead_seen = dead

    def _of(self, executor: Executor) -> list[list[EncodingJob]]:
        """What an executor has under way."""
        return [running.jobs for running in self._running.values() if running.executor is executor]

    def _break(self, why: str = "a compressor died") -> None:
        """The pool is broken: make a new one, and submit again what it had under way."""
        old, self._pool = self._pool, None
        if self._closed or old is None:
            return
        was_up, self._up = self._up, False
        self._dead_seen = False
        self._silent_checks = 0
        end_processes(old)
        lost = [job for jobs in self._of(old) for job in jobs]
        self._running = {n: r for n, r in self._running.items() if r.executor is not old}
        for job in reversed(lost):
            job.breaks += 1
            if job.breaks >= _MAX_BREAKS:
                self._done(job, None)
            else:
                self._suspects.appendleft(job)
        if was_up:
            _log.warning("%s; the pool is made anew", why)
            self._start()
            self._loop.call_soon(self.flush)
            return
        self._start_failed(why)
        if self._failed_starts == 1:  # it was killed, perhaps: no reason to wait
            self._start()

    # -- the work --

    def add(self, job: EncodingJob) -> None:
        """Queue a record; call :meth:`flush` when all of a turn are queued."""
        (self._suspects if job.breaks or self._careful else self._queue).append(job)

    def flush(self) -> None:
        """Hand queued records on, in tasks, as long as processes or thread have less than one task
        each in reserve: what waits here can still be grouped."""
        if self._closed:
            return
        if self._suspects and not self._up:
            if self._failed_starts >= _MAX_FAILED_STARTS:
                while self._suspects:
                    self._done(self._suspects.popleft(), None)
            elif not self._failed_starts:
                self._start()
        if self._queue:
            self._start_later()
        while (self._queue or (self._suspects and self._up)) and not self._closed:
            executor = self._executor()
            under_way = self._of(executor)
            if len(under_way) >= (2 * self._count if self._up else 2) or self._parted(under_way):
                break
            if not self._submit(executor, self._next_jobs()):
                break

    def _executor(self) -> Executor:
        if self._up and self._pool is not None:
            return self._pool
        if self._thread is None:
            self._thread = make_thread()
        self._thread_used = True
        return self._thread

    def _blamed(self) -> bool:
        """Whether the next record was under way in a broken pool."""
        return self._up and bool(self._suspects and self._suspects[0].breaks)

    def _parted(self, under_way: list[list[EncodingJob]]) -> bool:
        """Whether the next task must wait for what is under way: there is one of rule 2 in either.
        It would share the blame, and be stored raw with it."""
        return bool(under_way) and (
            self._blamed() or any(job.breaks for jobs in under_way for job in jobs)
        )

    def _next_jobs(self) -> list[EncodingJob]:
        if self._blamed():
            return [self._suspects.popleft()]  # alone: if it is to blame, it only costs itself
        queue = self._suspects if self._up and self._suspects else self._queue
        jobs: list[EncodingJob] = []
        size = 0
        while queue and len(jobs) < _TASK_RECORDS and size < _TASK_BYTES:
            if queue[0].breaks:
                break
            job = queue.popleft()
            jobs.append(job)
            size += job.raw_bytes()
        return jobs

    def _submit(self, executor: Executor, jobs: list[EncodingJob]) -> bool:
        self._number += 1
        number = self._number
        self._running[number] = _Running(jobs, executor)
        try:
            future = executor.submit(encode_tasks, [job.task() for job in jobs], self._codec)
        except BrokenProcessPool:
            self._break()
            return False
        future.add_done_callback(lambda f: self._notify(number, f))
        return True

    def _notify(self, number: int, future: Future[list[EncodingResult]]) -> None:
        """Called in a thread of the executor."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: no waiter is left
            self._loop.call_soon_threadsafe(self._finished, number, future)

    def _finished(self, number: int, future: Future[list[EncodingResult]]) -> None:
        if number not in self._running or self._closed:
            return  # its pool broke and it was submitted again
        self._silent_checks = 0
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._break()
        elif error is not None:
            _log.error("compression failed, storing raw: %r", error)
            for job in self._running.pop(number).jobs:
                self._done(job, None)
        else:
            for job, encoded in zip(self._running.pop(number).jobs, future.result(), strict=True):
                self._done(job, encoded)
        self.flush()
        if self._thread_used and self._up and self._thread and not self._of(self._thread):
            self._thread_used = False
            self._thread.submit(forget_segments)

    def close(self) -> None:
        """End the processes and the thread, without waiting for what they do."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        if self._pool is not None:
            end_processes(self._pool)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
