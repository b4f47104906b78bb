"""Logic of an adapter, written once for programs with and without an event loop.

A method that has to wait is a generator. It yields a :class:`Step` for each method of
:class:`~livingai.adapters.shared_log.SharedLog` (or of the engine) that it needs;
:func:`take` awaits the method, :func:`take_sync` calls its twin, whose name ends in ``_sync``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Step:
    """One call: of ``target.method(...)`` in an event loop, else of ``target.method_sync(...)``."""

    __slots__ = ("arguments", "keywords", "method", "target")

    def __init__(self, target: object, method: str, *arguments: Any, **keywords: Any) -> None:
        self.target = target
        self.method = method
        self.arguments = arguments
        self.keywords = keywords


#: A generator of steps that returns a value of the parameter's type.
Steps = Generator[Step, Any, T]


async def take(steps: Steps[T]) -> T:
    """The generator's value, with its steps taken in the running event loop."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        value, error = None, None
        try:
            value = await getattr(step.target, step.method)(*step.arguments, **step.keywords)
        except BaseException as failure:  # the generator's to handle; else it comes out again
            error = failure


def take_sync(steps: Steps[T]) -> T:
    """The generator's value, with its steps taken in the calling thread."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        value, error = None, None
        try:
            method = getattr(step.target, f"{step.method}_sync")
            value = method(*step.arguments, **step.keywords)
        except BaseException as failure:  # as above
            error = failure
