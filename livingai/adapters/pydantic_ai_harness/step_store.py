"""The harness's ``StepStore`` on a livingai engine."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from pydantic import ValidationError
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    RunRecord,
    StepEvent,
    ToolEffectRecord,
)

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.names import behind_prefix, part_name
from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.pydantic_ai_harness.records import (
    EFFECT,
    EVENT,
    FRAMEWORK,
    RUN,
    SNAPSHOT,
    corrupt,
    entry_of,
    first_of_each_key,
    in_sequence,
    record_of,
    run_execution,
)
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.turns import Turns
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import NodeRange

_PREFIX: Final = f"{FRAMEWORK}:run/"
_PAGE: Final = 1000
#: Runs that are read at once for a list.
_AT_ONCE: Final = 32
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
        check_engine(engine)
        check_durability(durability)
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
        execution_id = run_execution(record.run_id)
        node = entry_of(execution_id, "begin", RUN.dump_python(record, mode="json"))
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
        known = record_of(RUN, found)
        if found.id == node.id or (same and known.registration_id == record.registration_id):
            return True
        raise ValueError(
            f"run_id {record.run_id!r} is taken by a run that began {known.started_at}; use another"
        )

    async def get_run(self, *, run_id: str) -> RunRecord | None:
        """A run's registration; None: there is none."""
        found = await self._first(run_execution(run_id))
        return None if found is None else record_of(RUN, found)

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
            runs += [record_of(RUN, node) for node in found if node is not None]
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
        node = entry_of(run_execution(event.run_id), "event", EVENT.dump_python(event, mode="json"))
        node.metadata |= {"name": event.kind, "key": event.idempotency_key}
        await self._log.append(node, durability=self._durability)

    async def list_events(self, *, run_id: str) -> list[StepEvent]:
        """A run's events in the order in which they were recorded."""
        found = await self._entries(run_execution(run_id), "event")
        return [record_of(EVENT, each.node) for each in first_of_each_key(found)]

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
        node = entry_of(run_execution(snapshot.run_id), "snapshot", about)
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
        entries = in_sequence(await self._entries(run_execution(run_id), "snapshot"))
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
            return SNAPSHOT.validate_python({**about, "messages": history})
        except ValidationError as error:
            raise corrupt(node, error) from error

    # -- tool calls --

    async def record_tool_effect(self, record: ToolEffectRecord) -> None:
        """Record how far a tool call has come."""
        execution_id = run_execution(record.run_id)
        node = ExecutionNode(
            execution_id, NodeType.TOOL, _STATUSES[record.status],
            id=f"{execution_id}/tool/{part_name(record.tool_call_id)}",
            input={"name": record.tool_name, "call_id": record.tool_call_id},
            output=EFFECT.dump_python(record, mode="json"),
            metadata={"framework": FRAMEWORK, "name": record.tool_name},
            created_at=record.started_at.timestamp(),
        )  # fmt: skip
        if record.ended_at is not None:
            node.completed_at = record.ended_at.timestamp()
            node.latency_ms = max(0.0, (node.completed_at - node.created_at) * 1000)
        await self._log.append(node, durability=self._durability)

    async def get_tool_effect(self, *, run_id: str, tool_call_id: str) -> ToolEffectRecord | None:
        """What is recorded of a tool call; None: nothing."""
        execution_id = run_execution(run_id)
        node_id = f"{execution_id}/tool/{part_name(tool_call_id)}"
        asked = NodeRange(node_id, node_id + "\0", limit=1, states=False)
        page = await self._log.nodes_between(execution_id, asked)
        return record_of(EFFECT, page.nodes[0].node) if page.nodes else None

    async def list_unresolved_tool_effects(self, *, run_id: str) -> list[ToolEffectRecord]:
        """The tool calls that have begun and not ended, the oldest first."""
        found = await self._entries(run_execution(run_id), "tool")
        effects = [record_of(EFFECT, each.node) for each in found]
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
