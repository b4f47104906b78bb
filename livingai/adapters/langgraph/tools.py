"""``durable_tool``: a tool whose calls are in a ledger."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast, overload

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as as_tool
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from livingai.adapters.langgraph.run_values import plain
from livingai.adapters.langgraph.tool_ledger import GraphToolCall, GraphToolLedger, OnDoubt
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.runs.policy import Resolver

#: An engine, or what finds it in the config that a tool is called with.
EngineOrFinder = CheckpointEngine | Callable[[RunnableConfig], CheckpointEngine]
Scope = Callable[[RunnableConfig], str]

#: The call that is being made, between LangChain's entry and the tool itself.
_entered: ContextVar[GraphToolCall | None] = ContextVar("livingai_tool_call", default=None)


@overload
def durable_tool(
    tool: BaseTool | Callable[..., Any],
    *,
    engine: EngineOrFinder,
    on_doubt: OnDoubt | Resolver = ...,
    exclusive: bool = ...,
    scope: Scope | None = ...,
    serde: SerializerProtocol | None = ...,
) -> BaseTool: ...


@overload
def durable_tool(
    *,
    engine: EngineOrFinder,
    on_doubt: OnDoubt | Resolver = ...,
    exclusive: bool = ...,
    scope: Scope | None = ...,
    serde: SerializerProtocol | None = ...,
) -> Callable[[BaseTool | Callable[..., Any]], BaseTool]: ...


def durable_tool(
    tool: BaseTool | Callable[..., Any] | None = None,
    *,
    engine: EngineOrFinder,
    on_doubt: OnDoubt | Resolver = "raise",
    exclusive: bool = False,
    scope: Scope | None = None,
    serde: SerializerProtocol | None = None,
) -> BaseTool | Callable[[BaseTool | Callable[..., Any]], BaseTool]:
    """A copy of a tool that is called at most once for each tool call of a thread.

    ``pay = durable_tool(pay, engine=engine)``, or ``@durable_tool(engine=engine)`` above a function
    or above ``@tool``. Use it in ``ToolNode`` (or whatever calls it with a tool call, so that it
    has an id), in a graph with a thread.

    Args:
        tool: a ``BaseTool``, or a function, plain or asynchronous, as for ``@tool``.
        engine: where calls are recorded, or, for tools that are made before there is an engine, a
            function that finds it in the call's config:
            ``lambda config: config["configurable"]["engine"]``.
        on_doubt: what is done about a call that was begun before a crash, and whose result is not
            recorded. "raise": an InDoubtError ends the run of the graph; "tell": the model is told
            that it may have happened; "call": it is called again; or a resolver, as in
            ``engine.run``.
        exclusive: at most once also across machines; takes a commit for each call.
        scope: whose calls have ids of their own; by default the thread.
        serde: how results that are no plain values become bytes; by default LangGraph's serializer.

    A call that has returned, or has raised, before a crash does so again, and the tool is not
    called. An ``interrupt()`` in the tool works: the tool begins anew once there is an answer.

    Raises:
        ConfigurationError: an argument that cannot work. When it is called: it has no id or no
            thread.
    """
    ledger = GraphToolLedger(on_doubt, serde or JsonPlusSerializer(), exclusive=exclusive)
    if not isinstance(engine, CheckpointEngine) and not callable(engine):
        raise ConfigurationError(
            f"engine must be a CheckpointEngine, or a function that finds it, not {shown(engine)}"
        )
    if scope is not None and not callable(scope):
        raise ConfigurationError(f"scope is a function that takes a config, not {shown(scope)}")
    wrapper = functools.partial(_wrapped, ledger=ledger, engine=engine, scope=scope or _thread_of)
    return wrapper if tool is None else wrapper(tool)


def _wrapped(
    tool: BaseTool | Callable[..., Any],
    *,
    ledger: GraphToolLedger,
    engine: EngineOrFinder,
    scope: Scope,
) -> BaseTool:
    if not isinstance(tool, BaseTool):
        if not callable(tool):
            raise ConfigurationError(f"durable_tool takes a tool or a function, not {shown(tool)}")
        tool = as_tool(tool)
    if isinstance(tool, _DurableTool):
        raise ConfigurationError(f"{tool.name!r} is a durable tool already")
    wrapped = copy.copy(tool)
    # Whatever looks at the tool (its class, its function, its schema) sees what it is.
    wrapped.__class__ = _durable(type(tool))
    object.__setattr__(wrapped, "_ledger", ledger)
    object.__setattr__(wrapped, "_engine", engine)
    object.__setattr__(wrapped, "_scope", scope)
    return wrapped


class _DurableTool:
    """What is added to a tool's own class."""

    if TYPE_CHECKING:  # fields of the tool, which would else be those of this class
        name: str
        response_format: str
        _ledger: GraphToolLedger
        _engine: EngineOrFinder
        _scope: Scope

    def run(self, tool_input: Any, *arguments: Any, **named: Any) -> Any:
        """LangChain's entry: which call it is, is known here only."""
        token = _entered.set(self._call(tool_input, named))
        try:
            return cast("Any", super()).run(tool_input, *arguments, **named)
        finally:
            _entered.reset(token)

    async def arun(self, tool_input: Any, *arguments: Any, **named: Any) -> Any:
        """As :meth:`run`."""
        token = _entered.set(self._call(tool_input, named))
        try:
            return await cast("Any", super()).arun(tool_input, *arguments, **named)
        finally:
            _entered.reset(token)

    def _made(self, inner: Callable[[], Any]) -> Any:
        """The result of the tool itself, from the ledger or called."""
        call = _entered.get()
        if call is None:  # an asynchronous call of a tool that is plain: it is in the ledger
            return inner()
        token = _entered.set(None)  # it may call other tools
        try:
            return self._ledger.call(call, inner)
        finally:
            _entered.reset(token)

    async def _amade(self, inner: Callable[[], Awaitable[Any]]) -> Any:
        call = _entered.get()
        if call is None:
            return await inner()
        token = _entered.set(None)
        try:
            return await self._ledger.acall(call, inner)
        finally:
            _entered.reset(token)

    def _call(self, tool_input: Any, named: dict[str, Any]) -> GraphToolCall:
        call_id = named.get("tool_call_id")
        if not call_id:
            raise ConfigurationError(
                f"{self.name!r} is a durable tool, which has to know which call it is: call it "
                "with a tool call that has an id, as ToolNode does"
            )
        config = ensure_config(named.get("config"))
        engine = (
            self._engine if isinstance(self._engine, CheckpointEngine) else self._engine(config)
        )
        if not isinstance(engine, CheckpointEngine):
            raise ConfigurationError(f"{shown(engine)} was found as the engine of {self.name!r}")
        given = tool_input
        if isinstance(tool_input, dict):
            given = cast("Any", self)._filter_injected_args(tool_input)
        return GraphToolCall(
            engine, str(self._scope(config)), self.name, str(call_id),
            json.dumps(plain(given), sort_keys=True),
            with_artifact=self.response_format == "content_and_artifact",
        )  # fmt: skip


def _thread_of(config: RunnableConfig) -> str:
    thread_id = config.get("configurable", {}).get("thread_id")
    if thread_id is None:
        raise ConfigurationError(
            "a durable tool has to know which thread its call is of: invoke the graph with "
            '{"configurable": {"thread_id": ...}}, or pass durable_tool(..., scope=...)'
        )
    return str(thread_id)


_classes: dict[type[BaseTool], type[BaseTool]] = {}


def _durable(kind: type[BaseTool]) -> type[BaseTool]:
    """The class of durable tools of a kind. LangChain looks at the signatures of its methods."""

    @functools.wraps(kind._run)
    def run(self: Any, *arguments: Any, **named: Any) -> Any:
        return self._made(functools.partial(kind._run, self, *arguments, **named))

    @functools.wraps(kind._arun)
    async def arun(self: Any, *arguments: Any, **named: Any) -> Any:
        return await self._amade(functools.partial(kind._arun, self, *arguments, **named))

    known = _classes.get(kind)
    if known is None:
        about: dict[str, Any] = {"__module__": kind.__module__, "_run": run}
        if kind._arun is not BaseTool._arun:  # that calls _run, in a thread
            about["_arun"] = arun
        known = type(kind.__name__, (_DurableTool, kind), about)
        _classes[kind] = known
    return known


def is_served() -> bool:
    """In a callback at the end of a tool: whether its result was recorded before."""
    call = _entered.get()
    return call is not None and call.is_served
