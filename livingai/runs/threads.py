"""Threads for the plain functions of asynchronous programs, which would block the event loop.

A thread that has done its work waits :data:`IDLE_S` seconds for more, because reusing a thread is
faster than starting one. There are at most :data:`MOST` threads at a time; further work is queued.
Two kinds of work do not wait, and do not count: what is started from one of these threads (it may
be what that thread waits for), and calls that have a timeout (after it, a function that hangs keeps
its thread).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NamedTuple

from livingai.promise import Bell, Deferred

#: Threads at a time.
MOST: Final = 64
#: Seconds that a thread without work stays.
IDLE_S: Final = 2.0


class Ended(NamedTuple):
    """How a function ended: with a value, or with an error (of any kind, StopIteration too)."""

    value: Any
    error: BaseException | None


class _Threads:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        #: The bells of threads that wait for work, the one that has waited for the shortest last.
        self._idle: list[Bell] = []
        self._waiting: deque[Callable[[], None]] = deque()

    def do(self, body: Callable[[], None]) -> None:
        """Have a thread call ``body``, soon."""
        with self._lock:
            self._waiting.append(body)
            if self._idle:
                self._idle.pop().ring()
                return
            if self._count >= MOST:
                return
            self._count += 1
            try:
                _start(self._work)
            except RuntimeError:
                self._count -= 1
                self._waiting.remove(body)
                raise

    def _work(self) -> None:
        while (body := self._next()) is not None:
            body()
            del body  # and what it holds, while this thread waits

    def _next(self) -> Callable[[], None] | None:
        bell = Bell()
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(bell)
        bell.wait(IDLE_S)
        with self._lock:
            if bell in self._idle:
                self._idle.remove(bell)
            if self._waiting:
                return self._waiting.popleft()
            self._count -= 1
            return None


_threads = _Threads()
_mine = threading.local()


def _after_fork() -> None:
    global _threads  # noqa: PLW0603 - a child has none of its parent's threads, and no use of its lock
    _threads = _Threads()


os.register_at_fork(after_in_child=_after_fork)


def call_in_thread(
    context: Context, function: Callable[[], Any], *, counted: bool = True
) -> Deferred[Ended]:
    """Call ``function`` in ``context`` in another thread; how it ended. It can be cancelled until
    a thread has begun to call the function.

    Not ``counted``: at once, in a thread of its own.

    Raises:
        RuntimeError: the system has no more threads. Nothing was called.
    """
    deferred: Deferred[Ended] = Deferred()

    def body() -> None:
        if not deferred.begin():
            return
        try:
            ended = Ended(context.run(function), None)
        except BaseException as error:
            ended = Ended(None, error)
        deferred.set(ended)

    if not counted or getattr(_mine, "working", False):
        _start(body)
        return deferred
    _threads.do(body)
    return deferred


def _start(body: Callable[[], None]) -> None:
    # A daemon thread, so that a call that hangs does not keep the process from ending.
    threading.Thread(target=_working, args=(body,), name="recorded call", daemon=True).start()


def _working(body: Callable[[], None]) -> None:
    _mine.working = True
    body()
