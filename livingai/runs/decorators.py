"""Decorators: functions whose calls are recorded while a run is entered.

Inside of a run, in its task or thread, a decorated function is what ``run.step`` or ``run.tool``
would be. Outside of any run it is called plainly, so it can be tested and used without an engine.
A plain function stays plain (also in an asynchronous run), an asynchronous one asynchronous.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from livingai.node import NodeType
from livingai.runs.calls import CallKeywords, CallOptions, make_options
from livingai.runs.recorded_function import MARK, RecordedFunction

F = TypeVar("F", bound=Callable[..., Any])


@overload
def step(function: F, /) -> F: ...
@overload
def step(*, name: str | None = None, **options: Unpack[CallKeywords]) -> Callable[[F], F]: ...
def step(
    function: Any = None, /, *, name: str | None = None, **options: Unpack[CallKeywords]
) -> Any:
    """``@step`` or ``@step(retries=2, timeout=30.0)``: idempotent work, recorded under the
    function's name. Keywords are those of :class:`~livingai.runs.calls.CallOptions`.

    Raises:
        ConfigurationError: an option is not known or cannot work.
    """
    made = make_options(options, idempotent=True)
    return _decorator(NodeType.PROMPT, name, made, function)


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(*, name: str | None = None, **options: Unpack[CallKeywords]) -> Callable[[F], F]: ...
def tool(
    function: Any = None, /, *, name: str | None = None, **options: Unpack[CallKeywords]
) -> Any:
    """``@tool`` or ``@tool(idempotent=True, retries=2)``: a call with side effects, at most once
    unless it is idempotent. Keywords and errors as for :func:`step`."""
    made = make_options(options, idempotent=False)
    return _decorator(NodeType.TOOL, name, made, function)


def _decorator(
    kind: NodeType, name: str | None, options: CallOptions, function: Callable[..., Any] | None
) -> Any:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = name or str(getattr(function, "__name__", type(function).__name__))
        return _wrap(RecordedFunction(kind, own, function, options))

    return decorate if function is None else decorate(function)


def _wrap(recorded: RecordedFunction) -> Callable[..., Any]:
    # Here, not above: a module of decorated functions, imported by a program that makes no run,
    # does not load what a run consists of.
    from livingai.runs.base import current_run  # noqa: PLC0415
    from livingai.runs.effects import drive_sync  # noqa: PLC0415

    kind, name, function, options = recorded
    asynchronous = inspect.iscoroutinefunction(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        run = current_run()
        if run is None:
            return function(*args, **kwargs)
        work = run.prepare(kind, name, function, args, kwargs, options)
        if asynchronous:
            return run.awaited(f"{getattr(function, '__name__', name)}(...)", work)
        return drive_sync(run.engine, work)

    setattr(wrapper, MARK, recorded)
    if asynchronous:
        # inspect.markcoroutinefunction is newer than the oldest Python that we support.
        mark = getattr(inspect, "markcoroutinefunction", None)
        if mark is not None:
            mark(wrapper)
    return wrapper
