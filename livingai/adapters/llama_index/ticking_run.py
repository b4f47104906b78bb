"""A run of this process, with the adapters that its control loop and its caller use: those of
LlamaIndex's ``BasicRuntime``, but with the run's own store, and with each tick recorded."""

from __future__ import annotations

from typing import Any, Protocol

from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import StateStore
from workflows.context.state_store_integration import StateStoreFacade
from workflows.events import StopEvent
from workflows.runtime.runtime_decorators import (
    BaseExternalRunAdapterDecorator,
    BaseInternalRunAdapterDecorator,
)
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import SnapshottableAdapter, V2RuntimeCompatibilityShim
from workflows.runtime.types.ticks import WorkflowTick

from livingai.runs.ports import OwnedClaim


class TickingRun:
    """A run of this process."""

    def __init__(
        self, execution: str, first: int, serializer: BaseSerializer, store: StateStoreFacade[Any]
    ) -> None:
        self.execution = execution
        self.next = first
        self.serializer = serializer
        self.store = store
        #: The claim under which this process records it; None: its first tick makes one.
        self.claim: OwnedClaim | None = None


class TickRecorder(Protocol):
    """What records the ticks of runs."""

    async def record(self, run: TickingRun, tick: WorkflowTick) -> None:
        """Record a tick, before it is acted on."""

    def ended(self, run: TickingRun) -> None:
        """A run's control loop has ended."""


class InternalAdapter(BaseInternalRunAdapterDecorator, SnapshottableAdapter):
    """What the control loop of a run uses."""

    def __init__(self, inner: Any, run: TickingRun, recorder: TickRecorder) -> None:
        super().__init__(inner)
        self._inner = inner
        self._run = run
        self._recorder = recorder

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> StateStore[Any] | None:
        return None if namespace else self._run.store

    async def on_tick(self, tick: WorkflowTick) -> None:
        await self._recorder.record(self._run, tick)
        await super().on_tick(tick)

    async def close(self) -> None:
        self._recorder.ended(self._run)
        await super().close()

    @property
    def init_state(self) -> BrokerState:
        return self._inner.init_state

    def replay(self) -> list[WorkflowTick]:
        ticks: list[WorkflowTick] = self._inner.replay()
        return ticks


class ExternalAdapter(
    BaseExternalRunAdapterDecorator, SnapshottableAdapter, V2RuntimeCompatibilityShim
):
    """What the caller of a run uses: the adapter of ``BasicRuntime``, and the run's own store."""

    def __init__(self, inner: Any, run: TickingRun) -> None:
        super().__init__(inner)
        self._inner = inner
        self._run = run

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> StateStore[Any] | None:
        return None if namespace else self._run.store

    @property
    def init_state(self) -> BrokerState:
        return self._inner.init_state

    def replay(self) -> list[WorkflowTick]:
        ticks: list[WorkflowTick] = self._inner.replay()
        return ticks

    def get_result_or_none(self) -> StopEvent | None:
        return self._inner.get_result_or_none()

    @property
    def is_running(self) -> bool:
        return bool(self._inner.is_running)

    def abort(self) -> None:
        self._inner.abort()
