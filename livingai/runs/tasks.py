"""Tasks that a program starts: each gets a scope of its own, numbered as it is created.

Which of several tasks makes its first call first depends on chance; which was created first does
not. Only the event loop's task factory sees that order. So while a run is entered, its loop has a
task factory of livingai's, which calls the loop's former one. It does not change tasks outside of
runs.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, cast
from weakref import WeakKeyDictionary

from livingai.runs.scopes import current_scope, enter


class _Factory:
    """A task factory that calls the loop's former one, or makes the task itself."""

    def __init__(self, former: Any) -> None:
        self.former = former
        #: Runs that need it.
        self.users = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> Any:
        scope = current_scope()
        # A context that the caller shares among tasks is left as it is.
        if scope is None or scope.run.closed or scope.closed or options.get("context") is not None:
            return self._make(loop, coro, options)
        context = contextvars.copy_context()
        context.run(enter, scope.task())
        return context.run(self._make, loop, coro, options)

    def _make(self, loop: asyncio.AbstractEventLoop, coro: Any, options: dict[str, Any]) -> Any:
        if self.former is not None:
            return self.former(loop, coro, **options)
        return asyncio.Task(coro, loop=loop, **options)


_factories: WeakKeyDictionary[asyncio.AbstractEventLoop, _Factory] = WeakKeyDictionary()


def number_tasks() -> asyncio.AbstractEventLoop:
    """Number tasks of the running loop from now on; pass what this returns to
    :func:`stop_numbering`."""
    loop = asyncio.get_running_loop()
    factory = _factories.get(loop)
    if factory is None:
        factory = _factories[loop] = _Factory(loop.get_task_factory())
        loop.set_task_factory(cast(Any, factory))
    factory.users += 1
    return loop


def stop_numbering(loop: asyncio.AbstractEventLoop) -> None:
    """Undo one :func:`number_tasks`."""
    factory = _factories[loop]
    factory.users -= 1
    # The program may have installed a factory around ours: then ours stays, and changes nothing.
    if factory.users == 0 and cast(Any, loop.get_task_factory()) is factory:
        loop.set_task_factory(factory.former)
        del _factories[loop]
