"""The ledger of a conversation's tool calls: each of them is made at most once.

A call is a durable run of its own (:meth:`CheckpointEngine.run <livingai.CheckpointEngine.run>`)
with one tool in it: its intent is recorded before the tool is called, its result after. Which run
that is, is said by the model's call id, the tool's name and the arguments.

A program that is started again after a crash may get other call ids from its model. So a call is
also the one that a process has made before it died, with the same tool and arguments, and whose
output never came into the session. Of several such calls, the first is taken first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from agents.items import ItemHelpers
from openai.types.responses import ResponseFunctionToolCall

from livingai.adapters.names import execution_name, part_name
from livingai.adapters.openai_agents.arguments import FRAMEWORK, check_place
from livingai.adapters.openai_agents.items import answered_calls
from livingai.adapters.openai_agents.session import LivingAISession
from livingai.adapters.tool_calls import call_digest, canonical, is_alive
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, InDoubtError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.runs.life import is_life
from livingai.runs.policy import Resolver

_PAGE: Final = 1_000


class _EarlierCall(NamedTuple):
    """A call that was recorded before this ledger was made."""

    execution_id: str
    #: The model's ids of it: the one that it was made with, and those that it was asked for with
    #: later.
    call_ids: list[str]
    tool: ExecutionNode
    #: Whether the process that made it lives, so that its output may still come into the session.
    maker_lives: bool
    #: A process that is calling the tool now; None: there is none on this machine.
    caller: int | None

    @property
    def status(self) -> Status:
        return self.tool.status


class ToolLedger:
    """At most one call of each tool call of a session, or of a run without one.

    Make one for each ``Runner.run``: ``ToolLedger(session)``, or ``ToolLedger(engine, "run-7")``
    with a name that stays the same when the run is resumed.

    Args:
        where: the session that the tools' outputs go to, or an engine.
        run_id: with an engine: which run.
        resolver: decides about calls in doubt, as in ``engine.run``: they were begun and their
            result is not recorded. Without one they raise InDoubtError.
        exclusive: at most once also across machines; takes a commit for each call.
        same_arguments: False: only the model's call id says which call it is.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        where: LivingAISession | CheckpointEngine,
        run_id: str | None = None,
        *,
        resolver: Resolver | None = None,
        exclusive: bool = False,
        same_arguments: bool = True,
    ) -> None:
        self.session = where if isinstance(where, LivingAISession) else None
        if self.session is not None:
            if run_id is not None:
                raise ConfigurationError("a session has a name of its own: leave run_id out")
            self.engine, parts = self.session.engine, ("session", self.session.session_id)
        else:
            check_place(where, run_id, "run_id")
            assert isinstance(where, CheckpointEngine)
            self.engine, parts = where, ("run", str(run_id))
        self._scope = execution_name(FRAMEWORK, "tools", *parts) + "/"
        self._resolver = resolver
        self._exclusive = exclusive
        self._same_arguments = same_arguments
        self._lock = asyncio.Lock()
        self._earlier: dict[str, _EarlierCall] | None = None
        #: By tool and arguments: calls that were lost with their process, oldest first.
        self._lost: dict[str, deque[_EarlierCall]] = defaultdict(deque)

    async def call(
        self,
        tool: str,
        call_id: str,
        arguments: str,
        invoke: Callable[[], Awaitable[Any]],
    ) -> Any:
        """The result of a tool call: recorded, or that of ``await invoke()``, which is recorded.

        Raises:
            InDoubtError: the call was begun before, and nobody knows how it ended.
            DivergenceError, FencedError: as ``engine.run``.
            Exception: what the tool raises, or has raised.
        """
        digest = call_digest(tool, arguments)
        execution_id = await self._execution_of(call_id, digest)

        async def made(arguments: str) -> Any:
            del arguments  # they are recorded, and compared
            return await invoke()

        about = {"framework": FRAMEWORK, "call_id": call_id, "tool": tool}
        async with self.engine.run(
            execution_id, resolver=self._resolver, exclusive=self._exclusive, metadata=about
        ) as run:
            return await run.tool(tool, made, canonical(arguments))

    async def restore_history(self) -> int:
        """Add to the session what calls that were lost with their process have returned: each call
        and its output. So the model sees that they were made. How many there were.

        Raises:
            ConfigurationError: the ledger has no session.
            LivingAIError: as ``session.get_items`` and ``add_items``.
        """
        if self.session is None:
            raise ConfigurationError("restore_history() needs ToolLedger(session)")
        items: list[Any] = []
        async with self._lock:
            await self._load()
            for calls in self._lost.values():
                for lost in [each for each in calls if each.status is Status.SUCCESS]:
                    items += _pair(lost)
                    calls.remove(lost)
            await self.session.add_items(items)
        return len(items) // 2

    # -- which call it is --

    async def _execution_of(self, call_id: str, digest: str) -> str:
        own = self._own(call_id, digest)
        async with self._lock:
            earlier = await self._load()
            known = earlier.get(own)
            if known is None and self._same_arguments and self._lost[digest]:
                known = self._lost[digest].popleft()
            elif known is not None and known in self._lost[digest]:
                self._lost[digest].remove(known)
        if known is None:
            return own
        if known.caller is not None:
            raise InDoubtError(
                f"the tool {known.tool.metadata.get('name')!r} is being called by process "
                f"{known.caller}, which lives: wait for its end",
                (known.tool.id,),
            )
        return known.execution_id

    def _own(self, call_id: str, digest: str) -> str:
        """The execution of a call that nobody has made before."""
        return f"{self._scope}{part_name(call_id)}/{digest}"

    async def _load(self) -> dict[str, _EarlierCall]:
        """The calls that were recorded when this was called first, and are not in the session."""
        if self._earlier is not None:
            return self._earlier
        delivered: set[str] = set()
        cleared_at = 0.0
        if self.session is not None:
            items = await self.session.get_items(limit=-1)  # all
            delivered = {
                self._own(
                    item["call_id"], call_digest(str(item.get("name")), str(item.get("arguments")))
                )
                for item in answered_calls(items)
            }
            cleared_at = await self.session.cleared_at()
        earlier: dict[str, _EarlierCall] = {}
        after: str | None = None
        while True:
            page = await self.engine.executions(prefix=self._scope, after=after, limit=_PAGE)
            for info in page:
                if info.execution_id not in delivered:
                    found = await self._read(info.execution_id)
                    if found is not None:
                        earlier[info.execution_id] = found
            after = page.next_after
            if after is None:
                break
        for call in sorted(earlier.values(), key=lambda each: each.tool.created_at):
            digest = call.execution_id.rpartition("/")[2]
            known_as = {self._own(call_id, digest) for call_id in call.call_ids}
            if (
                not call.maker_lives
                and call.tool.created_at > cleared_at
                and not known_as & delivered
            ):
                self._lost[digest].append(call)
        self._earlier = earlier
        return earlier

    async def _read(self, execution_id: str) -> _EarlierCall | None:
        nodes = await self.engine.nodes(execution_id)
        tools = [node for node in nodes if node.type is NodeType.TOOL]
        if not tools:
            return None  # its process died before it recorded an intent: nothing was called
        lives = [node for node in nodes if is_life(node) and node.status is not Status.PENDING]
        # Nodes come in the order of their first save: what made the call stands before it.
        makers = [node for node in nodes[: nodes.index(tools[0])] if node in lives]
        calling = [int(node.metadata["pid"]) for node in lives if _is_at_work(node)]
        return _EarlierCall(
            execution_id,
            [str(node.metadata.get("call_id")) for node in lives],
            tools[0],
            maker_lives=bool(makers) and is_alive(makers[-1]),
            caller=calling[0] if calling and tools[0].status is Status.RUNNING else None,
        )


def _is_at_work(life: ExecutionNode) -> bool:
    return life.status is Status.RUNNING and is_alive(life)


def _pair(lost: _EarlierCall) -> list[Any]:
    """A call and its output as items of a session."""
    given = lost.tool.input
    arguments = given["args"][0] if isinstance(given, dict) and given.get("args") else "{}"
    call = ResponseFunctionToolCall(
        arguments=str(arguments), call_id=lost.call_ids[0],
        name=str(lost.tool.metadata.get("name")), type="function_call",
    )  # fmt: skip
    output = ItemHelpers.tool_call_output_item(call, lost.tool.output)
    return [call.model_dump(mode="json", exclude_none=True), output]
