"""Replay over the recorded graph: the handler is called for nodes in recorded order.

Written as :mod:`effects <livingai.runs.effects>`. Rules, in this order:

1. A node whose output is replaced is not run. One whose input is replaced runs with it.
2. FULL runs all. FROM_NODE serves what was saved before the node. MOCK_TOOLS serves tools.
   COUNTERFACTUAL serves what does not descend (by ``parent_id``) from a node that is replaced by
   something other than was recorded.
3. Of what is left, a node that is not idempotent is served if its input is the recorded one,
   unless side effects are allowed.
4. A node below one that failed in the replay, though not in the record, does not run: it is missing
   in the replay.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from livingai.errors import (
    ConsentRequiredError,
    InvalidNodeError,
    StateEncodingError,
    StateTooLargeError,
)
from livingai.node import MAX_ID_BYTES, ErrorInfo, ExecutionNode, NodeType, Status, new_id
from livingai.outcome import Durability
from livingai.replay.compare import How, NodeComparison, compare, name_of
from livingai.replay.handlers import CallHandler, NodeHandler, ReplayInputs
from livingai.replay.mode import Override, ReplayMode, Request
from livingai.replay.recording import Recording, fresh
from livingai.runs.calls import CHECKPOINT, ROLE
from livingai.runs.diff import differences
from livingai.runs.effects import Save, Work, do

_NO_OVERRIDE = Override()
_UNENCODABLE = (InvalidNodeError, StateEncodingError, StateTooLargeError)


class GraphReplay:
    """One replay of a graph: do the :meth:`work`, then read what it holds."""

    def __init__(
        self, recording: Recording, request: Request, execution_id: str, state: Any = None
    ) -> None:
        """``state`` is the checkpoint to start from, for FROM_NODE.

        Raises:
            NodeNotFoundError: a node that was named is not in the record.
            ConsentRequiredError: a tool with side effects would be called.
        """
        self.recording = recording
        self.request = request
        self.execution_id = execution_id
        self.state = state
        self.error: ErrorInfo | None = None
        self.nodes: list[NodeComparison] = []
        self._failed: set[str] = set()
        self._outputs: dict[str, Any] = {}
        self._ids = {node.id: _replay_id(node.id) for node in recording.nodes}
        self._running = self._choose()
        self._require_consent()

    @property
    def running_nodes(self) -> list[ExecutionNode]:
        """The recorded nodes that run."""
        return [node for node in self.recording.nodes if node.id in self._running]

    # -- what runs --

    def _choose(self) -> set[str]:
        """Ids of the nodes that run; see the rules above. Checkpoints never run."""
        return self._chosen() - {
            node.id for node in self.recording.nodes if node.metadata.get(ROLE) == CHECKPOINT
        }

    def _chosen(self) -> set[str]:
        request, recording = self.request, self.recording
        ids = [node.id for node in recording.nodes]
        if request.mode is ReplayMode.FULL:
            return set(ids)
        if request.mode is ReplayMode.MOCK_TOOLS:
            return {
                node.id for node in recording.nodes
                if node.type is not NodeType.TOOL and node.idempotent
            }  # fmt: skip
        if request.mode is ReplayMode.FROM_NODE:
            assert request.node_id is not None
            recording.node(request.node_id)
            chosen = set(ids[ids.index(request.node_id) :])
            given = set[str]()
        else:
            replaced = {
                node_id for node_id, override in request.overrides.items()
                if _replaces(recording.node(node_id), override)
            }  # fmt: skip
            given = {node_id for node_id in replaced if request.overrides[node_id].has_input}
            chosen = recording.descendants(replaced) | given
            chosen -= {key for key, each in request.overrides.items() if each.has_output}
        if not request.allow_side_effects:
            chosen = {key for key in chosen if recording.by_id[key].idempotent or key in given}
        return chosen

    def _require_consent(self) -> None:
        risky = [node for node in self.running_nodes if not node.idempotent]
        if risky and not self.request.allow_side_effects:
            raise ConsentRequiredError(
                f"{self.request.mode.name} of {self.recording.execution_id!r} would run "
                f"{len(risky)} nodes with side effects again ({name_of(risky[0])}, {risky[0].id}); "
                "pass allow_side_effects=True if that is what you want, or use MOCK_TOOLS"
            )

    # -- the replay --

    def work(self, handler: NodeHandler) -> Work[None]:
        """Go through the graph: call the handler or take what is recorded, and save each node.

        Raises whatever a save raises. A handler's output that cannot be encoded raises that, too,
        after the node was saved as FAILED.
        """
        first_run = True
        for position, recorded in enumerate(self.recording.nodes):
            if recorded.parent_id in self._failed:
                self._failed.add(recorded.id)
                self.nodes.append(compare(recorded, None))
                continue
            override = self.request.overrides.get(recorded.id, _NO_OVERRIDE)
            node = self._prepared(recorded)
            if override.has_output:
                node.output, node.status, node.error = override.output, Status.SUCCESS, None
                yield from self._save(node, recorded, How.REPLACED)
            elif recorded.id in self._running:
                first_run = False
                yield from self._run(handler, node, recorded)
            else:
                # What is restored belongs to the last node before the first one that runs.
                rest = self.recording.nodes[position + 1 : position + 2]
                last = first_run and (not rest or rest[0].id in self._running)
                yield from self._save(node, recorded, How.SERVED, self.state if last else None)

    def _prepared(self, recorded: ExecutionNode) -> ExecutionNode:
        """A copy of what was recorded, with the input that replaces it, if one does."""
        override = self.request.overrides.get(recorded.id, _NO_OVERRIDE)
        node = fresh(recorded)
        if override.has_input:
            node.input = override.input
        return node

    def _run(
        self, handler: NodeHandler, node: ExecutionNode, recorded: ExecutionNode
    ) -> Work[None]:
        inputs = ReplayInputs(node, self.request.mode, self._outputs, self.state)
        if not node.idempotent:
            intent = self._renamed(node, How.RUN, status=Status.RUNNING)
            yield from do(Save(intent, Durability.FSYNC))
        answer = yield from do(CallHandler(handler, node, inputs))
        done = self._prepared(recorded)  # the handler may have changed the other one
        done.latency_ms, done.cost_tokens = answer.latency_ms, int(inputs.cost_tokens)
        self.state = inputs.state
        if answer.error is None:
            done.status, done.output, done.error = Status.SUCCESS, answer.output, None
        else:
            done.status, done.output = Status.FAILED, None
            done.error = ErrorInfo.from_exception(answer.error)
            self._note_failure(recorded, done.error)
        yield from self._save(done, recorded, How.RUN, self.state)

    def _note_failure(self, recorded: ExecutionNode, error: ErrorInfo) -> None:
        if recorded.status is not Status.FAILED:
            self._failed.add(recorded.id)
            self.error = self.error or error

    def _save(
        self, node: ExecutionNode, recorded: ExecutionNode, how: How, state: Any = None
    ) -> Work[None]:
        if how is not How.RUN:
            node.cost_tokens, node.latency_ms = 0, 0.0  # paid for in the recorded run
        saved = self._renamed(node, how)
        try:
            yield from do(Save(saved, None, state))
        except _UNENCODABLE as error:
            failed = replace(
                saved, input=recorded.input, output=None, status=Status.FAILED,
                error=ErrorInfo.from_exception(error),
            )  # fmt: skip
            yield from do(Save(failed))
            what = "what the handler returned for" if how is How.RUN else "the override of"
            error.add_note(f"it is {what} {name_of(recorded)!r} ({recorded.id})")
            raise
        self._outputs[recorded.id] = node.output
        self.nodes.append(compare(recorded, saved, how))

    def _renamed(
        self, node: ExecutionNode, how: How, status: Status | None = None
    ) -> ExecutionNode:
        """The node under its name in the new execution."""
        mark = {
            "parent_execution": self.recording.execution_id,
            "replay_mode": self.request.mode.value,
            "replay_of": node.id,
            "replayed": how.value,
        }
        parent = self._ids.get(node.parent_id, node.parent_id) if node.parent_id else None
        now = time.time()
        return replace(
            node, execution_id=self.execution_id, id=self._ids[node.id], parent_id=parent,
            status=status or node.status, metadata={**node.metadata, **mark},
            output=None if status is Status.RUNNING else node.output,
            created_at=now, completed_at=None if status is Status.RUNNING else now,
        )  # fmt: skip


def _replaces(recorded: ExecutionNode, override: Override) -> bool:
    """Whether an override gives anything but what was recorded."""
    if override.has_output:
        same = recorded.status is Status.SUCCESS
        return not same or bool(differences(recorded.output, override.output, limit=1))
    return bool(differences(recorded.input, override.input, limit=1))


def _replay_id(node_id: str) -> str:
    """A new id that begins with the recorded node's id, if both fit into the longest id."""
    own = new_id()
    name = f"{node_id}~{own}"
    return name if len(name.encode("utf-8", "replace")) <= MAX_ID_BYTES else own
