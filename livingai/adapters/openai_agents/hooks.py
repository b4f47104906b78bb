"""``RunHooks`` that record what a run does as nodes, for listings, costs and recovery plans."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Any, Self

from agents import RunHooks

from livingai.adapters.arguments import check_durability
from livingai.adapters.names import execution_name
from livingai.adapters.openai_agents.arguments import (
    FRAMEWORK,
    MOMENTS,
    check_place,
)
from livingai.adapters.shared_log import SharedLog
from livingai.engine.engine import CheckpointEngine
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status
from livingai.outcome import Durability


class LivingAIHooks(RunHooks):
    """Records a run as an execution; ``hooks=`` of ``Runner.run``.

    ===========  =======  ==================================  ====================================
    what         type     input                               output
    ===========  ========  =================================  ====================================
    model call   PROMPT   instructions, ``seen`` (how many    the response's items
                          items earlier calls had, too), and
                          the items behind them
    tool         TOOL     name, arguments, call_id            what the model is shown
    handoff      BRANCH   from, to                            None
    agent's end  MEMORY   None                                the agent's output
    ===========  =======  ==================================  ====================================

    Model calls and tools are saved RUNNING before, and again after. The SDK tells hooks of no
    errors: as ``async with LivingAIHooks(engine, "run-1") as hooks:`` around ``Runner.run`` they
    record the error that ended it, too, with what was under way.

    Args:
        engine: where; stays yours to close.
        run_id: which run; the same one for a run that is resumed.
        durability: what each record waits for; by default the engine's, JOURNAL.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self, engine: CheckpointEngine, run_id: str, *, durability: Durability | None = None
    ) -> None:
        check_place(engine, run_id, "run_id")
        check_durability(durability)
        #: The execution that the nodes belong to.
        self.execution_id = execution_name(FRAMEWORK, "run", run_id)
        self._log = SharedLog(engine)
        self._durability = durability
        #: What has begun and not ended, by what the SDK tells of both moments.
        self._open: dict[Any, ExecutionNode] = {}
        self._last_prompt: str | None = None
        self._seen: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record an error, with all that was under way as FAILED."""
        if error is None:
            return
        info = ErrorInfo.from_exception(error)
        under_way, self._open = list(self._open.values()), {}
        if not under_way:
            under_way = [self._node(NodeType.MEMORY, "run", Status.FAILED)]
        for node in under_way:
            # A tool that was cut off may have had its effect: it stays in doubt.
            node.error = info
            if node.type is not NodeType.TOOL:
                node.status = Status.FAILED
                node.completed_at = time.time()
            await self._save(node)

    async def on_llm_start(
        self, context: Any, agent: Any, system_prompt: str | None, input_items: list[Any]
    ) -> None:
        """Record a model call as begun."""
        items = _plain(input_items)
        seen = len(self._seen) if items[: len(self._seen)] == self._seen else 0
        self._seen = items
        node = self._node(NodeType.PROMPT, agent.name)
        node.input = {"instructions": system_prompt, "seen": seen, "items": items[seen:]}
        node.parent_id = self._last_prompt
        self._open[self._key(context, agent, "llm")] = node
        await self._save(node)

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """Record a model's response and its tokens."""
        node = self._open.pop(self._key(context, agent, "llm"), None)
        node = node or self._node(NodeType.PROMPT, agent.name)
        usage = response.usage
        node.output = _plain(response.to_input_items())
        node.cost_tokens = usage.total_tokens
        node.metadata |= {
            "response_id": response.response_id,
            "usage": {"input": usage.input_tokens, "output": usage.output_tokens},
        }
        self._last_prompt = node.id
        await self._finish(node)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """Record a tool's intent."""
        node = self._node(NodeType.TOOL, tool.name, agent=agent.name)
        call_id = getattr(context, "tool_call_id", None)
        node.input = {
            "name": tool.name,
            "arguments": getattr(context, "tool_arguments", None),
            "call_id": call_id,
        }
        node.parent_id = self._last_prompt
        self._open[self._key(context, agent, tool.name, call_id)] = node
        await self._save(node)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: object) -> None:
        """Record a tool's result."""
        call_id = getattr(context, "tool_call_id", None)
        node = self._open.pop(self._key(context, agent, tool.name, call_id), None)
        node = node or self._node(NodeType.TOOL, tool.name, agent=agent.name)
        node.output = _plain(result)
        await self._finish(node)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        """Record that another agent goes on."""
        node = self._node(NodeType.BRANCH, "handoff")
        node.input = {"from": from_agent.name, "to": to_agent.name}
        node.parent_id = self._last_prompt
        await self._finish(node)

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        """Record an agent's final output."""
        node = self._node(NodeType.MEMORY, agent.name)
        node.output = _plain(output)
        node.parent_id = self._last_prompt
        await self._finish(node)

    # -- nodes --

    @staticmethod
    def _key(context: Any, agent: Any, *rest: Any) -> tuple[Any, ...]:
        """The same at the beginning and at the end; a tool has a context of its own."""
        return (id(context) if rest == ("llm",) else None, agent.name, *rest)

    def _node(
        self, kind: NodeType, name: str, status: Status = Status.RUNNING, **about: Any
    ) -> ExecutionNode:
        return ExecutionNode(
            self.execution_id, kind, status, id=f"{self.execution_id}/node/{MOMENTS.next()}",
            metadata={"framework": FRAMEWORK, "name": name, **about},
        )  # fmt: skip

    async def _finish(self, node: ExecutionNode) -> None:
        node.status, node.completed_at = Status.SUCCESS, time.time()
        node.latency_ms = max(0.0, node.completed_at - node.created_at) * 1000
        await self._save(node)

    async def _save(self, node: ExecutionNode) -> None:
        await self._log.append(node, durability=self._durability)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON cannot have as its ``str()``."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    return json.loads(json.dumps(value, default=_shown))


def _shown(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
