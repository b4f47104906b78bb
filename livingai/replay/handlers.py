"""What a replay may be given: a program, a handler, or functions by name; and calling a handler."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from livingai.errors import ConfigurationError, FunctionMissingError, NotRecordedError
from livingai.node import ExecutionNode
from livingai.replay.compare import name_of
from livingai.replay.mode import ReplayMode
from livingai.runs.effects import Effect
from livingai.runs.ports import RunEngine


class ReplayInputs:
    """The second argument of a handler: what it may need besides the node.

    ``input`` is the node's input (perhaps replaced), ``parent_output`` the output of its parent in
    this replay, ``outputs`` all outputs so far by recorded node id. ``state`` is the agent's state:
    at first the restored checkpoint, later whatever the handler has set; a state is saved with each
    node that runs. ``cost_tokens`` is for the handler to set.
    """

    __slots__ = ("cost_tokens", "input", "mode", "outputs", "parent_output", "state")

    def __init__(
        self, node: ExecutionNode, mode: ReplayMode, outputs: dict[str, Any], state: Any
    ) -> None:
        self.input = node.input
        self.mode = mode
        self.outputs: Mapping[str, Any] = MappingProxyType(outputs)
        self.parent_output = outputs.get(node.parent_id) if node.parent_id else None
        self.state = state
        self.cost_tokens = 0


#: A handler of any of the accepted kinds, as one of two arguments.
NodeHandler = Callable[[ExecutionNode, ReplayInputs], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returned or raised, and how long it took."""

    output: Any = None
    error: Exception | None = None
    latency_ms: float = 0.0


@dataclass(slots=True)
class CallHandler(Effect[Answer]):
    """Call the handler for one node of the record; what it raises is part of the answer.

    Raises:
        ConfigurationError: it is asynchronous, and there is no event loop.
    """

    handler: NodeHandler
    node: ExecutionNode
    inputs: ReplayInputs

    async def perform(self, engine: RunEngine) -> Answer:
        began = time.perf_counter()
        try:
            output = self.handler(self.node, self.inputs)
            if isinstance(output, Awaitable):
                output = await output
        except Exception as error:
            return Answer(error=error, latency_ms=_since(began))
        return Answer(output, latency_ms=_since(began))

    def perform_sync(self, engine: RunEngine) -> Answer:
        began = time.perf_counter()
        try:
            output = self.handler(self.node, self.inputs)
        except Exception as error:
            return Answer(error=error, latency_ms=_since(began))
        if inspect.iscoroutine(output):
            output.close()
            raise ConfigurationError("the handler is a coroutine function: use `await run(...)`")
        return Answer(output, latency_ms=_since(began))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3


def is_program(handler: Any) -> bool:
    """Whether ``handler`` is a function of a run: its one parameter without a default is called
    ``run``, or it has none."""
    if isinstance(handler, Mapping) or not callable(handler):
        return False
    parameters = _required(handler)
    return parameters is not None and (not parameters or parameters == ["run"])


def is_asynchronous(function: Any) -> bool:
    """Whether calling it gives something to be awaited, judged by its declaration alone (of a
    partial: that of its function). A lambda that returns a coroutine is not recognised."""
    while isinstance(function, functools.partial):
        function = function.func
    call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def program_of(program: Any, run: Any) -> Any:
    """Call a program, with ``run`` if it takes one; recorded calls belong to that run anyway."""
    return program(run) if _required(program) else program()


def _required(function: Callable[..., Any]) -> list[str] | None:
    """Names of positional parameters without a default; None if the function does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return None
    return [each.name for each in parameters if each.kind in kinds and each.default is each.empty]


def takes(handler: Any, running: Iterable[ExecutionNode]) -> NodeHandler:
    """The handler as a function of a node and its inputs, whether it takes ``(node)`` or
    ``(node, inputs)`` or is a dict of functions, which then has to have one for each node that is
    ``running``.

    Raises:
        ConfigurationError: it is none of these.
        FunctionMissingError: the dict lacks a function.
    """
    if isinstance(handler, Mapping):
        return _by_name(handler, running)
    if not callable(handler):
        raise ConfigurationError(
            f"a handler must be a function or a dict of functions, not {handler!r}"
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # a builtin that does not say
        return lambda node, inputs: handler(node)
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        if count == 2:
            both: NodeHandler = handler
            return both
        return lambda node, inputs: handler(node)
    raise ConfigurationError(
        f"{handler!r} takes {signature}, but a handler is called as handler(node) or "
        "handler(node, inputs), and a program as program(run)"
    )


def _by_name(
    functions: Mapping[str, Callable[..., Any]], running: Iterable[ExecutionNode]
) -> NodeHandler:
    missing = sorted({name_of(node) for node in running} - set(functions))
    if missing:
        raise FunctionMissingError(
            f"the record has calls of {', '.join(missing)}, and the handler has no such function: "
            "map the recorded name to the function that does this today"
        )
    return lambda node, inputs: _called(functions[name_of(node)], node)


def _called(function: Callable[..., Any], node: ExecutionNode) -> Any:
    """Call a function as the record says it was called."""
    given = node.input
    if isinstance(given, dict) and set(given) == {"args", "kwargs"}:
        return function(*given["args"], **given["kwargs"])
    if isinstance(given, dict) and set(given) == {"digest", "bytes", "preview"}:
        raise NotRecordedError(
            f"the arguments of {name_of(node)!r} ({node.id}) were too large to be recorded whole "
            f"({given['bytes']} bytes), so it cannot be called with them; replay the program, "
            "which passes its own"
        )
    return function(given)
