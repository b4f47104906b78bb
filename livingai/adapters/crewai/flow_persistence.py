"""CrewAI's ``FlowPersistence``: the states of flows, and feedback that a flow waits for.

A flow is an execution, ``crewai:flow/<namespace>/<flow id>``, which any process may go on with. Its
entries (:mod:`livingai.adapters.shared_values`) are in three groups:

=============== ==========================================================================
state           a state that was saved behind a method
pause           the state of a flow that waits for feedback; the node's input is CrewAI's
                context
answer/<moment> that the pause of this moment was answered
=============== ==========================================================================

The state of a flow is the newer one of its newest state and its newest pause. It waits for feedback
if its newest pause has no answer. So a pause is one write: of a process that is killed both state
and context are saved, or neither.

**An answer counts once.** CrewAI calls ``clear_pending_feedback`` after it has taken the feedback
and before it calls the listeners. Of several that have loaded the same pause, in whatever
processes, one clears it: the one whose answer the store has first. The others get a
:class:`~livingai.FencedError` there, so their listeners are not called.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.persistence.base import FlowPersistence
from pydantic import BaseModel, Field, PrivateAttr

from livingai.adapters.crewai.flow_states import context_of, newest_of, plain_state, state_of
from livingai.adapters.names import execution_name
from livingai.adapters.shared_values import SharedValues, moment_of
from livingai.adapters.steps import Steps, take_sync
from livingai.asked import check_text, shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, FencedError
from livingai.outcome import Durability
from livingai.protocol.ranges import RangedNode


@dataclass(slots=True)
class _Loaded:
    """A pause that was loaded, and not cleared since, ``times`` times."""

    moment: str
    times: int = 0
    #: Whoever saves the flow may know of the pause's answer: it is ours, or was there at a load.
    may_save: bool = False


class LivingAIFlowPersistence(FlowPersistence):
    """Keeps flows in an engine's store; the engine stays the caller's to close.

    ``engine`` None is that of a living persistence with the same ``namespace``; so CrewAI can make
    one from what it has written of a flow. Flows of different namespaces have nothing to do with
    each other. ``durability`` is what each save waits for; by default the engine's level.

    Thread-safe. A state is a dict of values that :func:`livingai.serial.pack` takes (it comes back
    with these types) and of pydantic models, which are stored, as a state that is a model, as
    CrewAI's own persistence does: as JSON values.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    persistence_type: str = Field(default="LivingAIFlowPersistence")
    namespace: str = Field(default="default")

    _values: SharedValues = PrivateAttr()
    _loaded: dict[str, _Loaded] = PrivateAttr(default_factory=dict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    #: The living ones by namespace; of several, the newest.
    _living: ClassVar[weakref.WeakValueDictionary[str, LivingAIFlowPersistence]] = (
        weakref.WeakValueDictionary()
    )

    def __init__(
        self,
        engine: CheckpointEngine | None = None,
        /,
        *,
        durability: Durability | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        check_text(self.namespace, "namespace")
        if engine is None:
            other = self._living.get(self.namespace)
            if other is None:
                raise ConfigurationError(
                    f"no LivingAIFlowPersistence of the namespace {self.namespace!r} is there, so "
                    "the engine is not known: make one, LivingAIFlowPersistence(engine), before a "
                    "flow is restored"
                )
            engine = other._values.engine
        self._values = SharedValues(engine, durability)
        self._living[self.namespace] = self

    def __copy__(self) -> LivingAIFlowPersistence:
        return self  # a copy of a flow shares its engine

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> LivingAIFlowPersistence:
        return self

    def init_db(self) -> None:
        """Does nothing: the engine's service makes what the store needs."""

    def save_state(
        self, flow_uuid: str, method_name: str, state_data: dict[str, Any] | BaseModel
    ) -> None:
        """Save a flow's state behind a method.

        Raises:
            StateEncodingError: the state holds what cannot be stored; nothing was saved.
            FencedError: another process has answered the feedback with which this one resumed.
            LivingAIError: as :meth:`livingai.CheckpointEngine.save`, and what became known of
                earlier saves.
        """
        take_sync(self._save(flow_uuid, method_name, plain_state(state_data)))

    def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
        """The flow's newest state, whichever process saved it; None: there is none.

        Raises:
            LivingAIError: as :meth:`livingai.CheckpointEngine.nodes_between`.
        """
        execution = self._execution(flow_uuid)
        found = take_sync(self._values.newest_of(execution, "state", "pause"))
        with self._lock:
            if flow_uuid in self._loaded:
                self._loaded[flow_uuid].may_save = True
        state: dict[str, Any] | None = state_of(newest_of(found))
        return state

    def save_pending_feedback(
        self,
        flow_uuid: str,
        context: PendingFeedbackContext,
        state_data: dict[str, Any] | BaseModel,
    ) -> None:
        """Save a flow's state, and that it waits for feedback. Raises as :meth:`save_state`."""
        take_sync(self._pause(flow_uuid, context, plain_state(state_data)))
        with self._lock:
            self._loaded.pop(flow_uuid, None)

    def load_pending_feedback(
        self, flow_uuid: str
    ) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
        """State and context of a flow that waits for feedback; None: it does not.

        Raises:
            CorruptRowError: what the store holds is no such context.
        """
        pause = take_sync(self._waiting(flow_uuid))
        if pause is None:
            with self._lock:
                self._loaded.pop(flow_uuid, None)
            return None
        loaded = state_of(pause), context_of(pause)
        moment = moment_of(pause.node.id)
        with self._lock:
            before = self._loaded.get(flow_uuid)
            if before is None or before.moment != moment:
                before = self._loaded[flow_uuid] = _Loaded(moment)
            before.times += 1
            before.may_save = False
        return loaded

    def clear_pending_feedback(self, flow_uuid: str) -> None:
        """Note that the feedback was taken, which only one can do.

        Raises:
            FencedError: somebody else did, since this persistence loaded it.
        """
        with self._lock:
            loaded = self._loaded.get(flow_uuid)
            if loaded is not None:
                loaded.times -= 1
                if not loaded.times:
                    del self._loaded[flow_uuid]
        take_sync(self._clear(flow_uuid, "" if loaded is None else loaded.moment))
        if loaded is not None:
            loaded.may_save = True

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        self._values.log.flush_sync(timeout)

    # -- how --

    def _execution(self, flow_uuid: str) -> str:
        if not isinstance(flow_uuid, str) or not flow_uuid:
            raise ConfigurationError(f"a flow's id is text, not {shown(flow_uuid)}")
        return execution_name("crewai", "flow", self.namespace, flow_uuid)

    def _waiting(self, flow_uuid: str) -> Steps[RangedNode | None]:
        """The flow's newest pause, if it has no answer."""
        execution = self._execution(flow_uuid)
        pause = yield from self._values.newest(execution, "pause")
        if pause is not None:
            group = _answers_to(moment_of(pause.node.id))
            if (yield from self._values.first_stored(execution, group)) is not None:
                return None
        return pause

    def _save(self, flow_uuid: str, method_name: str, state: dict[str, Any]) -> Steps[None]:
        execution = self._execution(flow_uuid)
        with self._lock:
            loaded = self._loaded.get(flow_uuid)
        if loaded is not None and not loaded.may_save:
            answers = _answers_to(loaded.moment)
            if (yield from self._values.first_stored(execution, answers)) is not None:
                raise _taken(flow_uuid)
        yield from self._values.put(
            execution, "state", state, metadata=_metadata("state", str(method_name))
        )

    def _pause(
        self, flow_uuid: str, context: PendingFeedbackContext, state: dict[str, Any]
    ) -> Steps[None]:
        yield from self._values.put(
            self._execution(flow_uuid), "pause", state,
            input=context.to_dict(), metadata=_metadata("pause", str(context.method_name)),
        )  # fmt: skip

    def _clear(self, flow_uuid: str, loaded: str) -> Steps[None]:
        """Append an answer to the pause ``loaded`` (empty: to whatever the flow waits for), then
        see whose the store has first."""
        execution = self._execution(flow_uuid)
        if not loaded:
            pause = yield from self._waiting(flow_uuid)
            if pause is None:
                return
            loaded = moment_of(pause.node.id)
        own = yield from self._values.put(
            execution, _answers_to(loaded), None, durability=Durability.STORE,
            metadata=_metadata("answer", ""),
        )  # fmt: skip
        first = yield from self._values.first_stored(execution, _answers_to(loaded))
        if first is None or first.node.id != own:
            raise _taken(flow_uuid)


def _answers_to(moment: str) -> str:
    return f"answer/{moment}"


def _metadata(kind: str, method: str) -> dict[str, Any]:
    return {"framework": "crewai", "kind": kind, "method": method}


def _taken(flow_uuid: str) -> FencedError:
    return FencedError(
        f"the feedback that flow {flow_uuid} waited for was already taken by another process, or "
        "by another resume() of this one. Nothing behind it was called here; load the flow anew"
    )
