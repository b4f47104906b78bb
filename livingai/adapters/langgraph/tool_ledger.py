"""The ledger of a graph's tool calls: each of them is made at most once.

A call is a durable run of its own (:meth:`CheckpointEngine.run <livingai.CheckpointEngine.run>`)
with one tool in it: its intent is recorded before the tool is called, its result after. Which run
that is, is said by the thread, the id of the call, the tool's name and its arguments:
``langgraph-tools:<thread id>/<call id>/<digest>``.

A call that waits for a person (``interrupt()`` in a tool) is over, with a mark as its result; the
call that LangGraph makes once there is an answer is the next one, ``.../<digest>~1``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import GraphBubbleUp

from livingai import serial
from livingai.adapters.names import execution_name, part_name
from livingai.adapters.tool_calls import call_digest, check_not_being_made
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, ExecutionNotFoundError, StateEncodingError
from livingai.node import ExecutionNode
from livingai.runs.policy import Resolution, Resolver

#: What executions of tool calls begin with; threads are ``langgraph:...``.
FRAMEWORK: Final = "langgraph-tools"
#: What is done about a call that was begun before a crash, and whose result is not recorded.
OnDoubt = Literal["raise", "call", "tell"]
#: What is recorded of a result that livingai cannot store as it is: its format, and bytes.
_TYPED: Final = "livingai.typed"
#: What is recorded of a call that waits for a person.
_WAITS: Final = {"livingai.waits": True}
_IN_DOUBT: Final = (
    "{tool} was called before the program was interrupted, and its result is not known: it may or "
    "may not have happened."
)


@dataclass(slots=True)
class GraphToolCall:
    """One call of a tool: of which thread, and what for."""

    engine: CheckpointEngine
    scope: str
    tool: str
    call_id: str
    #: What the model has given, as JSON.
    arguments: str
    #: Whether a tool has to return its content and an artifact.
    with_artifact: bool
    #: Whether the result was recorded before.
    is_served: bool = False

    def executions(self) -> Iterator[str]:
        """The runs that the call may be: the first one, and one more for each time that it has
        waited for a person."""
        parts = execution_name(FRAMEWORK, self.scope), part_name(self.call_id)
        name = "/".join([*parts, call_digest(self.tool, self.arguments)])
        return itertools.chain([name], (f"{name}~{number}" for number in itertools.count(1)))

    @property
    def about(self) -> dict[str, Any]:
        """For the metadata of the run."""
        return {"framework": FRAMEWORK, "tool": self.tool, "call_id": self.call_id}


class GraphToolLedger:
    """Makes calls, or gives what they have returned before. Thread-safe."""

    def __init__(
        self, on_doubt: OnDoubt | Resolver, serde: SerializerProtocol, *, exclusive: bool
    ) -> None:
        """Raises ConfigurationError: ``on_doubt`` is neither a word that is known nor a resolver,
        or the serializer may unpickle."""
        if on_doubt not in get_args(OnDoubt) and not callable(on_doubt):
            raise ConfigurationError(
                f"on_doubt is one of {', '.join(get_args(OnDoubt))}, or a resolver, not "
                f"{shown(on_doubt)}"
            )
        if getattr(serde, "pickle_fallback", False):
            raise ConfigurationError("a ledger does not unpickle: pass pickle_fallback=False")
        self._on_doubt = on_doubt
        self._serde = serde
        self._exclusive = exclusive

    def call(self, call: GraphToolCall, invoke: Callable[[], Any]) -> Any:
        """The result of a call: recorded, or that of ``invoke()``, which is recorded.

        Raises:
            InDoubtError: the call was begun before, and nobody knows how it ended.
            DivergenceError, FencedError: as ``engine.run_sync``.
            What the tool raises, or has raised.
        """
        for execution_id in call.executions():
            with contextlib.suppress(ExecutionNotFoundError):
                check_not_being_made(call.engine.nodes_sync(execution_id))
            made = _Made()

            def tool(arguments: str, made: _Made = made) -> Any:
                del arguments  # they are recorded, and compared
                made.is_called = True
                try:
                    made.result = invoke()
                except GraphBubbleUp as bubble:
                    made.bubble = bubble
                    return _WAITS
                return self._recorded(made.result)

            with call.engine.run_sync(execution_id, **self._settings(call)) as run:
                recorded = run.tool(call.tool, tool, call.arguments)
            if made.is_called or recorded != _WAITS:
                return self._result(call, made, recorded)
        raise AssertionError  # there is always one more

    async def acall(self, call: GraphToolCall, invoke: Callable[[], Awaitable[Any]]) -> Any:
        """Twin of :meth:`call`."""
        for execution_id in call.executions():
            with contextlib.suppress(ExecutionNotFoundError):
                check_not_being_made(await call.engine.nodes(execution_id))
            made = _Made()

            async def tool(arguments: str, made: _Made = made) -> Any:
                del arguments
                made.is_called = True
                try:
                    made.result = await invoke()
                except GraphBubbleUp as bubble:
                    made.bubble = bubble
                    return _WAITS
                return self._recorded(made.result)

            async with call.engine.run(execution_id, **self._settings(call)) as run:
                recorded = await run.tool(call.tool, tool, call.arguments)
            if made.is_called or recorded != _WAITS:
                return self._result(call, made, recorded)
        raise AssertionError

    def _settings(self, call: GraphToolCall) -> Any:
        return {
            "resolver": self._resolver(call), "exclusive": self._exclusive, "metadata": call.about,
        }  # fmt: skip

    def _resolver(self, call: GraphToolCall) -> Resolver | None:
        if callable(self._on_doubt):
            return self._on_doubt

        def call_again(node: ExecutionNode) -> Resolution:
            return Resolution.retry()

        def tell(node: ExecutionNode) -> Resolution:
            text = _IN_DOUBT.format(tool=call.tool)
            return Resolution.done((text, None) if call.with_artifact else text)

        return {"raise": None, "call": call_again, "tell": tell}[self._on_doubt]

    def _result(self, call: GraphToolCall, made: _Made, recorded: Any) -> Any:
        if made.bubble is not None:
            raise made.bubble
        if made.is_called:
            return made.result
        call.is_served = True
        if isinstance(recorded, dict) and recorded.keys() == {_TYPED}:
            kind, data = recorded[_TYPED]
            return self._serde.loads_typed((kind, data))
        return recorded

    def _recorded(self, result: Any) -> Any:
        """What is recorded of a result: itself, if it is made of plain values; what LangGraph's
        serializer makes of it (messages, commands, models). What neither can store is handed on,
        and refused where it is recorded."""
        try:
            serial.pack(result)
        except StateEncodingError:
            try:
                return {_TYPED: list(self._serde.dumps_typed(result))}
            except Exception:  # whatever a serializer raises
                return result
        return result


@dataclass(slots=True)
class _Made:
    """What has become of a call in this process."""

    is_called: bool = False
    result: Any = None
    bubble: GraphBubbleUp | None = None
