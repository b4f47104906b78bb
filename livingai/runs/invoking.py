"""Calling a function of the program: in the event loop, in a thread, or plainly.

In a program with an event loop, asynchronous functions run in it, and plain ones in threads
(:mod:`livingai.runs.threads`): in the loop they would block every other task until they return.
A thread cannot be stopped. So when a call of a plain function is cancelled, the run waits for the
function, records its outcome, and then raises CancelledError. Only after the call's own timeout
does the run go on while the function still runs. ``thread=False``
(:class:`~livingai.runs.calls.CallOptions`) calls a plain function in the loop, for what belongs to
the loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import sqlite3
import time
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Final

from livingai.errors import RunError
from livingai.promise import Deferred
from livingai.runs.effects import Effect
from livingai.runs.ports import RunEngine
from livingai.runs.scopes import Scope, enter, leave, task_or_thread
from livingai.runs.threads import Ended, call_in_thread

_log = logging.getLogger("livingai")
#: A function that blocks the event loop for longer than so many seconds is warned of.
_HELD_UP_S: Final = 0.1
#: Names of functions that were warned of.
_warned: set[str] = set()


def asynchronous_error(function: Any) -> RunError:
    """For a program without an event loop that wants ``function`` called."""
    return RunError(f"{function!r} is asynchronous; use `async with engine.run(...)` for it")


@dataclass(slots=True)
class Invoke(Effect[Any]):
    """Call a function, in ``scope`` if there is one; the value is its result.

    After ``timeout`` seconds a coroutine is cancelled; a plain function is not waited for any
    longer and goes on in its thread. ``thread``: where there is an event loop, a plain function is
    called in a thread in any case.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    scope: Scope | None = None
    timeout: float | None = None
    thread: bool = False
    #: The program was cancelled meanwhile; see :func:`livingai.runs.effects.drive`.
    interrupted: asyncio.CancelledError | None = None

    @property
    def begins_work(self) -> bool:
        """A function is not called any more once the program was cancelled."""
        return True

    async def perform(self, engine: RunEngine) -> Any:
        in_thread = self.thread or self.timeout is not None
        began = time.monotonic()
        with self._inside():
            if in_thread and not _is_asynchronous(self.function):
                result = await self._threaded()
                if self.interrupted is not None and inspect.isawaitable(result):
                    _close(result)
                    raise self.interrupted
            else:
                result = self._plainly()
            # A lambda around an asynchronous function is recognised only by its result.
            if not inspect.isawaitable(result):
                return result
            left = None if self.timeout is None else began + self.timeout - time.monotonic()
            async with asyncio.timeout(left):
                return await result

    def perform_sync(self, engine: RunEngine) -> Any:
        with self._inside():
            if self.timeout is None:
                result = self._plainly()
            else:
                deferred = self._in_thread()
                try:
                    ended = deferred.result(self.timeout)
                except BaseException:  # its time is up, or Ctrl-C
                    deferred.cancel()  # if it was not begun, it will not be
                    raise
                result = self._outcome(ended)
        if inspect.isawaitable(result):
            _close(result)
            raise asynchronous_error(self.function)
        return result

    @contextlib.contextmanager
    def _inside(self) -> Generator[None]:
        if self.scope is None:
            yield
            return
        self.scope.belongs_to = task_or_thread()
        token = enter(self.scope)
        try:
            yield
        finally:
            leave(token)
            self.scope.close()

    def _plainly(self) -> Any:
        began = time.monotonic()
        try:
            return self.function(*self.args, **(self.kwargs or {}))
        finally:
            held_s = time.monotonic() - began
            if held_s > _HELD_UP_S and asyncio._get_running_loop() is not None:
                _warn_of(self.function, held_s)

    # -- in a thread --

    async def _threaded(self) -> Any:
        context = contextvars.copy_context()
        try:
            deferred = self._in_thread(context)
        except RuntimeError as error:  # no more threads to be had; nothing was called
            _log.warning("%r is called in the event loop: %s", self.function, error)
            return self._plainly()
        waiter = deferred.in_loop()
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while not waiter.done():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                deferred.cancel()
                waiter.cancel()
                raise TimeoutError
            try:
                await asyncio.wait({waiter}, timeout=left)
            except asyncio.CancelledError as error:
                if deferred.cancel():  # it was not begun
                    raise
                self.interrupted = self.interrupted or error
        if self.scope is not None:
            self.scope.belongs_to = task_or_thread()  # what follows of the call is here again
        _take_over(context)
        return self._outcome(deferred.result())

    def _in_thread(self, context: contextvars.Context | None = None) -> Deferred[Ended]:
        def body() -> Any:
            if self.scope is not None:
                self.scope.belongs_to = task_or_thread()
            return self.function(*self.args, **(self.kwargs or {}))

        return call_in_thread(
            context or contextvars.copy_context(), body, counted=self.timeout is None
        )

    def _outcome(self, ended: Ended) -> Any:
        error = ended.error
        if error is None:
            return ended.value
        if self.thread and _belongs_to_another_thread(error):
            raise RunError(
                f"{self.function!r} was called in a thread, as plain functions of an asynchronous "
                f"run are, and what it uses belongs to the event loop's ({error}): call it with "
                "`run.using(thread=False)`, or decorate it with thread=False"
            ) from error
        raise error


def _warn_of(function: Any, held_s: float) -> None:
    """Warn of a function that has held up the event loop, once."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if name in _warned:
        return
    _warned.add(name)
    _log.warning(
        "%r held up the event loop for %.1f s, and with it every other task: call it by "
        "`await run.step(...)` or `await run.tool(...)`, without thread=False, or make it "
        "asynchronous", function, held_s,
    )  # fmt: skip


def _is_asynchronous(function: Any) -> bool:
    if not inspect.isroutine(function) and not isinstance(function, type | functools.partial):
        function = getattr(function, "__call__", function)  # noqa: B004 - an object with a method
    return inspect.iscoroutinefunction(function)


def _close(result: Any) -> None:
    if isinstance(result, Coroutine):
        result.close()


def _take_over(context: contextvars.Context) -> None:
    """What the function has set of the program's context variables is set here, too."""
    for variable, value in context.items():
        try:
            same = variable.get() is value
        except LookupError:
            same = False
        if not same:
            variable.set(value)


def _belongs_to_another_thread(error: BaseException) -> bool:
    """Whether a function failed because it was not called in the event loop's thread: it needs the
    loop itself, or uses an SQLite connection that was made there."""
    text = str(error)
    if isinstance(error, sqlite3.ProgrammingError):
        return "same thread" in text
    return type(error) is RuntimeError and (
        text == "no running event loop" or text.startswith("There is no current event loop")
    )
