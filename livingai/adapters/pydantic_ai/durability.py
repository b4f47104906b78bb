"""Runs of agents that go on where they were killed: livingai as Pydantic AI's durable engine.

::

    agent = Agent(model, name="travel", capabilities=[LivingAIDurability()])

    async with engine.run("trip-7") as run:
        result = await agent.run("Book a journey to Oslo")

Inside of a run of livingai's (:meth:`CheckpointEngine.run <livingai.CheckpointEngine.run>`) each
model request, tool call and discovery of the agent is a recorded call of that run. So the program
is started again with the same id after a crash, makes the same calls, and is given what is
recorded. A tool that was under way is in doubt, and raises ``InDoubtError``.
Outside of a run the agent is as without the capability.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import ValidationError
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    CallToolResult,
    DurabilityEngineSpec,
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    conversation_id_from_run_id,
    record_durable_unit,
    replay_scope,
)
from pydantic_core import to_jsonable_python

from livingai.asked import shown
from livingai.errors import ConfigurationError
from livingai.runs.base import current_run
from livingai.runs.calls import CallKeywords, make_options
from livingai.runs.run import Run
from livingai.runs.scopes import current_scope

#: Key of a tool's metadata with options of its calls, or False.
METADATA_KEY: Final = "livingai"
#: Whether this task runs a recorded call's function: what that does is part of its result.
_in_unit: ContextVar[bool] = ContextVar("livingai_pydantic_ai_unit", default=False)
#: By run: how many runs of agents began at a place of the program.
_begun: weakref.WeakKeyDictionary[Run, dict[str, int]] = weakref.WeakKeyDictionary()


def durable_run() -> Run | None:
    """The run of livingai's that an agent's calls are recorded in now; None: in none."""
    run = current_run()
    return run if isinstance(run, Run) and not _in_unit.get() else None


class LivingAIDurability(BaseDurabilityCapability[Any]):
    """Makes an agent durable inside of ``async with engine.run(...)``.

    Args:
        models: further models that a run may switch to, by id; see
            ``pydantic_ai.durable_exec.BaseDurabilityCapability``.
        event_stream_handler: gets the events of runs; its calls for tools' events are recorded.
        name: of the agent in what is recorded; by default the agent's own.
        model_options: options of model requests, such as ``{"retries": 2, "backoff_s": 1.0}``
            (:class:`livingai.runs.calls.CallOptions`).
        tool_options: options of tool calls; a tool's ``metadata={"livingai": {...}}`` comes first,
            and ``metadata={"livingai": False}`` leaves a tool out of the record.

    Raises:
        ConfigurationError: an option is not known or cannot work.
    """

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="livingai",
        durable_unit_noun="call",
        durable_container_noun="run",
        codec=JSON_CODEC,
        wrapped_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        tool_config_key=METADATA_KEY,
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Any] | None = None,
        event_stream_handler: Any = None,
        name: str | None = None,
        model_options: CallKeywords | None = None,
        tool_options: CallKeywords | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._model_options = _checked(model_options or {}, "model_options", idempotent=True)
        self._tool_options = _checked(tool_options or {}, "tool_options", idempotent=False)

    @property
    def in_durable_context(self) -> bool:
        """Whether this code is in a run of livingai's, and not in one of its calls."""
        return durable_run() is not None

    def get_durable_operation_backend(self) -> RunOperationBackend:
        """What records the agent's calls in the run that is entered."""
        return RunOperationBackend(
            agent_name=self.name,
            default_model_id=self.default_model_id,
            config=RoleBasedOperationConfig(
                model=self._model_options, event={}, capability={}, tool=self._tool_options,
                resolve_tool=self._options_of,
            ),
        )  # fmt: skip

    def _options_of(
        self, operation_id: object, tool: Any, tool_name: str
    ) -> CallKeywords | Literal[False]:
        """The options of a tool's calls."""
        del operation_id
        own = None if tool is None else (tool.tool_def.metadata or {}).get(METADATA_KEY)
        if own is False:
            return False
        if own is not None and not isinstance(own, dict):
            raise ConfigurationError(
                f"metadata[{METADATA_KEY!r}] of the tool {tool_name!r} must be a dict of options, "
                f"or False, not {shown(own)}"
            )
        options: CallKeywords = {**self._tool_options, **(own or {})}
        return _checked(options, f"metadata of the tool {tool_name!r}", idempotent=False)

    def get_default_run_id(self) -> str | None:
        """The same id for the same run of an agent in each life of the program."""
        run, scope = durable_run(), current_scope()
        if run is None or scope is None:
            return None
        place = f"{scope.path}{scope.position}"
        begun = _begun.setdefault(run, {})
        count = begun[place] = begun.get(place, 0) + 1
        return f"{run.id}:{place}" if count == 1 else f"{run.id}:{place}:{count - 1}"

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """The same id for the same run of an agent in each life of the program."""
        return str(conversation_id_from_run_id(run_id)) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """When the agent's run began first."""
        del run_id
        run = durable_run()
        if run is None:
            return None
        began = await run.step(f"{self.name}__run_start_time", _now)
        return datetime.fromtimestamp(began, UTC)

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        """Run the agent; what is only replayed comes into no trace and no metric a second time."""
        if not self.in_durable_context:
            return await handler()
        with replay_scope():
            return await super().wrap_run(ctx, handler=handler)


class RunOperationBackend(JournalCallableOperationBackend[CallKeywords]):
    """Records operations as calls of the run that is entered: a tool's call as ``run.tool``, which
    is made at most once, all others as ``run.step``."""

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: CallKeywords,
    ) -> object:
        """The recorded result of an operation, or that of ``body``, which is recorded.

        Raises:
            InDoubtError: a tool was called before a crash, its result is not recorded, and no
                resolver has decided.
            DivergenceError, FencedError, ResultEncodingError: as ``run.tool``.
            What the operation raises, or has raised.
        """
        run = durable_run()
        if run is None:
            return await body()
        executed = False

        async def made(*given: Any) -> object:
            nonlocal executed
            del given  # it is recorded, and compared
            executed = True
            token = _in_unit.set(True)
            try:
                payload = await body()
            finally:
                _in_unit.reset(token)
            if isinstance(operation_id, ModelRequestId | ModelCompactMessagesId):
                run.record_cost(_tokens(payload))
            return payload

        try:
            with run.scope(_place(name, cache_key), across_tasks=True):
                if isinstance(operation_id, ToolsetCallToolId):
                    found = await run.using(**config).tool(name, made, *_tool_arguments(cache_key))
                    return _as_tool_result(found)
                return await run.using(**config).step(name, made, *_step_arguments(cache_key))
        finally:
            record_durable_unit(executed=executed)


def _checked(options: CallKeywords, what: str, *, idempotent: bool) -> CallKeywords:
    try:
        make_options(options, idempotent=idempotent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{what}: {error}") from error
    return options


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _place(name: str, cache_key: tuple[object, ...]) -> str:
    """Which of an agent's operations of that name: by its run and the model's id of the call, so
    it does not matter in which task it is. Those of one place are counted."""
    for each in reversed(cache_key):
        if hasattr(each, "run_id"):
            parts = [name, each.run_id, getattr(each, "tool_call_id", None)]
            return " ".join(str(part) for part in parts if part)
    return name


def _tool_arguments(cache_key: tuple[object, ...]) -> list[Any]:
    """What is recorded of a tool's call: its arguments, and the model's id of the call."""
    arguments, context = cache_key[1], cache_key[2]
    plain = to_jsonable_python(arguments, fallback=lambda each: f"<{type(each).__qualname__}>")
    return [plain, getattr(context, "tool_call_id", None)]


def _step_arguments(cache_key: tuple[object, ...]) -> list[Any]:
    """What is recorded of another operation. Messages bear the time at which they were made, which
    is another one when they are made again: so only how many there are."""
    return [len(each) if isinstance(each, list) else each
            for each in cache_key if isinstance(each, list | str | None)]  # fmt: skip


def _as_tool_result(found: object) -> object:
    """What is recorded of a tool's call; or, of a tool in doubt, what a resolver has said that it
    has returned, in the form of that."""
    try:
        JSON_CODEC.load(CallToolResult, found)
    except ValidationError:
        return {"kind": "tool_return", "result": to_jsonable_python(found)}
    return found


def _tokens(payload: object) -> int:
    usage = payload.get("usage") if isinstance(payload, dict) else None
    if not isinstance(usage, dict):
        return 0
    return sum(int(usage.get(name) or 0) for name in ("input_tokens", "output_tokens"))
