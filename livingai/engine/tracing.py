"""Spans of OpenTelemetry for what an engine saves: through the API alone, with whatever SDK the
program has set up; without one they cost a little and go nowhere.

A traced save is a span, with the append to the journal as its child. The record in the journal
bears the span's context (``_trace``, the text of a W3C ``traceparent``). The commit is a child that
is made when its outcome is known, with the times of the outcome, because it happens in another
process, where the program has set up no SDK. It may therefore end after its parent.

Conventions: database (stable) for the commit; GenAI for nodes of prompts and tools
(https://github.com/open-telemetry/semantic-conventions-genai). Inputs, outputs and states are never
in a span. What a replay serves or repeats, what a person has decided, and a node that is saved
again give no GenAI span: nothing outside was done then.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from livingai import serial
from livingai._version import __version__
from livingai.errors import ConfigurationError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Outcome, OutcomeStatus, Receipt
from livingai.queue.layout import ExtensionKey

if TYPE_CHECKING:
    from opentelemetry.trace import Span

#: Ended nodes that are remembered, so that one which is saved again gives no second span.
_REMEMBERED: Final = 10_000
#: What marks a node whose effect was not made by the save's own program, now.
_NOT_DONE_NOW: Final = ("replayed", "replay_of", "replay_mode", "resolved")
_SYSTEMS: Final = {"sqlite": "sqlite", "redis": "redis", "rediss": "redis",
                   "postgresql": "postgresql", "postgres": "postgresql"}  # fmt: skip
_BAD: Final = (OutcomeStatus.FENCED, OutcomeStatus.QUARANTINED)


class TracedSave(NamedTuple):
    """A save that was accepted and has no outcome yet: its span, when it was accepted (Unix time in
    ns), the attributes of its commit."""

    span: Span
    accepted_ns: int
    execution_id: str


class SaveTracer:
    """Makes the spans of one engine. Thread-safe; an observer of outcomes."""

    def __init__(self, store_url: str, *, nodes: bool) -> None:
        """With ``nodes`` prompts and tools give spans of their own, too.

        Raises:
            ConfigurationError: there is no opentelemetry-api.
        """
        try:
            from opentelemetry import trace  # noqa: PLC0415 - only who traces has it
        except ImportError as error:
            raise ConfigurationError(
                "traces need opentelemetry-api, which is not installed: "
                "pip install 'livingai[otel]'"
            ) from error
        self._api = trace
        self._tracer = trace.get_tracer("livingai", __version__)
        self._nodes = nodes
        scheme = store_url.partition(":")[0].partition("+")[0]
        self._system = _SYSTEMS.get(scheme, "")
        self._lock = threading.Lock()
        self._saves: dict[int, TracedSave] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    # -- a save --

    def begin(self, node: ExecutionNode) -> Span:
        """The span of a save, begun; one that is never ended (the save was refused) is nothing."""
        return self._tracer.start_span(
            f"save {node.type.value}",
            kind=self._api.SpanKind.PRODUCER,
            attributes={
                "livingai.execution.id": node.execution_id,
                "livingai.node.id": node.id,
                "livingai.node.type": node.type.value,
                "livingai.node.status": node.status.value,
            },
        )

    def extension(self, span: Span, ext: bytes) -> bytes:
        """The record's extension section with the span's context in it."""
        context = span.get_span_context()
        if not context.is_valid:
            return ext
        tags: Any = serial.unpack(ext) if ext else {}
        trace_id, span_id = self._api.format_trace_id(context.trace_id), context.span_id
        parent = f"00-{trace_id}-{self._api.format_span_id(span_id)}-{context.trace_flags:02x}"
        return serial.pack({**tags, str(ExtensionKey.TRACE): parent})

    def accepted(self, span: Span, receipt: Receipt, began_ns: int, state_bytes: int) -> None:
        """The save's record is in the journal since now; the append began at that Unix time."""
        now_ns = time.time_ns()
        append = self._child(
            span, "append journal", began_ns, {"livingai.state.bytes": state_bytes}
        )
        append.end(now_ns)
        span.end(now_ns)
        if not span.is_recording() and not span.get_span_context().is_valid:
            return
        with self._lock:
            self._saves[receipt.lsn] = TracedSave(span, now_ns, receipt.execution_id)
        if (outcome := receipt.known) is not None:  # it was faster than we
            self(receipt, outcome)

    def refused(self, span: Span, error: BaseException) -> None:
        """Nothing was saved."""
        span.record_exception(error)
        span.set_status(self._api.StatusCode.ERROR, type(error).__name__)
        span.set_attribute("error.type", type(error).__qualname__)
        span.end()

    def __call__(self, receipt: Receipt, outcome: Outcome, /) -> None:
        """A save has its outcome: the span of its commit."""
        with self._lock:
            traced = self._saves.pop(receipt.lsn, None)
        if traced is None:
            return
        about: dict[str, Any] = {
            "db.operation.name": "commit",
            "livingai.execution.id": traced.execution_id,
            "livingai.outcome": str(outcome.status),
        }
        if self._system:
            about["db.system.name"] = self._system
        name = f"commit {self._system}".rstrip()
        kind = self._api.SpanKind.CLIENT
        commit = self._child(traced.span, name, traced.accepted_ns, about, kind)
        if outcome.status in _BAD:
            commit.set_attribute("error.type", str(outcome.status))
            commit.set_status(self._api.StatusCode.ERROR, outcome.reason or str(outcome.status))
        commit.end(traced.accepted_ns + int(outcome.latency_ms * 1e6))

    def _child(
        self, of: Span, name: str, start_ns: int, about: dict[str, Any], kind: Any = None
    ) -> Span:
        return self._tracer.start_span(
            name,
            context=self._api.set_span_in_context(of),
            kind=self._api.SpanKind.INTERNAL if kind is None else kind,
            start_time=start_ns,
            attributes=about,
        )

    # -- prompts and tools --

    def ended(self, node: ExecutionNode) -> None:
        """A node was saved: if it is a prompt or a tool that has just ended, its span."""
        if not self._nodes or node.type not in (NodeType.PROMPT, NodeType.TOOL):
            return
        if node.status not in (Status.SUCCESS, Status.FAILED) or node.completed_at is None:
            return
        if any(mark in node.metadata for mark in _NOT_DONE_NOW) or not self._is_news(node.id):
            return
        name, about = _genai(node)
        end_ns = int(node.completed_at * 1e9)
        chat = node.type is NodeType.PROMPT
        span = self._tracer.start_span(
            name,
            kind=self._api.SpanKind.CLIENT if chat else self._api.SpanKind.INTERNAL,
            start_time=end_ns - int(node.latency_ms * 1e6),
            attributes=about,
        )
        if node.status is Status.FAILED:
            span.set_attribute("error.type", node.error.type if node.error else "_OTHER")
            span.set_status(self._api.StatusCode.ERROR)
        span.end(end_ns)

    def _is_news(self, node_id: str) -> bool:
        with self._lock:
            if node_id in self._ended:
                return False
            self._ended[node_id] = None
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            return True


#: Attributes of a prompt, and the metadata that they are taken from.
_OF_PROMPTS: Final = {
    "gen_ai.provider.name": "provider", "gen_ai.request.model": "model",
    "gen_ai.response.model": "response_model", "gen_ai.response.id": "response_id",
    "gen_ai.usage.input_tokens": "input_tokens", "gen_ai.usage.output_tokens": "output_tokens",
}  # fmt: skip
_OF_TOOLS: Final = {"gen_ai.tool.name": "name", "gen_ai.tool.call.id": "tool_call_id"}


def _genai(node: ExecutionNode) -> tuple[str, dict[str, Any]]:
    """The name of a node's span, and its attributes."""
    chat = node.type is NodeType.PROMPT
    operation = "chat" if chat else "execute_tool"
    about: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.conversation.id": node.execution_id,
        "livingai.node.id": node.id,
    }
    for attribute, key in (_OF_PROMPTS if chat else _OF_TOOLS).items():
        value = node.metadata.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            about[attribute] = value
    if chat and node.cost_tokens and "gen_ai.usage.output_tokens" not in about:
        about["livingai.cost_tokens"] = node.cost_tokens
    what = about.get("gen_ai.request.model" if chat else "gen_ai.tool.name", "")
    return f"{operation} {what}".rstrip(), about
