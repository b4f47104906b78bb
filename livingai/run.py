"""A run: a program whose calls are recorded, so that it can be killed anywhere and run again.

``engine.run("run-1")`` gives a :class:`Run`, ``engine.run_sync("run-1")`` its twin
:class:`SyncRun`. A program that runs again under the same id makes the same calls, and is given the
recorded results of those that were made before; it goes on where the record ends. So it has to be
deterministic between its calls: whatever may come out differently (the time, a random number, a
model's answer, a file) belongs into a call. ``docs/RECOVERY.md`` states the guarantees.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from livingai.baserun import BaseRun
from livingai.calls import CallOptions, make_options
from livingai.effects import asynchronous_error, drive, drive_sync
from livingai.node import NodeType
from livingai.outcome import Receipt
from livingai.tasks import let_be, number_tasks

P = ParamSpec("P")
T = TypeVar("T")


class Run(BaseRun):
    """A run with an event loop; see :meth:`livingai.CheckpointEngine.run`.

    Calls take a name, a function (plain or asynchronous) and its arguments. Each is recorded with
    its arguments, its result or exception, its tokens and its milliseconds.
    """

    async def __aenter__(self) -> Run:
        await drive(self.engine, self._begin())
        self._open()
        self._loop = number_tasks()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        let_be(self._loop)
        await drive(self.engine, self._end(error))

    @overload
    def step(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def step(self, name: str, function: Callable[P, T], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def step(self, name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Idempotent work, such as a model call: if it was not finished, it is done again.

        Raises:
            DivergenceError: the record has another call here.
            ResultEncodingError: the result is nothing that can be recorded.
            FencedError: another process has taken the run over.
        """
        return self._start(NodeType.PROMPT, name, function, args, kwargs)

    @overload
    def tool(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def tool(self, name: str, function: Callable[P, T], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def tool(self, name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call with side effects: at most once. Its intent is on disk before it is called.

        Raises:
            InDoubtError: it was called before a crash, its result is not recorded, and no resolver
                has decided.
            DivergenceError, ResultEncodingError, FencedError: as :meth:`step`; after
                ResultEncodingError the tool has been called, and that is recorded.
        """
        return self._start(NodeType.TOOL, name, function, args, kwargs)

    def branch(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """A decision: a :meth:`step` that the record shows as a branch."""
        return self._start(NodeType.BRANCH, name, function, args, kwargs)

    async def checkpoint(self) -> Receipt | None:
        """Record ``run.state``; None if it was recorded at this place by an earlier life."""
        return await drive(self.engine, self._checkpoint())

    def _start(
        self, kind: NodeType, name: str, function: Any, args: Any, kwargs: Any,
        options: CallOptions | None = None,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        return drive(self.engine, self.prepare(kind, name, function, args, kwargs, options))

    def using(self, **options: Any) -> Using:
        """This run with :class:`~livingai.calls.CallOptions` for the next call:
        ``await run.using(retries=3, timeout=20.0).step("ask", ask_model, question)``."""
        return Using(self._start, options)


class SyncRun(BaseRun):
    """Twin of :class:`Run` for programs without an event loop; functions are plain."""

    def __enter__(self) -> SyncRun:
        drive_sync(self.engine, self._begin())
        self._open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        drive_sync(self.engine, self._end(error))

    def step(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Twin of :meth:`Run.step`."""
        return self._start(NodeType.PROMPT, name, function, args, kwargs)  # type: ignore[no-any-return]

    def tool(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Twin of :meth:`Run.tool`."""
        return self._start(NodeType.TOOL, name, function, args, kwargs)  # type: ignore[no-any-return]

    def branch(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Twin of :meth:`Run.branch`."""
        return self._start(NodeType.BRANCH, name, function, args, kwargs)  # type: ignore[no-any-return]

    def checkpoint(self) -> Receipt | None:
        """Twin of :meth:`Run.checkpoint`."""
        return drive_sync(self.engine, self._checkpoint())

    def _start(
        self, kind: NodeType, name: str, function: Any, args: Any, kwargs: Any,
        options: CallOptions | None = None,
    ) -> Any:  # fmt: skip
        if inspect.iscoroutinefunction(function):  # before its intent is recorded
            raise asynchronous_error(function)
        return drive_sync(self.engine, self.prepare(kind, name, function, args, kwargs, options))

    def using(self, **options: Any) -> Using:
        """Twin of :meth:`Run.using`."""
        return Using(self._start, options)


class Using:
    """A run with options for calls; see :meth:`Run.using`. What a call gives is the run's."""

    def __init__(self, start: Callable[..., Any], options: dict[str, Any]) -> None:
        self._start = start
        self._options = options

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`Run.step`."""
        options = make_options(self._options, idempotent=True)
        return self._start(NodeType.PROMPT, name, function, args, kwargs, options)

    def tool(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`Run.tool`."""
        options = make_options(self._options, idempotent=False)
        return self._start(NodeType.TOOL, name, function, args, kwargs, options)

    def branch(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`Run.branch`."""
        options = make_options(self._options, idempotent=True)
        return self._start(NodeType.BRANCH, name, function, args, kwargs, options)
