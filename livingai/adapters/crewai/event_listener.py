"""What crews and flows of this process did, as nodes of an execution.

CrewAI tells its listeners of tasks, tool calls and model calls, from threads of its own and in no
certain order, while the work goes on. So these nodes are a record for reading, costs and
`livingai status`, not a ledger: a tool may run before its node is there. For tools that must not
happen twice use :meth:`livingai.Run.tool` in the flow's method (docs/frameworks/crewai.md).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from crewai.events.base_event_listener import BaseEventListener
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import CrewAIEventsBus, crewai_event_bus
from crewai.events.types.llm_events import (
    LLMCallCompletedEvent,
    LLMCallFailedEvent,
    LLMCallStartedEvent,
)
from crewai.events.types.task_events import TaskCompletedEvent, TaskFailedEvent, TaskStartedEvent
from crewai.events.types.tool_usage_events import (
    ToolUsageErrorEvent,
    ToolUsageFinishedEvent,
    ToolUsageStartedEvent,
)
from crewai.utilities.serialization import to_serializable

from livingai import serial
from livingai.adapters.arguments import check_engine
from livingai.asked import check_text
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, StateEncodingError
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status

_STARTED: Final = (TaskStartedEvent, ToolUsageStartedEvent, LLMCallStartedEvent)
_ENDED: Final = (TaskCompletedEvent, ToolUsageFinishedEvent, LLMCallCompletedEvent)
_FAILED: Final = (TaskFailedEvent, ToolUsageErrorEvent, LLMCallFailedEvent)
#: Of how many nodes it is remembered that they have ended, for starts that come later.
_REMEMBERED: Final = 10_000


class LivingAIEventListener(BaseEventListener):
    """Records tasks (PROMPT), model calls (PROMPT, with tokens) and tool calls (TOOL).

    Args:
        engine: where to; it stays the caller's to close, behind :meth:`close`.
        execution_id: the execution that gets the nodes. One process at a time writes it.

    A node is RUNNING once it is begun; its parent is the call that it was made in. What CrewAI
    tells of is recorded until :meth:`close`, whichever crew it is of.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(self, engine: CheckpointEngine, execution_id: str) -> None:
        check_engine(engine)
        check_text(execution_id, "execution_id")
        if not execution_id:
            raise ConfigurationError("execution_id must not be empty")
        self.engine = engine
        self.execution_id = execution_id
        self._lock = threading.Lock()
        self._running: dict[str, ExecutionNode] = {}
        self._over: OrderedDict[str, None] = OrderedDict()
        super().__init__()

    def setup_listeners(self, crewai_event_bus: CrewAIEventsBus) -> None:
        """Register with the bus; the constructor calls it."""
        for kinds, handler in self._handlers():
            for kind in kinds:
                crewai_event_bus.on(kind)(handler)

    def close(self) -> None:
        """Record what was told so far, and nothing from now on. May be called again."""
        crewai_event_bus.flush()
        for kinds, handler in self._handlers():
            for kind in kinds:
                crewai_event_bus.off(kind, handler)

    def _handlers(self) -> tuple[tuple[tuple[type[BaseEvent], ...], Any], ...]:
        return (_STARTED, self._started), (_ENDED, self._ended), (_FAILED, self._failed)

    def _started(self, source: Any, event: BaseEvent) -> None:
        key = event.event_id
        node = ExecutionNode(
            self.execution_id,
            NodeType.TOOL if isinstance(event, ToolUsageStartedEvent) else NodeType.PROMPT,
            Status.RUNNING,
            id=f"{self.execution_id}/{key}",
            parent_id=self._parent(event),
            input=_plain(_input(event)),
            metadata=_metadata(event),
            created_at=event.timestamp.timestamp(),
        )
        with self._lock:
            if key in self._over:  # told of later than its end
                return
            self._running[key] = node
            self.engine.save_sync(node)

    def _ended(self, source: Any, event: BaseEvent) -> None:
        output = event.response if isinstance(event, LLMCallCompletedEvent) else event.output
        self._end(event, Status.SUCCESS, output=_plain(output), cost_tokens=_tokens(event))

    def _failed(self, source: Any, event: BaseEvent) -> None:
        error = event.error
        name = type(error).__name__ if isinstance(error, BaseException) else type(event).__name__
        self._end(event, Status.FAILED, error=ErrorInfo(name, str(error)))

    def _end(self, event: BaseEvent, status: Status, **fields: Any) -> None:
        key = event.started_event_id or event.event_id
        with self._lock:
            node = self._running.pop(key, None)
            if node is None:  # its start was before this listener's, or is told of later
                is_tool = isinstance(event, ToolUsageFinishedEvent | ToolUsageErrorEvent)
                node = ExecutionNode(
                    self.execution_id, NodeType.TOOL if is_tool else NodeType.PROMPT,
                    id=f"{self.execution_id}/{key}", parent_id=self._parent(event),
                    input=_plain(_input(event)), metadata=_metadata(event),
                    created_at=event.timestamp.timestamp(),
                )  # fmt: skip
            node.status = status
            node.completed_at = event.timestamp.timestamp()
            node.latency_ms = max(0.0, (node.completed_at - node.created_at) * 1000)
            for name, value in fields.items():
                setattr(node, name, value)
            self._over[key] = None
            if len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)
            self.engine.save_sync(node)

    def _parent(self, event: BaseEvent) -> str | None:
        parent = event.parent_event_id
        return None if parent is None else f"{self.execution_id}/{parent}"


def _input(event: BaseEvent) -> Any:
    if isinstance(event, ToolUsageStartedEvent | ToolUsageFinishedEvent | ToolUsageErrorEvent):
        return {"name": event.tool_name, "arguments": event.tool_args}
    if isinstance(event, LLMCallStartedEvent):
        return {"messages": event.messages, "tools": event.tools}
    return {"context": getattr(event, "context", None)}


def _metadata(event: BaseEvent) -> dict[str, Any]:
    kind, _, _ = event.type.partition("_")
    names = ("task_name", "agent_role", "model", "tool_name")
    about = {name: getattr(event, name, None) for name in names}
    name = about["tool_name"] or about["model"] or about["task_name"] or kind
    return {
        "framework": "crewai",
        "kind": {"task": "task", "tool": "tool"}.get(kind, "model"),
        "name": str(name),
        **{key: str(value) for key, value in about.items() if value},
    }


def _tokens(event: BaseEvent) -> int:
    usage = getattr(event, "usage", None)
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return total if type(total) is int and total > 0 else 0


def _plain(value: Any) -> Any:
    """``value``, or what CrewAI makes of it for JSON: a record for reading, not for going on."""
    try:
        serial.pack(value)
    except StateEncodingError:
        return to_serializable(value)
    return value
