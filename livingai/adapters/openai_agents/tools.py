"""``durable_tool``: a function tool whose calls are in a ledger."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import agents.tool
from agents import FunctionTool, ToolOutputFileContent, ToolOutputImage, ToolOutputText
from agents.tool_context import ToolContext

from livingai import serial
from livingai.adapters.openai_agents.ledger import ToolLedger
from livingai.asked import shown
from livingai.errors import ConfigurationError, StateEncodingError

#: The SDK looks for this class before it shows arguments to a tool's own approval policy. Without
#: it (it is no public name) such policies cannot be kept.
_Invoker: Any = getattr(agents.tool, "_FailureHandlingFunctionToolInvoker", object)
#: What a tool may return that is more than text.
_STRUCTURED = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)


def durable_tool(
    tool: FunctionTool, ledger: ToolLedger | Callable[[ToolContext[Any]], ToolLedger]
) -> FunctionTool:
    """A copy of a function tool that is called at most once for each call in the ledger.

    Args:
        tool: what ``@function_tool`` makes.
        ledger: the ledger, or, for tools that live longer than a run, a function that finds it:
            ``lambda context: context.context.ledger``.

    The copy's output is what was recorded: text, structured outputs as dicts, other plain values as
    they are, anything else as ``str()`` of it, which is what the SDK shows to the model.

    Errors of the ledger, such as ``InDoubtError``, end the run: the SDK raises a ``UserError``
    whose ``__cause__`` they are.

    Raises:
        ConfigurationError: it is no function tool, or an agent as a tool, which may pause in the
            middle: wrap the tools of that agent instead.
    """
    if not isinstance(tool, FunctionTool):
        raise ConfigurationError(f"durable_tool takes a FunctionTool, not {shown(tool)}")
    if getattr(tool, "_is_agent_tool", False):
        raise ConfigurationError(
            f"{tool.name!r} is an agent, which may pause in the middle of its run: wrap the tools "
            "of that agent instead"
        )
    if not isinstance(ledger, ToolLedger) and not callable(ledger):
        raise ConfigurationError(
            f"ledger must be a ToolLedger, or a function that gives one, not {shown(ledger)}"
        )
    if callable(tool.needs_approval) and _Invoker is object:
        raise ConfigurationError(
            f"{tool.name!r} has an approval policy of its own, which this release of openai-agents "
            "does not let a wrapper keep: pass needs_approval=True"
        )
    wrapped = copy.copy(tool)
    adapter = getattr(tool, "_output_type_adapter", None)
    wrapped.on_invoke_tool = _DurableInvoker(wrapped.on_invoke_tool, ledger, adapter)
    return wrapped


class _DurableInvoker(_Invoker):
    """What the SDK calls instead of a tool's own invoker."""

    def __init__(self, inner: Any, ledger: Any, adapter: Any) -> None:
        self._inner = inner
        self._ledger = ledger
        self._adapter = adapter
        # Where the inherited methods look for what @function_tool knows of its function.
        self._invoke_tool_impl = getattr(inner, "_invoke_tool_impl", inner)
        for name, value in getattr(inner, "__dict__", {}).items():
            if name.startswith("__agents_"):
                setattr(self, name, value)

    def __agents_bind_function_tool__(self, tool: FunctionTool) -> _DurableInvoker:
        bind = getattr(self._inner, "__agents_bind_function_tool__", None)
        inner = bind(tool) if callable(bind) else self._inner
        return _DurableInvoker(inner, self._ledger, self._adapter)

    async def __call__(self, ctx: ToolContext[Any], input: str) -> Any:
        ledger = self._ledger if isinstance(self._ledger, ToolLedger) else self._ledger(ctx)
        if not isinstance(ledger, ToolLedger):
            raise ConfigurationError(f"{shown(ledger)} was given as the ledger of {ctx.tool_name}")

        async def invoke() -> Any:
            return self._plain(await self._inner(ctx, input))

        return await ledger.call(ctx.tool_name, ctx.tool_call_id, input, invoke)

    def _plain(self, output: Any) -> Any:
        """What is recorded of an output, and means the same to the SDK."""
        if self._adapter is not None:
            return self._adapter.dump_json(output, by_alias=True).decode()
        if isinstance(output, _STRUCTURED):
            return output.model_dump(mode="json", exclude_none=True)
        if isinstance(output, list | tuple) and any(isinstance(e, _STRUCTURED) for e in output):
            return [self._plain(each) for each in output]
        try:
            serial.pack(output)
        except StateEncodingError:
            return str(output)
        return output
