"""A LlamaIndex runtime whose runs can be resumed.

It runs workflows in this process, as LlamaIndex's own ``BasicRuntime`` does, and keeps

1. what a run's control loop decides, tick by tick, each before it is acted on: the nodes
   ``<execution>/tick/<number>`` of the execution ``llama-index:run/<namespace>/<run id>``;
2. the run's state (``ctx.store``), in :class:`.state_storage.LivingAIStateStorage`.

A run has one process at a time: :meth:`LivingAIRuntime.resume` takes it over, and ticks that its
former process records from then on are fenced. Steps that had begun and not ended are run again, so
a step is run at least once.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

from workflows import Context, Workflow
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import infer_state_type
from workflows.context.state_store_integration import StateStoreFacade
from workflows.events import StartEvent
from workflows.plugins.basic import BasicRuntime, JournalRecord
from workflows.runtime.runtime_decorators import (
    BaseRuntimeDecorator,
)
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import (
    ExternalRunAdapter,
    InternalRunAdapter,
)
from workflows.runtime.types.ticks import WorkflowTick

from livingai.adapters.llama_index.state_storage import LivingAIStateStorage
from livingai.adapters.llama_index.ticking_run import ExternalAdapter, InternalAdapter, TickingRun
from livingai.adapters.names import behind_prefix, execution_name
from livingai.adapters.shared_values import SharedValues
from livingai.asked import check_text
from livingai.engine.engine import CheckpointEngine
from livingai.errors import (
    ConfigurationError,
    CorruptRowError,
    ExecutionNotFoundError,
    FencedError,
)
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.runs.ports import ClaimState, OwnedClaim
from livingai.stores.ranges import NodeRange

#: Digits of a tick's number in its node's id.
_DIGITS: Final = 12
_PAGE: Final = 1000


class LivingAIRuntime(BaseRuntimeDecorator):
    """Runs workflows in this process, and keeps them in an engine's store.

    Args:
        engine: where to; it stays the caller's to close.
        namespace: runs of different namespaces have nothing to do with each other.
        durability: what each tick and each state waits for; by default the engine's level.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        *,
        namespace: str = "default",
        durability: Durability | None = None,
    ) -> None:
        check_text(namespace, "namespace")
        self._values = SharedValues(engine, durability)
        self._engine = engine
        self._namespace = namespace
        self._durability = durability
        #: The runs of this process as long as somebody has an adapter of them, and those at work.
        self._runs: weakref.WeakValueDictionary[str, TickingRun] = weakref.WeakValueDictionary()
        self._at_work: set[TickingRun] = set()
        #: Claims of runs that were taken over and do not go on yet.
        self._claims: dict[str, OwnedClaim] = {}
        self._basic = BasicRuntime()
        super().__init__(self._basic)

    def run_workflow(
        self,
        run_id: str,
        workflow: Workflow,
        init_state: BrokerState,
        start_event: StartEvent | None = None,
        serialized_state: dict[str, Any] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> ExternalRunAdapter:
        """Begin a run, or go on with one; called by ``workflow.run``."""
        active = serializer if serializer is not None else self.get_serializer(workflow)
        storage = LivingAIStateStorage(self._values, run_id, namespace=self._namespace)
        store: StateStoreFacade[Any] = StateStoreFacade(storage, infer_state_type(workflow), active)
        if serialized_state:
            store.add_seed(serialized_state, active)
        run = TickingRun(self._execution(run_id), init_state.journal_seq, active, store)
        inner = super().run_workflow(run_id, workflow, init_state, start_event, None, serializer)
        run.claim = self._claims.pop(run.execution, None)
        self._runs[run_id] = run  # its task begins at the caller's next await
        self._at_work.add(run)
        return ExternalAdapter(inner, run)

    def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
        """See LlamaIndex's ``Runtime``."""
        inner = super().get_internal_adapter(workflow)
        return InternalAdapter(inner, self._runs[inner.run_id], self)

    def get_external_adapter(self, run_id: str) -> ExternalRunAdapter:
        """See LlamaIndex's ``Runtime``."""
        inner = super().get_external_adapter(run_id)
        return ExternalAdapter(inner, self._runs[run_id])

    async def resume(self, workflow: Workflow, run_id: str) -> Context[Any]:
        """Take a run over: the context with which ``workflow.run(ctx=..., run_id=run_id)`` goes on
        where its record ends.

        Raises:
            ExecutionNotFoundError: no such run is recorded.
            CorruptRowError: its record has a gap, or another program has written it.
        """
        execution = self._execution(run_id)
        await self._engine.claim(execution)
        claim = self._engine.own_claim(execution)
        prefix = f"{execution}/tick/"
        asked: NodeRange | None = NodeRange(
            prefix, behind_prefix(prefix), limit=_PAGE, states=False
        )
        records: list[JournalRecord] = []
        while asked is not None:
            page = await self._engine.nodes_between(execution, asked)
            for entry in page:
                data = entry.node.output
                if not isinstance(data, str) or entry.node.id != _tick(execution, len(records)):
                    raise CorruptRowError(f"{entry.node.id} is not the next tick of its run")
                records.append(JournalRecord(len(records), data))
            asked = page.rest
        if not records:
            raise ExecutionNotFoundError(f"no run {run_id} is recorded; begin it without ctx=")
        if claim is not None:
            self._claims[execution] = claim
        return self._basic.restore(workflow, None, records, self.get_serializer(workflow))

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        await self._values.log.flush(timeout)

    async def record(self, run: TickingRun, tick: WorkflowTick) -> None:
        """Record a tick, before it is acted on.

        Raises:
            FencedError: another process has taken the run over.
            LivingAIError: as :meth:`livingai.CheckpointEngine.save`.
        """
        self._check_claim(run)
        node = ExecutionNode(
            run.execution, NodeType.PROMPT, Status.SUCCESS,
            id=_tick(run.execution, run.next),
            output=run.serializer.serialize(tick),
            metadata={"framework": "llama-index", "kind": type(tick).__name__},
        )  # fmt: skip
        node.completed_at = node.created_at
        await self._engine.save(node, durability=self._durability)
        run.next += 1
        if run.claim is None:
            run.claim = self._engine.own_claim(run.execution)
        self._check_claim(run)

    def _check_claim(self, run: TickingRun) -> None:
        if run.claim is None:
            return
        if self._engine.claim_state(run.execution, run.claim) is not ClaimState.HELD:
            raise FencedError(
                f"another process has taken {run.execution} over; this one ends here, and nothing "
                "that it decides from now on is recorded"
            )

    def ended(self, run: TickingRun) -> None:
        """A run's control loop has ended."""
        self._at_work.discard(run)

    def _execution(self, run_id: str) -> str:
        if not isinstance(run_id, str) or not run_id:
            raise ConfigurationError("a run's id must be text")
        return execution_name("llama-index", "run", self._namespace, run_id)


def _tick(execution: str, number: int) -> str:
    return f"{execution}/tick/{number:0{_DIGITS}}"
