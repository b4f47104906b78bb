"""Hooks: how exceptions of a class are recorded and made again if livingai cannot do it by
itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from livingai.errors import ConfigurationError
from livingai.runs.exceptions.types import Name, name_of

E = TypeVar("E", bound=BaseException)
_log = logging.getLogger("livingai")


class Hook(NamedTuple):
    """A pair of functions that :func:`register_exception` was given for a class."""

    take_down: Callable[[Any], Any]
    rebuild: Callable[[Any], BaseException]


_registered: dict[type[BaseException], Hook] = {}


def register_exception(
    cls: type[E], take_down: Callable[[E], Any], rebuild: Callable[[Any], E]
) -> None:
    """Say how exceptions of ``cls`` and its subclasses are recorded and raised again on resume.

    Needed for exceptions that hold what cannot be recorded (a connection, an object of a class of
    your own that the program looks at). Register before the run is entered, in every process that
    resumes it; registering a class again replaces what was registered.

    Args:
        cls: the exception's class.
        take_down: called with the exception when the call has failed; returns plain values
            (:func:`livingai.serial.pack` lists them; exceptions among them are recorded, too).
        rebuild: called on resume with an equal value; returns the exception. Cause, context and
            notes are put back by livingai.

    If one of the two fails, that is logged, and the exception is recorded or raised as if nothing
    were registered.

    Raises:
        ConfigurationError: ``cls`` is no exception class, or a function cannot be called.
    """
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise ConfigurationError(f"register_exception takes an exception class, not {cls!r}")
    if not callable(take_down) or not callable(rebuild):
        raise ConfigurationError(
            "register_exception takes two functions: take_down(error) returns plain values, "
            "rebuild(values) returns the exception"
        )
    _registered[cls] = Hook(take_down, rebuild)


def hook_for(error: BaseException, known: dict[Name, Hook]) -> tuple[Name, Hook] | None:
    """The hook of the nearest class that has one, and the name of that class. ``known`` are
    livingai's own hooks; one that the program registered is preferred to them."""
    for cls in type(error).__mro__:
        if cls in _registered:
            return name_of(cls), _registered[cls]
        name = name_of(cls)
        if name in known:
            return name, known[name]
    return None


def hook_named(name: Name, known: dict[Name, Hook]) -> Hook | None:
    """The hook that was used when the exception was recorded, if this process has it."""
    for cls, hook in _registered.items():
        if name_of(cls) == name:
            return hook
    return known.get(name)


def complain(what: str, name: Name, error: Exception) -> None:
    """Log that a hook has failed; the exception is recorded or made without it."""
    _log.warning(
        "register_exception: %s of %s.%s raised %s; going on without it",
        what, *name, type(error).__qualname__, exc_info=error,
    )  # fmt: skip
