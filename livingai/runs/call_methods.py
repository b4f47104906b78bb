"""The call methods of a run, ``step``, ``tool`` and ``branch``: how they are called, and typed.

Each takes a name, a function and its arguments; or a function and its arguments, and then has the
function's name. In a run without an event loop the function gives a plain value, which is all that
can be recorded; so type checkers refuse an asynchronous function there.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import inspect
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, ParamSpec, TypeVar, overload

from livingai.errors import ConfigurationError
from livingai.node import NodeType

#: What a recorded call may give, as far as types can say.
Plain = (
    bool | int | float | complex | str | bytes | bytearray | Mapping[Any, Any] | Sequence[Any]
    | AbstractSet[Any] | datetime.date | datetime.time | datetime.timedelta | decimal.Decimal
    | uuid.UUID | None
)  # fmt: skip
P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V", bound=Plain)

#: What a call is called in a program.
METHODS: Final = {NodeType.PROMPT: "step", NodeType.TOOL: "tool", NodeType.BRANCH: "branch"}


class AsyncCallMethods(ABC):
    """What makes calls that are awaited."""

    @abstractmethod
    def _call(self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call."""

    @overload
    def step(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def step(self, name: str, function: Callable[P, T], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def step(self, function: Callable[P, Awaitable[T]], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def step(self, function: Callable[P, T], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def step(self, first: Any = None, /, *given: Any, **kwargs: Any) -> Any:
        """Idempotent work, such as a model call: if it was not finished, it is done again.

        ``await run.step("plan", make_plan, goal)``; without a name it gets the function's.

        Raises:
            ConfigurationError: no function was given, or no name and the function has none.
            DivergenceError: the record has another call here.
            ResultEncodingError: the result cannot be recorded.
            FencedError: another process has taken the run over.
        """
        return self._call(NodeType.PROMPT, (first, *given), kwargs)

    @overload
    def tool(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def tool(self, name: str, function: Callable[P, T], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def tool(self, function: Callable[P, Awaitable[T]], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def tool(self, function: Callable[P, T], /, *args: P.args,
             **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def tool(self, first: Any = None, /, *given: Any, **kwargs: Any) -> Any:
        """A call with side effects: at most once. Its intent is on disk before it is called.

        Raises:
            InDoubtError: it was called before a crash, its result is not recorded, and no resolver
                has decided.
            ConfigurationError, DivergenceError, ResultEncodingError, FencedError: as :meth:`step`;
                after ResultEncodingError the tool has been called, and that is recorded.
        """
        return self._call(NodeType.TOOL, (first, *given), kwargs)

    @overload
    def branch(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args,
               **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def branch(self, name: str, function: Callable[P, T], /, *args: P.args,
               **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def branch(self, function: Callable[P, Awaitable[T]], /, *args: P.args,
               **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def branch(self, function: Callable[P, T], /, *args: P.args,
               **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def branch(self, first: Any = None, /, *given: Any, **kwargs: Any) -> Any:
        """A decision: a :meth:`step` that the record shows as a branch."""
        return self._call(NodeType.BRANCH, (first, *given), kwargs)


class SyncCallMethods(ABC):
    """Twin of :class:`AsyncCallMethods` for programs without an event loop."""

    @abstractmethod
    def _call(self, kind: NodeType, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call."""

    @overload
    def step(self, name: str, function: Callable[P, V], /, *args: P.args,
             **kwargs: P.kwargs) -> V: ...  # fmt: skip
    @overload
    def step(self, function: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> V: ...
    def step(self, first: Any = None, /, *given: Any, **kwargs: Any) -> Any:
        """Twin of :meth:`AsyncCallMethods.step`."""
        return self._call(NodeType.PROMPT, (first, *given), kwargs)

    @overload
    def tool(self, name: str, function: Callable[P, V], /, *args: P.args,
             **kwargs: P.kwargs) -> V: ...  # fmt: skip
    @overload
    def tool(self, function: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> V: ...
    def tool(self, first: Any = None, /, *given: Any, **kwargs: Any) -> Any:
        """Twin of :meth:`AsyncCallMethods.tool`."""
        return self._call(NodeType.TOOL, (first, *given), kwargs)

    @overload
    def branch(self, name: str, function: Callable[P, V], /, *args: P.args,
               **kwargs: P.kwargs) -> V: ...  # fmt: skip
    @overload
    def branch(self, function: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> V: ...
    def branch(self, first: Any = None, /, *given: Any, **kwargs: Any) -> Any:
        """Twin of :meth:`AsyncCallMethods.branch`."""
        return self._call(NodeType.BRANCH, (first, *given), kwargs)


def named(
    kind: NodeType, given: tuple[Any, ...]
) -> tuple[str, Callable[..., Any], tuple[Any, ...]]:
    """Name, function and positional arguments out of what a call method was given.

    Raises:
        ConfigurationError: they are not there; the message says how to write the call.
    """
    method = f"run.{METHODS[kind]}"
    if given[0] is None:
        raise ConfigurationError(
            f"a recorded call takes a name and a function: {method}('plan', make_plan, goal)"
        )
    if not isinstance(given[0], str):
        return _own_name(method, given[0]), given[0], given[1:]
    name, *rest = given
    if not name or not rest:
        raise ConfigurationError(
            f"a recorded call takes a name and a function: {method}({name or 'plan'!r}, make_plan, "
            f"goal), not {name!r} {'without a function' if name else 'as the name'}"
        )
    if not callable(rest[0]):
        raise _no_function(f"{method}({name!r}, ", rest[0])
    return name, rest[0], tuple(rest[1:])


def _own_name(method: str, function: Any) -> str:
    """The name of a call that was given none."""
    if not callable(function):
        raise _no_function(f"{method}(", function)
    marked = getattr(function, "__livingai_call__", None)
    if marked is not None:
        return str(marked.name)
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    if name == "<lambda>":
        raise ConfigurationError(
            f"a lambda has no name; give the call one: {method}('plan', lambda: ...)"
        )
    return str(name)


def _no_function(call: str, given: Any) -> ConfigurationError:
    """The error for a call that was given a result, or a coroutine, instead of the function."""
    if isinstance(given, Coroutine):
        name = getattr(given, "__name__", "f")
        if inspect.iscoroutine(given):
            given.close()  # so that Python does not complain of it, too
        return ConfigurationError(
            f"a recorded call takes a name and a function, and {name}(...) was called already: "
            f"write {call}{name}, ...), that is f, 1 instead of f(1)"
        )
    return ConfigurationError(
        f"a recorded call takes a name and a function, not {given!r:.100} "
        f"({type(given).__qualname__}): if that is the result of f(1), pass f, 1 instead: "
        f"{call}f, 1)"
    )
