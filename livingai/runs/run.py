"""A run: a program whose calls are recorded, so that it can be killed anywhere and run again.

``engine.run("run-1")`` gives a :class:`Run`, ``engine.run_sync("run-1")`` its twin
:class:`SyncRun`. A program that runs again under the same id makes the same calls, and is given the
recorded results of those that were made before; it goes on where the record ends. So it has to be
deterministic between its calls: whatever may come out differently (the time, a random number, a
model's answer, a file) belongs into a call. ``docs/RECOVERY.md`` states the guarantees.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Unpack

from livingai.node import NodeType
from livingai.outcome import Receipt
from livingai.runs.base import BaseRun
from livingai.runs.call_methods import METHODS, AsyncCallMethods, SyncCallMethods, named
from livingai.runs.calls import CallKeywords, CallOptions, make_options
from livingai.runs.effects import drive, drive_sync
from livingai.runs.invoking import asynchronous_error
from livingai.runs.pending import PendingCall
from livingai.runs.tasks import number_tasks, stop_numbering


class Run(AsyncCallMethods, BaseRun):
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
        stop_numbering(self._loop)
        forgotten = self._forgotten(error)
        await drive(self.engine, self._end(error or forgotten))
        if forgotten is not None:
            raise forgotten

    def checkpoint(self) -> Coroutine[Any, Any, Receipt | None]:
        """Record ``run.state``; None if it was recorded at this place by an earlier life."""
        work = drive(self.engine, self._checkpoint())
        return PendingCall(self._pending, "run.checkpoint()", work)

    def _call(self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._start(kind, given, kwargs)

    def _start(
        self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any],
        options: CallOptions | None = None,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        name, function, args = named(kind, given)
        return self.awaited(
            f"run.{METHODS[kind]}({name!r}, ...)",
            self.prepare(kind, name, function, args, kwargs, options),
        )

    def using(self, **options: Unpack[CallKeywords]) -> Using:
        """This run with :class:`~livingai.runs.calls.CallOptions` for the next call:
        ``await run.using(retries=3, timeout=20.0).step("ask", ask_model, question)``.

        Raises:
            ConfigurationError: an option is not known or cannot work.
        """
        return Using(self._start, options)


class SyncRun(SyncCallMethods, BaseRun):
    """Twin of :class:`Run` for programs without an event loop; functions are plain."""

    def __enter__(self) -> SyncRun:
        drive_sync(self.engine, self._begin())
        self._open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        forgotten = self._forgotten(error)
        drive_sync(self.engine, self._end(error or forgotten))
        if forgotten is not None:
            raise forgotten

    def checkpoint(self) -> Receipt | None:
        """Twin of :meth:`Run.checkpoint`."""
        return drive_sync(self.engine, self._checkpoint())

    def _call(self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._start(kind, given, kwargs)

    def _start(
        self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any],
        options: CallOptions | None = None,
    ) -> Any:  # fmt: skip
        name, function, args = named(kind, given)
        if inspect.iscoroutinefunction(function):  # before its intent is recorded
            raise asynchronous_error(function)
        return drive_sync(self.engine, self.prepare(kind, name, function, args, kwargs, options))

    def using(self, **options: Unpack[CallKeywords]) -> SyncUsing:
        """Twin of :meth:`Run.using`."""
        return SyncUsing(self._start, options)


class _Options:
    """A run's way of starting calls, and options for them."""

    def __init__(self, start: Callable[..., Any], options: CallKeywords) -> None:
        self._start = start
        self._options = options
        # What is unknown or cannot work is said here. A tool may do with less than a step.
        make_options({"idempotent": True, **options}, idempotent=True)

    def _call(self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        options = make_options(self._options, idempotent=kind is not NodeType.TOOL)
        return self._start(kind, given, kwargs, options)


class Using(_Options, AsyncCallMethods):
    """A run with options for calls; see :meth:`Run.using`."""


class SyncUsing(_Options, SyncCallMethods):
    """Twin of :class:`Using`; see :meth:`SyncRun.using`."""
