"""What a run wants done, apart from how: the logic of a run is written once, as generators that
yield effects, and driven by an event loop or without one.

The generator is sent the effect's value, or the exception that it ended with.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, TypeVar

from livingai.cache import Cached
from livingai.engine import CheckpointEngine
from livingai.errors import RunError
from livingai.failures import raise_again
from livingai.node import ExecutionNode
from livingai.outcome import Durability
from livingai.scopes import Scope, enter, leave, strand

T = TypeVar("T")


class Effect(ABC):
    """Something to be done; see the module's text."""

    __slots__ = ()

    @abstractmethod
    async def perform(self, engine: CheckpointEngine) -> Any:
        """Do it in an event loop."""

    @abstractmethod
    def perform_sync(self, engine: CheckpointEngine) -> Any:
        """Do it without one."""


class Stopped(Exception):
    """Carries a StopIteration that a call raised: a generator cannot let one through."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


#: The logic of a run; its value is of the parameter's type.
Work = Generator[Effect, Any, T]


async def drive(engine: CheckpointEngine, work: Work[T]) -> T:
    """Do what ``work`` wants, in an event loop; its value."""
    step: Callable[[Any], Effect] = work.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except Stopped as stopped:
            raise_again(stopped.error)
        try:
            value = await effect.perform(engine)
            step = work.send
        except BaseException as error:
            value, step = error, work.throw


def drive_sync(engine: CheckpointEngine, work: Work[T]) -> T:
    """Twin of :func:`drive`."""
    step: Callable[[Any], Effect] = work.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except Stopped as stopped:
            raise_again(stopped.error)
        try:
            value = effect.perform_sync(engine)
            step = work.send
        except BaseException as error:
            value, step = error, work.throw


@dataclass(slots=True)
class Save(Effect):
    """Record a node; the value is its receipt."""

    node: ExecutionNode
    durability: Durability | None = None
    state: Any = None

    async def perform(self, engine: CheckpointEngine) -> Any:
        return await engine.save(self.node, self.state, durability=self.durability)

    def perform_sync(self, engine: CheckpointEngine) -> Any:
        return engine.save_sync(self.node, self.state, durability=self.durability)


@dataclass(slots=True)
class Claim(Effect):
    """Ask the store for the epoch of a claim; FencedError if it is not the newest."""

    execution_id: str
    token: str

    async def perform(self, engine: CheckpointEngine) -> int:
        return await engine.confirm_claim(self.execution_id, self.token)

    def perform_sync(self, engine: CheckpointEngine) -> int:
        return engine.confirm_claim_sync(self.execution_id, self.token)


@dataclass(slots=True)
class ReadHistory(Effect):
    """Read what is recorded; the value is a :class:`~livingai.history.History`."""

    execution_id: str
    known: Cached | None = None
    behind_checkpoint: bool = False

    async def perform(self, engine: CheckpointEngine) -> Any:
        return await engine.history(
            self.execution_id, behind_checkpoint=self.behind_checkpoint, known=self.known
        )

    def perform_sync(self, engine: CheckpointEngine) -> Any:
        return engine.history_sync(
            self.execution_id, behind_checkpoint=self.behind_checkpoint, known=self.known
        )


@dataclass(slots=True)
class Pause(Effect):
    """Wait between two attempts."""

    seconds: float

    async def perform(self, engine: CheckpointEngine) -> None:
        await asyncio.sleep(self.seconds)

    def perform_sync(self, engine: CheckpointEngine) -> None:
        # Nothing happens that could end the pause early: the program is in this very call.
        time.sleep(self.seconds)  # a synchronous program has asked to wait, and nothing ends that


def asynchronous_error(function: Any) -> RunError:
    """For a program without an event loop that wants ``function`` called."""
    return RunError(f"{function!r} is asynchronous; use `async with engine.run(...)` for it")


def _as_of_a_coroutine(error: StopIteration) -> RuntimeError:
    """What a coroutine makes of it. A future of an event loop would never be done with it."""
    failure = RuntimeError("coroutine raised StopIteration")
    failure.__cause__ = error
    return failure


@dataclass(slots=True)
class Invoke(Effect):
    """Call a function of the program, in ``scope`` if there is one; the value is its result.

    ``timeout`` seconds: a coroutine is cancelled then; a plain function cannot be stopped, so it
    runs in a thread of its own, which is left alone when its time is over.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    scope: Scope | None = None
    timeout: float | None = None

    async def perform(self, engine: CheckpointEngine) -> Any:
        with self._inside():
            if self.timeout is None or inspect.iscoroutinefunction(self.function):
                async with asyncio.timeout(self.timeout):
                    result = self.function(*self.args, **(self.kwargs or {}))
                    return await result if inspect.isawaitable(result) else result
            async with asyncio.timeout(self.timeout):
                result = await asyncio.wrap_future(self._in_thread(for_loop=True))
                # A lambda around an asynchronous function, say: no one can tell before.
                return await result if inspect.isawaitable(result) else result

    def perform_sync(self, engine: CheckpointEngine) -> Any:
        with self._inside():
            if self.timeout is None:
                result = self.function(*self.args, **(self.kwargs or {}))
            else:
                result = self._in_thread().result(self.timeout)
        if inspect.isawaitable(result):
            if isinstance(result, Coroutine):
                result.close()
            raise asynchronous_error(self.function)
        return result

    @contextlib.contextmanager
    def _inside(self) -> Generator[None]:
        if self.scope is None:
            yield
            return
        self.scope.strand = strand()
        token = enter(self.scope)
        try:
            yield
        finally:
            leave(token)
            self.scope.close()

    def _in_thread(self, *, for_loop: bool = False) -> Future[Any]:
        context = contextvars.copy_context()
        future: Future[Any] = Future()

        def body() -> None:
            if self.scope is not None:
                self.scope.strand = strand()
            try:
                result = context.run(self.function, *self.args, **(self.kwargs or {}))
            except BaseException as error:
                if for_loop and isinstance(error, StopIteration):
                    error = _as_of_a_coroutine(error)
                with contextlib.suppress(InvalidStateError):  # nobody waits any more
                    future.set_exception(error)
            else:
                with contextlib.suppress(InvalidStateError):
                    future.set_result(result)

        threading.Thread(target=body, name="call with a timeout", daemon=True).start()
        return future
