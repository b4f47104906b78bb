"""A LangChain callback handler that records runs of graphs as nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.langgraph.run_record import RunRecord
from livingai.adapters.langgraph.run_values import (
    last_name,
    message,
    model_name,
    plain,
    response,
    tool_output,
)
from livingai.adapters.langgraph.tools import is_served
from livingai.asked import check_text, shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, LivingAIError, RunError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability

_log = logging.getLogger("livingai")
Event = TypeVar("Event", bound=Callable[..., None])


def _recording(event: Event) -> Event:
    """What goes wrong in an event is told as a typed error, or remembered."""

    @wraps(event)
    def told(self: LivingAICallbackHandler, *arguments: Any, **named: Any) -> None:
        try:
            event(self, *arguments, **named)
        except LivingAIError as error:
            self._failed(error)
        except Exception as error:  # LangChain told something that this handler does not know
            what = f"{event.__name__} was not recorded: {type(error).__name__}: {error}"
            self._failed(RunError(what), error)

    return cast("Event", told)


class LivingAICallbackHandler(BaseCallbackHandler):
    """Records runs: ``graph.invoke(..., {"callbacks": [LivingAICallbackHandler(engine)]})``.

    ===============  ========  ====================================  ===============================
    what             type      input                                 output
    ===============  ========  ====================================  ===============================
    the graph        BRANCH    what it was invoked with              None: the checkpointer has it
    a node of it     BRANCH    None: the checkpointer has it         what it returned
    a model call     PROMPT    ``messages``; those that the call     the message
                               ``seen_in`` had, too, are ``seen``
    a tool call      TOOL      name, arguments, call_id              what it returned
    a retriever      MEMORY    the query                             the documents
    ===============  ========  ====================================  ===============================

    Each is saved RUNNING before it begins, and again at its end, with its tokens (of the provider's
    answer; ``metadata["cost"]``, if that says what it cost) and its error. What waits for a person
    (``interrupt``) is PENDING; a tool that was cancelled stays RUNNING, which is in doubt. A node's
    parent is what called it. One handler may record any number of runs at once.

    Args:
        engine: where; it stays the caller's, who closes it.
        run_id: the execution of all runs is ``langgraph-run:<run_id>``. By default each run (of the
            outermost graph) is an execution of its own, ``langgraph-run:<thread id>/<run's id>``.
        idempotent: names of tools that may be called again without harm.
        durability: what each record waits for; by default the engine's level, JOURNAL.
        raise_error: whether what cannot be recorded ends the run. If not, it is logged, and raised
            by :meth:`flush`.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        run_id: str | None = None,
        *,
        idempotent: Collection[str] = (),
        durability: Durability | None = None,
        raise_error: bool = True,
    ) -> None:
        check_engine(engine)
        if run_id is not None:
            check_text(run_id, "run_id")
        if isinstance(idempotent, str):
            raise ConfigurationError(f"idempotent is a list of names, not {shown(idempotent)}")
        check_durability(durability)
        self.raise_error = raise_error
        # In an event loop a record is written at once, unless it waits for a disk or a database.
        level = engine.config.durability if durability is None else durability
        self.run_inline = level is Durability.JOURNAL
        self._record = RunRecord(engine, run_id, durability)
        self._idempotent = frozenset(idempotent)
        self._error: LivingAIError | None = None

    # -- graphs and their nodes --

    @_recording
    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        """A graph, a node of one, or a part of a node has begun; parts are not recorded."""
        about, name = metadata or {}, rest.get("name")
        place = self._record.enter(run_id, parent_run_id, about)
        is_root = parent_run_id is None
        if is_root or (name is not None and name == about.get("langgraph_node")):
            node = self._record.node(place, run_id, NodeType.BRANCH, name or last_name(serialized))
            node.input = plain(inputs) if is_root else None
            for key in ("langgraph_step", "langgraph_checkpoint_ns", "thread_id"):
                if key in about:
                    node.metadata[key.removeprefix("langgraph_")] = plain(about[key])
            self._record.begin(run_id, node)

    @_recording
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **rest: Any) -> None:
        """It has ended."""
        node = self._record.ended(run_id)
        if node is not None:
            node.output = None if node.parent_id is None else plain(outputs)
            self._record.finish(node, Status.SUCCESS)

    @_recording
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        """It has failed, or waits for a person."""
        self._record.fail(self._record.ended(run_id), error)

    # -- model calls --

    @_recording
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        """A chat model is about to be called."""
        about = metadata or {}
        node = self._model(serialized, run_id, parent_run_id, about, rest)
        conversation = [each for row in messages for each in row]
        seen, seen_in = self._record.continued(
            node, str(about.get("langgraph_node", "")), conversation
        )
        node.input = {"messages": [message(each) for each in conversation[seen:]]}
        if seen_in is not None:
            node.input |= {"seen": seen, "seen_in": seen_in}
        self._record.begin(run_id, node)

    @_recording
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        """A model that completes text is about to be called."""
        node = self._model(serialized, run_id, parent_run_id, metadata or {}, rest)
        node.input = {"prompts": plain(prompts)}
        self._record.begin(run_id, node)

    def _model(
        self,
        serialized: dict[str, Any],
        run_id: UUID,
        parent_run_id: UUID | None,
        about: dict[str, Any],
        rest: dict[str, Any],
    ) -> ExecutionNode:
        given = {**about, **(rest.get("invocation_params") or {})}
        place = self._record.enter(run_id, parent_run_id, about)
        node = self._record.node(place, run_id, NodeType.PROMPT, model_name(serialized, given))
        if "langgraph_node" in about:
            node.metadata["node"] = str(about["langgraph_node"])
        return node

    @_recording
    def on_llm_new_token(self, token: str, *, run_id: UUID, **rest: Any) -> None:
        """A part of a streamed answer: how many there were, and when the first one came."""
        self._record.chunk(run_id)

    @_recording
    def on_llm_end(self, result: LLMResult, *, run_id: UUID, **rest: Any) -> None:
        """A model has answered."""
        node = self._record.ended(run_id)
        if node is None:
            return
        answer = response(result)
        node.output, node.cost_tokens = answer.output, answer.total_tokens
        if answer.usage:
            node.metadata["usage"] = answer.usage
        if answer.cost is not None:
            node.metadata["cost"] = answer.cost
        self._record.finish(node, Status.SUCCESS)

    @_recording
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        """A model call has failed; what had come of its answer is recorded."""
        node = self._record.ended(run_id)
        if node is not None and isinstance(rest.get("response"), LLMResult):
            node.output = response(rest["response"]).output
        self._record.fail(node, error)

    # -- tools and retrievers --

    @_recording
    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        """A tool is about to be called: its intent."""
        about = metadata or {}
        place = self._record.enter(run_id, parent_run_id, about)
        node = self._record.node(
            place, run_id, NodeType.TOOL, last_name(serialized) or rest.get("name")
        )
        node.input = {
            "name": node.metadata["name"],
            "arguments": plain(input_str if inputs is None else inputs),
            "call_id": rest.get("tool_call_id"),
        }
        if node.metadata["name"] in self._idempotent:
            node.metadata["idempotent"] = True
        self._record.begin(run_id, node)

    @_recording
    def on_tool_end(self, output: Any, *, run_id: UUID, **rest: Any) -> None:
        """A tool has returned; a durable one perhaps what was recorded before (``served``)."""
        node = self._record.ended(run_id)
        if node is not None:
            node.output = tool_output(output)
            if is_served():
                node.metadata["served"] = True
            self._record.finish(node, Status.SUCCESS)

    @_recording
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        """A tool has failed. Where it was cancelled, how far it came is not known."""
        node = self._record.ended(run_id)
        if isinstance(error, Exception):
            self._record.fail(node, error)

    @_recording
    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        """Documents are about to be looked for."""
        place = self._record.enter(run_id, parent_run_id, metadata or {})
        name = rest.get("name") or last_name(serialized)
        node = self._record.node(place, run_id, NodeType.MEMORY, name)
        node.input = query
        self._record.begin(run_id, node)

    @_recording
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **rest: Any) -> None:
        """Documents were found."""
        node = self._record.ended(run_id)
        if node is not None:
            node.output = plain(list(documents))
            self._record.finish(node, Status.SUCCESS)

    @_recording
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        """Looking for documents has failed."""
        self._record.fail(self._record.ended(run_id), error)

    # -- barriers --

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the database has all that was recorded.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
            LivingAIError: something could not be recorded, and ``raise_error`` is False; the first
                such error, once.
        """
        self._record.log.flush_sync(timeout)
        self._check()

    async def aflush(self, timeout: float | None = None) -> None:
        """As :meth:`flush`."""
        await self._record.log.flush(timeout)
        self._check()

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _failed(self, error: LivingAIError, cause: BaseException | None = None) -> None:
        if self.raise_error:
            raise error from cause
        _log.error("a run's record has a gap: %s", error)
        self._error = self._error or error
