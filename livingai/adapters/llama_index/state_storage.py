"""LlamaIndex's ``StateStorage``: the state of one run, as bytes of its own serializer.

A run's state is the execution ``llama-index:state/<namespace>/<run id>``; its entries are the
states that it had (:mod:`livingai.adapters.shared_values`), and the newest one counts. What they
hold is decoded by LlamaIndex.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from workflows.context.state_store_integration import StateRecord

from livingai.adapters.names import execution_name
from livingai.adapters.shared_values import SharedValues
from livingai.adapters.steps import take
from livingai.asked import check_text, shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, CorruptRowError
from livingai.outcome import Durability

_STORE_TYPE: Final = "livingai"
_GROUP: Final = "state"


class StateHandle(NamedTuple):
    """Where a state is: what is written of it where a run is handed on."""

    namespace: str
    run_id: str


class LivingAIStateStorage:
    """The state of the run ``run_id`` in an engine's store.

    Args:
        engine: where to, or the :class:`~livingai.adapters.shared_values.SharedValues` that several
            storages share; the engine stays the caller's to close.
        run_id: any text.
        namespace: runs of different namespaces have nothing to do with each other.
        durability: what each save waits for; by default the engine's level.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine | SharedValues,
        run_id: str,
        *,
        namespace: str = "default",
        durability: Durability | None = None,
    ) -> None:
        check_text(namespace, "namespace")
        if not isinstance(run_id, str) or not run_id:
            raise ConfigurationError(f"a run's id is text, not {shown(run_id)}")
        self._values = (
            engine if isinstance(engine, SharedValues) else SharedValues(engine, durability)
        )
        self._handle = StateHandle(namespace, run_id)

    @property
    def run_id(self) -> str:
        """The run whose state this is."""
        return self._handle.run_id

    async def load(self) -> StateRecord | None:
        """The newest state, whichever process saved it; None: there is none.

        Raises:
            CorruptRowError: another program has written it.
            LivingAIError: as :meth:`livingai.CheckpointEngine.nodes_between`.
        """
        return await self._load(self._handle)

    async def save(self, record: StateRecord) -> None:
        """Make this the newest state; it then survives the death of this process.

        Raises:
            StateEncodingError: its data are no plain values; nothing was saved.
            LivingAIError: as :meth:`livingai.CheckpointEngine.save`, and what became known of
                earlier saves.
        """
        value = {"data": record.data, "type": record.state_type, "module": record.state_module}
        about = {"framework": "llama-index", "kind": "state"}
        await take(self._values.put(_execution(self._handle), _GROUP, value, metadata=about))

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LivingAIStateStorage]:
        """A load and a save that belong together. Who has read a state that another process changes
        meanwhile overwrites it: the state of a run is one process's at a time."""
        yield self

    def to_handle(self) -> dict[str, Any]:
        """What to write of this state where the run is handed on."""
        return {"store_type": _STORE_TYPE, **self._handle._asdict()}

    def parse_own_handle(self, payload: dict[str, Any]) -> StateHandle | None:
        """The handle that :meth:`to_handle` gave; None: it is another store's, or none at all."""
        if not isinstance(payload, dict) or payload.get("store_type") != _STORE_TYPE:
            return None
        namespace, run_id = payload.get("namespace"), payload.get("run_id")
        if not isinstance(namespace, str) or not isinstance(run_id, str) or not run_id:
            return None
        return StateHandle(namespace, run_id)

    async def copy_from_handle(self, handle: StateHandle) -> None:
        """Make another run's newest state this one's; where that has none, nothing happens.

        Raises:
            ConfigurationError: this is no handle.
        """
        if not isinstance(handle, StateHandle):
            raise ConfigurationError(
                f"a handle is what parse_own_handle() gives, not {shown(handle)}"
            )
        record = await self._load(handle)
        if record is not None:
            await self.save(record)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        await self._values.log.flush(timeout)

    async def _load(self, handle: StateHandle) -> StateRecord | None:
        entry = await take(self._values.newest(_execution(handle), _GROUP))
        if entry is None:
            return None
        value = entry.state
        names = ("type", "module")
        if (
            not isinstance(value, dict)
            or "data" not in value
            or not all(isinstance(value.get(name), str | None) for name in names)
        ):
            raise CorruptRowError(
                f"the state of run {handle.run_id} is {shown(value)}: another program wrote it"
            )
        return StateRecord(
            data=value["data"], state_type=value.get("type"), state_module=value.get("module")
        )


def _execution(handle: StateHandle) -> str:
    return execution_name("llama-index", "state", *handle)
