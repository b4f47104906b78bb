"""The nodes of LangChain runs: which execution they are of, and which node is whose parent."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from langchain_core.messages import BaseMessage
from langgraph.errors import GraphBubbleUp

from livingai.adapters.names import execution_name
from livingai.adapters.shared_log import SharedLog
from livingai.engine.engine import CheckpointEngine
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status
from livingai.outcome import Durability

#: What executions of runs begin with; threads are ``langgraph:...``.
FRAMEWORK: Final = "langgraph-run"
#: Of so many conversations the last prompt is remembered, of which later ones are continuations.
_REMEMBERED: Final = 256


class RunPlace(NamedTuple):
    """Where what a run calls is recorded: the execution, and the node that is the parent (None:
    there is none)."""

    execution_id: str
    parent_id: str | None


class RunRecord:
    """Saves nodes as runs begin and end. Thread-safe."""

    def __init__(
        self, engine: CheckpointEngine, run_id: str | None, durability: Durability | None
    ) -> None:
        """``run_id`` names the execution of all runs; None: each outermost run has its own."""
        self.log = SharedLog(engine)
        self._durability = durability
        self._execution_id = None if run_id is None else execution_name(FRAMEWORK, run_id)
        self._lock = threading.Lock()
        self._places: dict[UUID, RunPlace] = {}
        #: What has begun and not ended.
        self._open: dict[UUID, ExecutionNode] = {}
        #: By execution and node of the graph: the last prompt, and the node that records it.
        self._prompts: dict[tuple[str, str], tuple[str, Sequence[BaseMessage]]] = {}

    def enter(self, run_id: UUID, parent_run_id: UUID | None, about: Mapping[str, Any]) -> RunPlace:
        """Where a run that begins is recorded; ``about`` are its metadata."""
        with self._lock:
            place = None if parent_run_id is None else self._places.get(parent_run_id)
            if place is None:
                thread_id = str(about.get("thread_id", "-"))
                own = execution_name(FRAMEWORK, thread_id, str(run_id))
                place = RunPlace(self._execution_id or own, None)
            self._places[run_id] = place
        return place

    def node(
        self, place: RunPlace, run_id: UUID, kind: NodeType, name: str | None
    ) -> ExecutionNode:
        """The node of a run that begins."""
        return ExecutionNode(
            place.execution_id, kind, Status.RUNNING, id=f"{place.execution_id}/{run_id}",
            parent_id=place.parent_id, metadata={"framework": FRAMEWORK, "name": str(name)},
        )  # fmt: skip

    def begin(self, run_id: UUID, node: ExecutionNode) -> None:
        """Save that a run begins; the node is the parent of what it calls.

        Raises:
            LivingAIError: as :meth:`SharedLog.append`.
        """
        with self._lock:
            self._open[run_id] = node
            self._places[run_id] = RunPlace(node.execution_id, node.id)
        self.log.append_sync(node, durability=self._durability)

    def ended(self, run_id: UUID) -> ExecutionNode | None:
        """The node of a run that has ended; None: it has none."""
        with self._lock:
            self._places.pop(run_id, None)
            return self._open.pop(run_id, None)

    def finish(self, node: ExecutionNode, status: Status) -> None:
        """Save how a run has ended. Raises as :meth:`begin`."""
        node.status = status
        node.completed_at = time.time()
        node.latency_ms = max(0.0, node.completed_at - node.created_at) * 1000
        self.log.append_sync(node, durability=self._durability)

    def fail(self, node: ExecutionNode | None, error: BaseException) -> None:
        """Save that a run has failed; or that it waits, for a person, say. Raises as
        :meth:`begin`."""
        if node is None:
            return
        if isinstance(error, GraphBubbleUp):  # an interrupt, a drain: it is gone on with later
            self.finish(node, Status.PENDING)
            return
        node.error = ErrorInfo.from_exception(error)
        self.finish(node, Status.FAILED)

    def continued(
        self, node: ExecutionNode, where: str, messages: Sequence[BaseMessage]
    ) -> tuple[int, str | None]:
        """How many of a prompt's messages are those of the prompt before it, of the same node of
        the graph (``where``), and which node records that one."""
        key = (node.execution_id, where)
        with self._lock:
            node_id, before = self._prompts.pop(key, (None, ()))
            self._prompts[key] = node.id, messages
            while len(self._prompts) > _REMEMBERED:
                del self._prompts[next(iter(self._prompts))]
        if not before or list(messages[: len(before)]) != list(before):
            return 0, None
        return len(before), node_id

    def chunk(self, run_id: UUID) -> None:
        """A part of a model's answer has come; it is saved with the answer."""
        with self._lock:
            node = self._open.get(run_id)
            if node is not None:
                about = node.metadata
                about.setdefault("first_chunk_ms", (time.time() - node.created_at) * 1000)
                about["chunks"] = about.get("chunks", 0) + 1
