"""Recovery: from where an execution goes on, and which of its side effects have happened.

A node after the checkpoint falls in one of three classes:

==================  ==========================================  ================================
class               nodes                                       on resume
==================  ==========================================  ================================
``replay_nodes``    idempotent (all but TOOL, or marked so)      may run again
``skipped_nodes``   not idempotent, SUCCESS recorded             recorded output is served
``in_doubt_nodes``  not idempotent, RUNNING recorded, no result  a resolver decides, never silent
==================  ==========================================  ================================

A TOOL that is PENDING or FAILED has had no recorded effect and may be tried again by the agent; it
is listed in ``replay_nodes`` only if it is idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from livingai.engine import CheckpointEngine
from livingai.errors import ExecutionNotFoundError
from livingai.node import ExecutionNode, Status


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """Where an execution resumes; see the table in :mod:`livingai.recovery`.

    ``state`` is the state at ``resume_node_id`` (both None if no checkpoint was ever saved, or
    nothing was ``found``). Node ids in the tuples are in the order of their first save.
    """

    execution_id: str
    found: bool
    resume_node_id: str | None = None
    state: Any = None
    replay_nodes: tuple[ExecutionNode, ...] = ()
    skipped_nodes: tuple[ExecutionNode, ...] = ()
    in_doubt_nodes: tuple[ExecutionNode, ...] = ()


class RecoveryEngine:
    """Plans the recovery of executions that an engine's store knows."""

    def __init__(self, engine: CheckpointEngine) -> None:
        self.engine = engine

    async def plan(self, execution_id: str) -> RecoveryPlan:
        """Work out the plan; an execution that is not known gives one with ``found=False``.

        Queued writes are waited for, so a plan made right after a crash sees everything that was
        saved. Raises ServiceUnavailableError when the service does not answer.
        """
        try:
            nodes = await self.engine.nodes(execution_id)
            resume, state = await self.engine.latest(execution_id)
        except ExecutionNotFoundError:
            return RecoveryPlan(execution_id, found=False)
        return make_plan(execution_id, nodes, resume, state)

    def plan_sync(self, execution_id: str) -> RecoveryPlan:
        """Twin of :meth:`plan`."""
        try:
            nodes = self.engine.nodes_sync(execution_id)
            resume, state = self.engine.latest_sync(execution_id)
        except ExecutionNotFoundError:
            return RecoveryPlan(execution_id, found=False)
        return make_plan(execution_id, nodes, resume, state)


def make_plan(
    execution_id: str, nodes: list[ExecutionNode], resume: ExecutionNode, state: Any
) -> RecoveryPlan:
    """Sort ``nodes`` (in order of first save) into the classes of a plan."""
    ids = [node.id for node in nodes]
    after = ids.index(resume.id) + 1 if state is not None and resume.id in ids else 0
    replay, skipped, in_doubt = [], [], []
    for node in nodes[after:]:
        if node.idempotent:
            replay.append(node)
        elif node.status is Status.SUCCESS:
            skipped.append(node)
        elif node.status is Status.RUNNING:
            in_doubt.append(node)
    return RecoveryPlan(
        execution_id,
        True,
        resume.id if state is not None else None,
        state,
        tuple(replay),
        tuple(skipped),
        tuple(in_doubt),
    )
