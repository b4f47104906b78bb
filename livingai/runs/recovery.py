"""Recovery: where an execution resumes, and which of its side effects have happened.

A node belongs to the plan if its newest version was written after the newest checkpoint, or if it
still runs. So a call that was under way when the checkpoint was taken is in the plan, even if it
was first recorded long before. Each node is in one class:

==================  ==========================================  =================================
class               nodes                                       on resume
==================  ==========================================  =================================
``replay_nodes``    idempotent (all but TOOL, or marked so)      may run again
``skipped_nodes``   not idempotent, SUCCESS recorded             recorded output is served
``in_doubt_nodes``  not idempotent, RUNNING recorded, no result  a resolver decides, never silent
``failed_nodes``    not idempotent, FAILED recorded              recorded error is served
``pending_nodes``   not idempotent, PENDING                      was not begun
==================  ==========================================  =================================

Checkpoints, and the nodes that record that a process entered a run, are in no class.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from livingai.errors import ExecutionNotFoundError
from livingai.names_04 import had_other_keywords
from livingai.node import ExecutionNode, NodeType, Status
from livingai.protocol.history import History, Recorded, without_collector
from livingai.runs.calls import CHECKPOINT, ROLE, RUN
from livingai.runs.effects import ReadHistory, Save, Work, do, drive, drive_sync
from livingai.runs.failures import RAISED, describe
from livingai.runs.in_doubt import ask, in_doubt_error, is_to_retry, resolved_node
from livingai.runs.invoking import Invoke
from livingai.runs.ownership import Ownership
from livingai.runs.policy import ResolutionAction, Resolver
from livingai.runs.ports import RunEngine

_CLASSES = {
    Status.SUCCESS: "skipped",
    Status.RUNNING: "in_doubt",
    Status.FAILED: "failed",
    Status.PENDING: "pending",
}
#: Does a node's work again and returns its output; may be asynchronous in :meth:`replay`.
Handler = Callable[[ExecutionNode], Any]


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """Where an execution resumes; see the table in :mod:`livingai.runs.recovery`.

    ``state`` is the state at ``resume_node_id`` (both None if no checkpoint was ever saved, or
    nothing was ``found``). The nodes in each tuple are in the order of their first save.
    """

    execution_id: str
    found: bool
    resume_node_id: str | None = None
    state: Any = None
    replay_nodes: tuple[ExecutionNode, ...] = ()
    skipped_nodes: tuple[ExecutionNode, ...] = ()
    in_doubt_nodes: tuple[ExecutionNode, ...] = ()
    failed_nodes: tuple[ExecutionNode, ...] = ()
    pending_nodes: tuple[ExecutionNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a resumed agent needs. Its process owns the execution now, with fencing token ``epoch``.

    ``plan`` is that of the moment of the takeover, ``outputs`` the outputs by node id of what is
    not to be done again (and, after :meth:`RecoveryEngine.replay`, of what was), ``errors`` the
    decided failures, ``retry_nodes`` tools that the resolver said to call again, now or before
    (``livingai resolve --retry``).
    """

    plan: RecoveryPlan
    epoch: int
    outputs: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    retry_nodes: tuple[ExecutionNode, ...] = ()


@had_other_keywords
class RecoveryEngine:
    """Plans and carries out the recovery of executions that an engine's store knows.

    For programs that save their own nodes; a program inside of ``engine.run`` needs no plan, it is
    run again.
    """

    def __init__(self, engine: RunEngine) -> None:
        self.engine = engine

    async def plan(self, execution_id: str) -> RecoveryPlan:
        """Work out the plan; an execution that is not known gives one with ``found=False``.

        Queued writes are waited for, so a plan made right after a crash sees everything that was
        saved. Changes nothing. Raises ServiceUnavailableError when the service does not answer.
        """
        try:
            history = await self.engine.history(execution_id, behind_checkpoint=True)
        except ExecutionNotFoundError:
            return RecoveryPlan(execution_id, found=False)
        return make_plan(execution_id, history)

    def plan_sync(self, execution_id: str) -> RecoveryPlan:
        """Twin of :meth:`plan`."""
        try:
            history = self.engine.history_sync(execution_id, behind_checkpoint=True)
        except ExecutionNotFoundError:
            return RecoveryPlan(execution_id, found=False)
        return make_plan(execution_id, history)

    async def recover(self, execution_id: str, *, resolver: Resolver | None = None) -> Recovery:
        """Take the execution over (its next epoch) and decide about tools in doubt.

        What a former owner still writes ends ``fenced``. The resolver's decisions are recorded.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            InDoubtError: tools are in doubt and no resolver has decided; nothing was run, and the
                execution may be recovered again.
            FencedError: another process took it over at the same time.
        """
        return await drive(self.engine, self._recover(execution_id, resolver))

    def recover_sync(self, execution_id: str, *, resolver: Resolver | None = None) -> Recovery:
        """Twin of :meth:`recover`."""
        return drive_sync(self.engine, self._recover(execution_id, resolver))

    async def replay(
        self, execution_id: str, handler: Handler, *, resolver: Resolver | None = None
    ) -> Recovery:
        """:meth:`recover`, then have ``handler(node)`` do ``replay_nodes`` and ``retry_nodes``
        again, in the order of the record; each output is recorded under its node.

        Raises:
            Exception: what :meth:`recover` and the handler raise. If the handler raises for a tool,
                the tool is recorded as FAILED; other nodes stay as they are.
        """
        return await drive(self.engine, self._replay(execution_id, handler, resolver))

    def replay_sync(
        self, execution_id: str, handler: Handler, *, resolver: Resolver | None = None
    ) -> Recovery:
        """Twin of :meth:`replay`."""
        return drive_sync(self.engine, self._replay(execution_id, handler, resolver))

    # -- how --

    def _take(self, execution_id: str) -> Work[tuple[Ownership, RecoveryPlan]]:
        yield from do(ReadHistory(execution_id, behind_checkpoint=True))  # raises if there is none
        known = self.engine.cached(execution_id)
        owner = Ownership(self.engine, execution_id)
        beginning = ExecutionNode(
            execution_id, NodeType.MEMORY, Status.SUCCESS,
            metadata={"name": "recovery", ROLE: RUN}, completed_at=time.time(),
        )  # fmt: skip
        yield from owner.take(beginning)
        history = yield from do(ReadHistory(execution_id, known, behind_checkpoint=True))
        return owner, make_plan(execution_id, history)

    def _recover(self, execution_id: str, resolver: Resolver | None) -> Work[Recovery]:
        owner, plan = yield from self._take(execution_id)
        return (yield from self._resolve(owner, plan, resolver))

    def _resolve(
        self, owner: Ownership, plan: RecoveryPlan, resolver: Resolver | None
    ) -> Work[Recovery]:
        outputs = {node.id: node.output for node in plan.skipped_nodes}
        errors: dict[str, Exception] = {}
        retry = [node for node in plan.pending_nodes if is_to_retry(node)]
        undecided: list[ExecutionNode] = []
        for node in plan.in_doubt_nodes:
            resolution = yield from ask(resolver, node)
            yield from owner.check(ask=True)  # a person may have been asked, for hours
            if resolution is None:
                undecided.append(node)
                continue
            if resolution.action is ResolutionAction.RETRY:
                retry.append(node)
                continue
            yield from do(Save(resolved_node(node, resolution)))
            if resolution.error is not None:
                errors[node.id] = resolution.error
            else:
                outputs[node.id] = resolution.output
        if undecided:
            raise in_doubt_error(plan.execution_id, undecided)
        return Recovery(plan, owner.epoch, outputs, errors, tuple(retry))

    def _replay(
        self, execution_id: str, handler: Handler, resolver: Resolver | None
    ) -> Work[Recovery]:
        owner, plan = yield from self._take(execution_id)
        recovery = yield from self._resolve(owner, plan, resolver)
        again = {node.id for node in recovery.retry_nodes}
        for node in (*plan.replay_nodes, *recovery.retry_nodes):
            yield from owner.check()
            if node.id in again:
                yield from owner.record_intent(replace(node, status=Status.RUNNING))
            began = time.perf_counter()
            try:
                output = yield Invoke(handler, (node,))
            except Exception as error:
                if node.id in again:
                    yield from owner.check()
                    yield from do(Save(_failed(node, error)))
                raise
            latency_ms = (time.perf_counter() - began) * 1e3
            done = replace(
                node, status=Status.SUCCESS, output=output, error=None, latency_ms=latency_ms,
                completed_at=time.time(),
            )  # fmt: skip
            yield from owner.check()
            yield from do(Save(done))
            recovery.outputs[node.id] = output
        return recovery


def _failed(node: ExecutionNode, error: Exception) -> ExecutionNode:
    info, raised = describe(error)
    metadata = {**node.metadata, RAISED: raised}
    return replace(
        node, status=Status.FAILED, error=info, metadata=metadata, completed_at=time.time()
    )


def make_plan(execution_id: str, history: History) -> RecoveryPlan:
    """Sort the nodes of a history into the classes of a plan."""
    checkpoint = history.checkpoint
    version = (0, -1) if checkpoint is None else (checkpoint[1], checkpoint[2])
    classes: dict[str, list[ExecutionNode]] = {
        name: [] for name in ("replay", "skipped", "in_doubt", "failed", "pending")
    }
    with without_collector():
        for recorded in history.nodes:
            if _belongs(recorded, version):
                node = recorded.node
                classes["replay" if node.idempotent else _CLASSES[node.status]].append(node)
    return RecoveryPlan(
        execution_id,
        True,
        None if checkpoint is None else checkpoint[0],
        history.state,
        *map(tuple, classes.values()),
    )


def _belongs(recorded: Recorded, checkpoint: tuple[int, int]) -> bool:
    node = recorded.node
    if node.metadata.get(ROLE) in (RUN, CHECKPOINT):
        return False
    if (recorded.epoch, recorded.seq) > checkpoint:
        return True
    # What carried a state and was never saved again is a checkpoint, whatever its status says.
    return node.status is Status.RUNNING and not (recorded.has_state and node.idempotent)
