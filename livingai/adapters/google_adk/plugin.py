"""An ADK plugin that records each invocation as an execution, and calls no tool twice."""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Collection
from typing import Any, Final, Literal, get_args

from google.adk.agents.callback_context import CallbackContext
from google.adk.events.event_actions import EventActions
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from pydantic import ValidationError

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.google_adk.entries import FRAMEWORK, plain, unique
from livingai.adapters.names import behind_prefix, execution_name, part_name
from livingai.adapters.shared_log import SharedLog
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, CorruptRowError, InDoubtError
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.stores.ranges import NodeRange

#: What is done about a tool that was called before a crash, and whose result is not recorded.
InDoubt = Literal["raise", "call", "tell"]
#: So many invocations' earlier tool calls are remembered.
_REMEMBERED: Final = 1024
_PAGE: Final = 1000
_IN_DOUBT: Final = (
    "{tool} was called before the program was interrupted, and its result is not known: it may or "
    "may not have happened."
)
_Nodes = dict[str, ExecutionNode]


class LivingAIPlugin(BasePlugin):
    """Records model calls (PROMPT) and tool calls (TOOL) of each invocation.

    A tool call is recorded before it begins, and again with its result. If ADK resumes an
    invocation (``ResumabilityConfig``) and comes to a call whose result is recorded, that is the
    result, and the tool is not called. One that had begun when the process died is in doubt. If
    its name is in ``idempotent``, it is called again; else ``on_doubt`` says what is done: "raise"
    ends the invocation with an :class:`~livingai.InDoubtError` (which ADK wraps in a
    ``RuntimeError``), "call" calls it again, and "tell" tells the model, in the place of a result,
    that the call may have happened.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        *,
        name: str = "livingai",
        idempotent: Collection[str] = (),
        on_doubt: InDoubt = "raise",
        durability: Durability | None = None,
    ) -> None:
        check_engine(engine)
        if isinstance(idempotent, str):
            raise ConfigurationError(f"idempotent is a list of names, not {shown(idempotent)}")
        if on_doubt not in get_args(InDoubt):
            raise ConfigurationError(
                f"on_doubt must be one of {', '.join(get_args(InDoubt))}, not {shown(on_doubt)}"
            )
        check_durability(durability)
        super().__init__(name)
        self._log = SharedLog(engine)
        self._idempotent = frozenset(idempotent)
        self._on_doubt = on_doubt
        self._durability = durability
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        #: By invocation: the tool calls that were recorded when this process came to it.
        self._earlier: collections.OrderedDict[str, _Nodes] = collections.OrderedDict()
        #: What has begun here: model calls by agent, tool calls by id.
        self._open: _Nodes = {}

    # -- model calls --

    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> None:
        """Record that a model is called. The request's contents are in the session: what is
        recorded is how many there are, and the last one."""
        contents = llm_request.contents or []
        last = contents[-1].model_dump(mode="json", exclude_none=True) if contents else None
        execution_id = _execution(callback_context)
        node = self._node(callback_context, NodeType.PROMPT, f"{execution_id}/model/{unique()}")
        node.input = {"model": llm_request.model, "contents": len(contents), "last": last}
        node.metadata["name"] = callback_context.agent_name
        with self._guarded():
            self._open[_model_key(callback_context)] = node
        await self._log.append(node, durability=self._durability)

    async def after_model_callback(
        self, *, callback_context: CallbackContext, llm_response: LlmResponse
    ) -> None:
        """Record the answer, with its tokens; parts of a streamed one are left out."""
        if llm_response.partial:
            return
        node = self._ended(_model_key(callback_context))
        if node is None:
            return
        usage = llm_response.usage_metadata
        node.output = llm_response.model_dump(mode="json", exclude_none=True)
        node.cost_tokens = (usage.total_token_count if usage is not None else None) or 0
        if llm_response.error_code:
            node.error = ErrorInfo(llm_response.error_code, llm_response.error_message or "")
        await self._finish(node, Status.FAILED if node.error else Status.SUCCESS)

    async def on_model_error_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest, error: Exception
    ) -> None:
        """Record that the call failed."""
        node = self._ended(_model_key(callback_context))
        if node is not None:
            node.error = ErrorInfo.from_exception(error)
            await self._finish(node, Status.FAILED)

    # -- tool calls --

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext
    ) -> dict[str, Any] | None:
        """Record that a tool is about to be called; the recorded result, if there is one.

        Raises:
            InDoubtError: it was called before, and what came of it is not known.
        """
        node_id = _tool_id(tool_context)
        earlier = (await self._earlier_calls(tool_context)).get(node_id)
        if earlier is not None and earlier.status is Status.SUCCESS:
            _act_again(tool_context, earlier)
            output = earlier.output
            return output if isinstance(output, dict) else {"result": output}
        repeatable = tool.name in self._idempotent
        doubtful = earlier is not None and earlier.status is Status.RUNNING and not repeatable
        if doubtful and self._on_doubt == "tell":
            return {"error": _IN_DOUBT.format(tool=tool.name)}
        if doubtful and self._on_doubt == "raise":
            raise InDoubtError(
                f"{_IN_DOUBT.format(tool=tool.name)} This ends the invocation. LivingAIPlugin's "
                f"idempotent= and on_doubt= decide otherwise. (Node {node_id})",
                (node_id,),
            )
        node = self._node(tool_context, NodeType.TOOL, node_id)
        node.input = {"name": tool.name, "arguments": plain(tool_args)}
        node.metadata |= {"name": tool.name, "agent": tool_context.agent_name}
        if repeatable:
            node.metadata["idempotent"] = True
        with self._guarded():
            self._open[node_id] = node
        await self._log.append(node, durability=self._durability)
        return None

    async def after_tool_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
        result: dict[str, Any],
    ) -> None:
        """Record what a tool has returned. A call that only asks the user (for a confirmation, for
        credentials) is PENDING: it will be made again."""
        node = self._ended(_tool_id(tool_context))
        if node is None:
            return
        call_id, actions = tool_context.function_call_id, tool_context.actions
        asks = (
            call_id in actions.requested_tool_confirmations
            or call_id in actions.requested_auth_configs
        )
        node.output = plain(result)
        tool_context.state.has_delta()  # looks for changes inside of values, too
        node.metadata["actions"] = actions.model_dump(
            mode="json", exclude_none=True, exclude_defaults=True
        )
        await self._finish(node, Status.PENDING if asks else Status.SUCCESS)
        with self._guarded():  # the invocation may be resumed by this very process
            self._earlier.setdefault(node.execution_id, {})[node.id] = node

    async def on_tool_error_callback(
        self,
        *,
        tool: BaseTool,
        tool_args: dict[str, Any],
        tool_context: ToolContext,
        error: BaseException,
    ) -> None:
        """Record that a tool has failed. Where the call was cancelled, how far it came is not
        known: it stays RUNNING."""
        node = self._ended(_tool_id(tool_context))
        if node is not None and isinstance(error, Exception):
            node.error = ErrorInfo.from_exception(error)
            await self._finish(node, Status.FAILED)

    async def close(self) -> None:
        """Wait until the store has all that was recorded."""
        await self._log.flush()

    # -- nodes --

    def _node(self, context: CallbackContext, kind: NodeType, node_id: str) -> ExecutionNode:
        session = context.session
        return ExecutionNode(
            _execution(context), kind, Status.RUNNING, id=node_id,
            metadata={
                "framework": FRAMEWORK, "app_name": session.app_name, "user_id": session.user_id,
                "session_id": session.id, "invocation_id": context.invocation_id,
            },
        )  # fmt: skip

    def _ended(self, key: str) -> ExecutionNode | None:
        """What has begun here under that key, which ends now."""
        with self._guarded():
            return self._open.pop(key, None)

    async def _finish(self, node: ExecutionNode, status: Status) -> None:
        node.status = status
        node.completed_at = time.time()
        node.latency_ms = max(0.0, (node.completed_at - node.created_at) * 1000)
        await self._log.append(node, durability=self._durability)

    async def _earlier_calls(self, context: ToolContext) -> _Nodes:
        """The tool calls of an invocation that were recorded before this process came to it."""
        execution_id = _execution(context)
        with self._guarded():
            known = self._earlier.get(execution_id)
        if known is not None:
            return known
        prefix = f"{execution_id}/tool/"
        asked: NodeRange | None = NodeRange(prefix, behind_prefix(prefix), _PAGE, states=False)
        found: _Nodes = {}
        while asked is not None:
            page = await self._log.nodes_between(execution_id, asked)
            found |= {entry.node.id: entry.node for entry in page}
            asked = page.rest
        with self._guarded():
            known = self._earlier.setdefault(execution_id, found)
            if len(self._earlier) > _REMEMBERED:
                self._earlier.popitem(last=False)
        return known

    def _guarded(self) -> threading.Lock:
        if self._pid != os.getpid():  # a forked child, whose parent may hold the lock
            self._begin()
        return self._lock


def _act_again(context: ToolContext, call: ExecutionNode) -> None:
    """Do to an invocation what a recorded call did to it: changes of state, above all.

    Raises:
        CorruptRowError: another program has written into the node.
    """
    try:
        done = EventActions.model_validate(call.metadata.get("actions", {}))
    except ValidationError as error:
        raise CorruptRowError(f"{call.id} holds no actions of a tool: {error}") from error
    context.state.update(done.state_delta)
    for name in done.model_fields_set - {"state_delta"}:
        setattr(context.actions, name, getattr(done, name))


def _execution(context: CallbackContext) -> str:
    session = context.session
    return execution_name(
        FRAMEWORK, "run", session.app_name, session.user_id, context.invocation_id
    )


def _model_key(context: CallbackContext) -> str:
    """An agent's model calls in one branch of an invocation come one after another."""
    branch = context._invocation_context.branch
    return f"model {context.invocation_id} {branch} {context.agent_name}"


def _tool_id(context: ToolContext) -> str:
    """The node of a call.

    Some models use an id of a call again, and ADK makes a call again when the user has confirmed
    it. Then the session has answers to that id already, and which one is missing is in the node's
    id. A call that is resumed has none, so it comes to its own node.
    """
    call_id = context.function_call_id or "-"
    answers = sum(
        answer.id == call_id
        for event in context.session.events
        if event.invocation_id == context.invocation_id
        for answer in event.get_function_responses()
    )
    return f"{_execution(context)}/tool/{part_name(call_id)}{f'~{answers}' if answers else ''}"
