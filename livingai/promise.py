"""What livingai's threads finish, and agents' threads and event loops wait for.

Ctrl-C, or any exception out of a signal's handler, may end a wait between any two of its steps. The
classes of :mod:`threading` and :mod:`concurrent.futures` take their locks in Python code, and such
an exception may come after a lock was taken and before anybody has noted that: it stays locked, and
the thread that finishes is stopped for ever, with all that waits for it. So the only locks here are
plain ones, taken by a ``with`` statement, which no signal interrupts, or used by one waiter alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("livingai")
T = TypeVar("T")


class Bell:
    """Wakes one thread. A bell that was rung before the wait began ends it at once."""

    __slots__ = ("_quiet",)

    def __init__(self) -> None:
        self._quiet = threading.Lock()
        self._quiet.acquire()

    def ring(self) -> None:
        """End the wait, or the next one. Any thread; rung twice is rung once."""
        with contextlib.suppress(RuntimeError):
            self._quiet.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it rings, ``seconds`` at most (None: without a limit); whether it did."""
        if seconds is None:
            return self._quiet.acquire()
        return self._quiet.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))


class Promise:
    """Something that is over at some time, and those that wait for that: threads, event loops and
    callbacks."""

    __slots__ = ("_over", "_waiters")

    #: Guards the waiters of all. One lock for all: it is held for a few instructions.
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._over = False
        self._waiters: list[Any] | None = None

    def _add(self, waiter: Any) -> bool:
        """Register a waiter; False if it is over already."""
        with self._lock:
            if self._over:
                return False
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            return True

    def _remove(self, waiter: Any) -> None:
        """A waiter has given up."""
        with self._lock:
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)

    def wait(self, seconds: float | None = None) -> bool:
        """Hold this thread until it is over, ``seconds`` at most; whether it is."""
        if self._over:
            return True
        bell = Bell()
        if not self._add(bell) or bell.wait(seconds):
            return True
        self._remove(bell)
        return False

    def in_loop(self) -> asyncio.Future[None]:
        """A future of the running event loop that is done when this is over."""
        import asyncio  # noqa: PLC0415 - who has no event loop does not pay for it

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = (loop, future)
        if not self._add(waiter):
            future.set_result(None)
            return future
        future.add_done_callback(lambda _: self._remove(waiter) if future.cancelled() else None)
        return future

    def pause(self) -> Generator[Any, None, None]:
        """Wait in the event loop until it is over; for ``__await__``."""
        if not self._over:
            yield from self.in_loop()

    def _end(self) -> list[Any]:
        """It is over; whom to wake. Call with the lock held."""
        self._over = True
        waiters, self._waiters = self._waiters, None
        return waiters or []


def _fresh_lock() -> None:  # another thread of the parent may have held it while forking
    Promise._lock = threading.Lock()


os.register_at_fork(after_in_child=_fresh_lock)


def wake(waiters: Iterable[tuple[Promise, list[Any]]]) -> None:
    """Wake all that wait for promises that are over; those of one event loop together."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for promise, waiting in waiters:
        for waiter in waiting:
            if isinstance(waiter, Bell):
                waiter.ring()
            elif isinstance(waiter, tuple):
                by_loop.setdefault(waiter[0], []).append(waiter[1])
            else:
                _call(waiter, promise)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # closed: nothing waits there any more
            loop.call_soon_threadsafe(_wake, futures)


def _call(callback: Callable[[Any], object], promise: Promise) -> None:
    try:
        callback(promise)
    except Exception:  # the next ones must hear of it all the same
        _log.exception("a callback of %r failed", promise)


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Deferred(Promise, Generic[T]):
    """A value or an error that another thread gives. Until that thread begins (:meth:`begin`), and
    where it never says so, who asked may cancel it."""

    __slots__ = ("_begun", "_error", "_value")

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._value: Any = None
        self._error: BaseException | None = None

    def begin(self) -> bool:
        """It cannot be cancelled from now on; False if it was."""
        with self._lock:
            self._begun = not self._over
            return self._begun

    def cancel(self) -> bool:
        """Nobody waits any more; whether it is cancelled by now."""
        with self._lock:
            waiters = []
            if not (self._begun or self._over):
                self._error = CancelledError()
                waiters = self._end()
        wake([(self, waiters)])
        return isinstance(self._error, CancelledError)

    def set(self, value: T) -> None:
        """It has come; ignored if it was cancelled or has come before."""
        self._become(value, None)

    def fail(self, error: BaseException) -> None:
        """It will not come, and why; ignored if it was cancelled or has come before."""
        self._become(None, error)

    def add_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback(self)`` once it is over, however: from the thread that ends it, or at
        once. It must not raise."""
        if not self._add(callback):
            callback(self)

    def result(self, timeout: float | None = None) -> T:
        """Wait up to ``timeout`` seconds (None: for ever).

        Raises:
            TimeoutError: it has not come yet.
            CancelledError, or the error that it failed with.
        """
        if not self.wait(timeout):
            raise TimeoutError
        return self._known()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait as :meth:`result` does."""
        yield from self.pause()
        return self._known()

    def _known(self) -> T:
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def _become(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._over:
                return
            self._value, self._error = value, error
            waiters = self._end()
        wake([(self, waiters)])
