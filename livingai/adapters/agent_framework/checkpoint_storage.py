"""Agent Framework's ``CheckpointStorage``.

The checkpoints of a workflow are entries (:mod:`livingai.adapters.shared_values`) of one execution,
``agent-framework:workflow/<namespace>/<workflow>``, so each is stored as what differs from the one
before:

================= ========================================================================
checkpoint/<time> a checkpoint's fields; the time is that of its timestamp
gone              that a checkpoint was deleted: what was saved of it before is not there
                  any more
================= ========================================================================

Where a checkpoint is, its workflow and its time, says the execution
``agent-framework:checkpoint/<namespace>/<id>``. It is written first: a process that is killed in
between has not saved the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

from livingai.adapters.agent_framework.values import CheckpointValues, fields_of
from livingai.adapters.names import execution_name
from livingai.adapters.shared_values import SharedValues, moment_of
from livingai.adapters.steps import Steps, take
from livingai.asked import check_text, shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import CorruptRowError, StateEncodingError
from livingai.outcome import Durability
from livingai.protocol.ranges import RangedNode

_EPOCH: Final = datetime(1, 1, 1, tzinfo=UTC)


class LivingAICheckpointStorage:
    """Keeps checkpoints in an engine's store; the engine stays the caller's to close.

    Args:
        engine: where to.
        namespace: checkpoints of different namespaces have nothing to do with each other.
        allowed_types: the program's own classes that checkpoints hold: enums, dataclasses, pydantic
            models, classes with ``to_dict()`` and ``from_dict()``.
        durability: what each save waits for; by default the engine's level.

    Every method raises a LivingAIError if the engine cannot do its part now.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        *,
        namespace: str = "default",
        allowed_types: Iterable[type] = (),
        durability: Durability | None = None,
    ) -> None:
        check_text(namespace, "namespace")
        self._values = SharedValues(engine, durability)
        self._namespace = namespace
        self._codec = CheckpointValues(allowed_types)

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Store a copy of a checkpoint; its id. One of the same id is replaced.

        Raises:
            WorkflowCheckpointException: it holds what cannot be stored (the message says where);
                nothing was saved.
        """
        if not isinstance(checkpoint, WorkflowCheckpoint):
            raise WorkflowCheckpointException(f"{shown(checkpoint)} is no WorkflowCheckpoint")
        name = _text(checkpoint.workflow_name, "workflow_name")
        checkpoint_id = _text(checkpoint.checkpoint_id, "checkpoint_id")
        fields = {
            field: self._codec.encode(value, field) for field, value in checkpoint.to_dict().items()
        }
        time = _time(checkpoint.timestamp)
        about = {"framework": "agent-framework", "checkpoint": checkpoint_id}
        try:
            await take(self._values.put(
                self._place(checkpoint_id), "place", None, output=[name, time], metadata=about
            ))  # fmt: skip
            await take(self._values.put(
                self._workflow(name), f"checkpoint/{time}", fields, metadata=about
            ))  # fmt: skip
        except StateEncodingError as error:
            raise WorkflowCheckpointException(
                f"checkpoint {checkpoint_id} holds what cannot be stored: {error}"
            ) from error
        return checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """A copy of a checkpoint.

        Raises:
            WorkflowCheckpointException: there is none of this id, or it cannot be read here.
        """
        for entry in await take(self._saved(checkpoint_id, states=True)):
            if entry.state is not None:  # else retention has dropped it
                return self._checkpoint(entry)
        raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """Copies of all checkpoints of a workflow, the oldest first; without those whose content
        was dropped by retention."""
        name = _text(workflow_name, "workflow_name")
        entries = await take(self._live(name, "checkpoint", states=True))
        return [self._checkpoint(entry) for entry in entries if entry.state is not None]

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """The ids of all checkpoints of a workflow, the oldest first."""
        entries = await take(self._live(_text(workflow_name, "workflow_name"), "checkpoint"))
        return [_id_of(entry) for entry in entries]

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """A copy of the checkpoint with the latest timestamp; None: there is none."""
        name = _text(workflow_name, "workflow_name")
        newest, gone = await take(
            self._values.newest_of(self._workflow(name), "checkpoint", "gone")
        )
        if newest is not None and gone is not None:
            entries = await take(self._live(name, "checkpoint"))
            if not entries:
                return None
            group = f"checkpoint/{_time_of(entries[-1])}"
            newest = (await take(self._live(name, group, states=True)))[-1]
        return None if newest is None else self._checkpoint(newest)

    async def delete(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; False: there is none of this id."""
        saved = await take(self._saved(checkpoint_id))
        for entry in saved:
            about = {"framework": "agent-framework", "checkpoint": checkpoint_id}
            await take(self._values.put(entry.node.execution_id, "gone", None, metadata=about))
            await self._values.engine.delete(self._place(checkpoint_id))
        return bool(saved)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        await self._values.log.flush(timeout)

    # -- how --

    def _workflow(self, name: str) -> str:
        return execution_name("agent-framework", "workflow", self._namespace, name)

    def _place(self, checkpoint_id: str) -> str:
        return execution_name("agent-framework", "checkpoint", self._namespace, checkpoint_id)

    def _saved(self, checkpoint_id: object, *, states: bool = False) -> Steps[list[RangedNode]]:
        """The entry of a checkpoint; none: it was never saved, or deleted."""
        if not isinstance(checkpoint_id, str) or not checkpoint_id:
            return []
        place = yield from self._values.newest(self._place(checkpoint_id), "place")
        if place is None:
            return []
        found = place.node.output
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise CorruptRowError(f"{place.node.id} says nothing: another program has written it")
        name, time = found
        entries = yield from self._live(name, f"checkpoint/{time}", states=states)
        return [entry for entry in entries if _id_of(entry) == checkpoint_id]

    def _live(self, name: str, group: str, *, states: bool = False) -> Steps[list[RangedNode]]:
        """The entries of a workflow's checkpoints that are there: of each id the one that was saved
        last, unless it was deleted after that."""
        workflow = self._workflow(name)
        entries = yield from self._values.entries(workflow, group, states=states)
        gone = yield from self._values.entries(workflow, "gone", states=False)
        newest: dict[str, str] = {}
        for entry in [*entries, *gone]:
            moment = moment_of(entry.node.id)
            newest[_id_of(entry)] = max(moment, newest.get(_id_of(entry), ""))
        return [each for each in entries if moment_of(each.node.id) == newest[_id_of(each)]]

    def _checkpoint(self, entry: RangedNode) -> WorkflowCheckpoint:
        fields = fields_of(entry.state)
        made = WorkflowCheckpoint.from_dict(
            {name: self._codec.decode(value) for name, value in fields.items()}
        )
        if made.checkpoint_id != _id_of(entry):
            raise WorkflowCheckpointException(f"{entry.node.id} holds another checkpoint")
        return made


def _id_of(entry: RangedNode) -> str:
    return str(entry.node.metadata.get("checkpoint"))


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise WorkflowCheckpointException(f"{what} must be text, not {shown(value)}")
    return value


def _time_of(entry: RangedNode) -> str:
    return entry.node.id.split("/")[-2]


def _time(timestamp: Any) -> str:
    """A checkpoint's timestamp so that it sorts as text: microseconds since year 1, in hex."""
    try:
        time = datetime.fromisoformat(timestamp)
    except (TypeError, ValueError) as error:
        raise WorkflowCheckpointException(
            f"timestamp must be a time in ISO 8601, not {shown(timestamp)}"
        ) from error
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return f"{max(0, microseconds):016x}"
