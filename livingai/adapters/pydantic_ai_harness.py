"""Pydantic AI's harness: a ``StepStore`` on a livingai engine.

``StepPersistence(store=LivingAIStepStore(engine))`` records each run of an agent: what it did, the
message histories from which it can be continued, and which tool calls were begun and not ended. See
``docs/frameworks/pydantic-ai-harness.md``.

A run is an execution, ``pydantic-ai:run/<run id>``. Its registration, events and snapshots are
entries that never change; what is left out because it was recorded twice is decided when they are
read, in the store's order, so everybody decides alike. A tool call is a TOOL node: RUNNING until it
has ended, as in a run of the engine's own.

Raises:
    FrameworkVersionError: pydantic-ai-harness is not installed, or not in a supported version.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from livingai.adapters.versions import require

require("pydantic-ai-harness", at_least="0.62", below="0.63", extra="pydantic-ai-harness")

from pydantic import TypeAdapter, ValidationError  # noqa: E402
from pydantic_ai.messages import ModelMessagesTypeAdapter  # noqa: E402
from pydantic_ai_harness.step_persistence import (  # noqa: E402
    ContinuableSnapshot,
    RunRecord,
    StepEvent,
    ToolEffectRecord,
)

from livingai.adapters.names import behind_prefix, execution_name, part_name  # noqa: E402
from livingai.adapters.owned_log import OwnedLog  # noqa: E402
from livingai.adapters.shared_log import SharedLog  # noqa: E402
from livingai.adapters.turns import Turns  # noqa: E402
from livingai.asked import shown  # noqa: E402
from livingai.engine.engine import CheckpointEngine  # noqa: E402
from livingai.errors import ConfigurationError, CorruptRowError  # noqa: E402
from livingai.node import ExecutionNode, NodeType, Status  # noqa: E402
from livingai.outcome import Durability  # noqa: E402
from livingai.protocol.ranges import RangedNode  # noqa: E402
from livingai.stores.ranges import NodeRange  # noqa: E402

T = TypeVar("T")
FRAMEWORK: Final = "pydantic-ai"
_PREFIX: Final = f"{FRAMEWORK}:run/"
_PAGE: Final = 1000
#: Runs that are read at once for a list.
_AT_ONCE: Final = 32
_RUN: Final[TypeAdapter[Any]] = TypeAdapter(RunRecord)
_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(StepEvent)
_EFFECT: Final[TypeAdapter[Any]] = TypeAdapter(ToolEffectRecord)
_STATUSES: Final = {
    "started": Status.RUNNING, "completed": Status.SUCCESS, "failed": Status.FAILED,
}  # fmt: skip


class LivingAIStepStore:
    """The harness's ``StepStore``: runs, their events and snapshots, and tool calls, shared by all
    processes that use the engine's store.

    What a method records is durable when it returns: it survives the death of every process, at
    ``durability`` (by default the engine's). The engine stays the caller's to close.

    Raises:
        ConfigurationError: ``engine`` is no engine, or ``durability`` no level.
    """

    def __init__(self, engine: CheckpointEngine, *, durability: Durability | None = None) -> None:
        if not isinstance(engine, CheckpointEngine):
            raise ConfigurationError(f"engine must be a CheckpointEngine, not {shown(engine)}")
        if durability is not None and not isinstance(durability, Durability):
            raise ConfigurationError(
                f"durability must be a livingai.Durability or None, not {shown(durability)}"
            )
        self._log = SharedLog(engine)
        self._owned = OwnedLog(self._log)
        self._durability = durability
        self._pid = os.getpid()
        self._turns = Turns()

    # -- runs --

    async def register_run(self, record: RunRecord) -> None:
        """Record that a run begins. The same registration again changes nothing.

        Raises:
            ValueError: there is another run of that id.
        """
        execution_id = _execution(record.run_id)
        node = _node(execution_id, "begin", _RUN.dump_python(record, mode="json"))
        if self._pid != os.getpid():  # a forked child, whose parent may have the turn
            self._pid, self._turns = os.getpid(), Turns()
        async with self._turns.of(execution_id):
            while True:
                if await self._is_registered(record, node):
                    return
                claim = await self._owned.take_over(execution_id)
                if await self._is_registered(record, node):
                    return
                if await self._owned.append_under(claim, node, durability=self._durability):
                    return

    async def _is_registered(self, record: RunRecord, node: ExecutionNode) -> bool:
        found = await self._first(node.execution_id)
        if found is None:
            return False
        same = record.registration_id is not None
        known = _record(_RUN, found)
        if found.id == node.id or (same and known.registration_id == record.registration_id):
            return True
        raise ValueError(
            f"run_id {record.run_id!r} is taken by a run that began {known.started_at}; use another"
        )

    async def get_run(self, *, run_id: str) -> RunRecord | None:
        """A run's registration; None: there is none."""
        found = await self._first(_execution(run_id))
        return None if found is None else _record(_RUN, found)

    async def _first(self, execution_id: str) -> ExecutionNode | None:
        self._log.check(execution_id)
        found = await self._entries(execution_id, "begin")
        return found[0].node if found else None

    async def list_runs(
        self, *, parent_run_id: str | None = None, conversation_id: str | None = None
    ) -> list[RunRecord]:
        """The runs of a parent, of a conversation, or all, in the order of their begins."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def first(execution_id: str) -> ExecutionNode | None:
            async with at_once:
                return await self._first(execution_id)

        runs: list[RunRecord] = []
        after: str | None = None
        while True:
            page = await self._log.engine.executions(prefix=_PREFIX, after=after, limit=_PAGE)
            found = await asyncio.gather(*(first(each.execution_id) for each in page))
            runs += [_record(_RUN, node) for node in found if node is not None]
            after = page.next_after
            if after is None:
                break
        return sorted(
            (
                run
                for run in runs
                if parent_run_id in (None, run.parent_run_id)
                and conversation_id in (None, run.conversation_id)
            ),
            key=lambda run: run.started_at,
        )

    # -- events --

    async def append_event(self, event: StepEvent) -> None:
        """Record an event; of those with the same idempotency key, the first one counts."""
        node = _node(_execution(event.run_id), "event", _EVENT.dump_python(event, mode="json"))
        node.metadata |= {"name": event.kind, "key": event.idempotency_key}
        await self._log.append(node, durability=self._durability)

    async def list_events(self, *, run_id: str) -> list[StepEvent]:
        """A run's events in the order in which they were recorded."""
        found = await self._entries(_execution(run_id), "event")
        return [_record(_EVENT, each.node) for each in _first_of_each_key(found)]

    # -- snapshots --

    async def save_snapshot(self, snapshot: ContinuableSnapshot) -> None:
        """Record a message history. One whose idempotency key has come before, or begins with a
        lower number than one that came before, is left out."""
        about = {
            "run_id": snapshot.run_id, "step_index": snapshot.step_index,
            "conversation_id": snapshot.conversation_id, "parent_run_id": snapshot.parent_run_id,
            "agent_name": snapshot.agent_name, "timestamp": snapshot.timestamp.isoformat(),
            "state": snapshot.state, "idempotency_key": snapshot.idempotency_key,
        }  # fmt: skip
        node = _node(_execution(snapshot.run_id), "snapshot", about)
        node.metadata |= {"state": snapshot.state, "key": snapshot.idempotency_key}
        messages = ModelMessagesTypeAdapter.dump_python(snapshot.messages, mode="json")
        await self._log.append(node, messages, durability=self._durability)

    async def latest_snapshot(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> ContinuableSnapshot | None:
        """The newest history whose tool calls are settled, or the newest of all; None: there is
        none."""
        entries = await self._snapshots(run_id, include_interrupted)
        return await self._snapshot(entries[-1].node) if entries else None

    async def list_snapshots(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> list[ContinuableSnapshot]:
        """The histories of a run in the order in which they were recorded."""
        entries = await self._snapshots(run_id, include_interrupted)
        return [await self._snapshot(each.node) for each in entries]

    async def _snapshots(self, run_id: str, include_interrupted: bool) -> list[RangedNode]:
        entries = _in_sequence(await self._entries(_execution(run_id), "snapshot"))
        return [
            each
            for each in entries
            if include_interrupted or each.node.metadata.get("state") == "complete"
        ]

    async def _snapshot(self, node: ExecutionNode) -> ContinuableSnapshot:
        page = await self._log.nodes_between(
            node.execution_id, NodeRange(node.id, node.id + "\0", limit=1)
        )
        messages = page.nodes[0].state if page.nodes else None
        about = node.output if isinstance(node.output, dict) else {}
        try:
            history = ModelMessagesTypeAdapter.validate_python(messages)
            return _SNAPSHOT.validate_python({**about, "messages": history})
        except ValidationError as error:
            raise _corrupt(node, error) from error

    # -- tool calls --

    async def record_tool_effect(self, record: ToolEffectRecord) -> None:
        """Record how far a tool call has come."""
        execution_id = _execution(record.run_id)
        node = ExecutionNode(
            execution_id, NodeType.TOOL, _STATUSES[record.status],
            id=f"{execution_id}/tool/{part_name(record.tool_call_id)}",
            input={"name": record.tool_name, "call_id": record.tool_call_id},
            output=_EFFECT.dump_python(record, mode="json"),
            metadata={"framework": FRAMEWORK, "name": record.tool_name},
            created_at=record.started_at.timestamp(),
        )  # fmt: skip
        if record.ended_at is not None:
            node.completed_at = record.ended_at.timestamp()
            node.latency_ms = max(0.0, (node.completed_at - node.created_at) * 1000)
        await self._log.append(node, durability=self._durability)

    async def get_tool_effect(self, *, run_id: str, tool_call_id: str) -> ToolEffectRecord | None:
        """What is recorded of a tool call; None: nothing."""
        execution_id = _execution(run_id)
        node_id = f"{execution_id}/tool/{part_name(tool_call_id)}"
        asked = NodeRange(node_id, node_id + "\0", limit=1, states=False)
        page = await self._log.nodes_between(execution_id, asked)
        return _record(_EFFECT, page.nodes[0].node) if page.nodes else None

    async def list_unresolved_tool_effects(self, *, run_id: str) -> list[ToolEffectRecord]:
        """The tool calls that have begun and not ended, the oldest first."""
        found = await self._entries(_execution(run_id), "tool")
        effects = [_record(_EFFECT, each.node) for each in found]
        return [each for each in effects if each.status == "started"]

    async def flush(self) -> None:
        """Wait until the store has all that this process has recorded.

        Raises:
            RecordRefusedError: the store has refused an entry for good; it is kept aside.
        """
        await self._log.flush()

    async def _entries(self, execution_id: str, kind: str) -> list[RangedNode]:
        """A run's entries of a kind, without states, in the order in which the store had them."""
        prefix = f"{execution_id}/{kind}/"
        asked: NodeRange | None = NodeRange(prefix, behind_prefix(prefix), _PAGE, states=False)
        found: list[RangedNode] = []
        while asked is not None:
            page = await self._log.nodes_between(execution_id, asked)
            found += page.nodes
            asked = page.rest
        return sorted(found, key=lambda each: each.first)


_SNAPSHOT: Final[TypeAdapter[Any]] = TypeAdapter(ContinuableSnapshot)


def _execution(run_id: str) -> str:
    return execution_name(FRAMEWORK, "run", run_id)


def _node(execution_id: str, kind: str, output: Any) -> ExecutionNode:
    now = time.time()
    return ExecutionNode(
        execution_id, NodeType.MEMORY, Status.SUCCESS, output=output,
        id=f"{execution_id}/{kind}/{time.time_ns():016x}-{secrets.token_hex(6)}",
        metadata={"framework": FRAMEWORK, "kind": kind}, created_at=now, completed_at=now,
    )  # fmt: skip


def _first_of_each_key(entries: Iterable[RangedNode]) -> list[RangedNode]:
    seen: set[object] = set()
    counting = []
    for entry in entries:
        key = entry.node.metadata.get("key")
        if key is None or key not in seen:
            counting.append(entry)
            seen.add(key)
    return counting


def _in_sequence(entries: Iterable[RangedNode]) -> list[RangedNode]:
    """Without those that a run which was replayed has saved again: a key is ``<number>:...``, and
    the numbers of a run ascend."""
    highest = -1
    counting = []
    for entry in _first_of_each_key(entries):
        number, colon, _ = str(entry.node.metadata.get("key")).partition(":")
        if colon and number.isascii() and number.isdigit():
            if int(number) < highest:
                continue
            highest = int(number)
        counting.append(entry)
    return counting


def _record(kind: TypeAdapter[T], node: ExecutionNode) -> T:
    try:
        return kind.validate_python(node.output)
    except ValidationError as error:
        raise _corrupt(node, error) from error


def _corrupt(node: ExecutionNode, error: ValidationError) -> CorruptRowError:
    return CorruptRowError(
        f"{node.id} holds no record that this version of pydantic-ai-harness takes; another "
        f"program, or a newer version, has written it: {error}"
    )
