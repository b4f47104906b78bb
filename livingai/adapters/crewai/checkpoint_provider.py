"""CrewAI's checkpoints of crews, in an engine's store.

CrewAI takes one of its two providers, or a subclass of them, and reads what is restored by one of
the two, which it chooses by looking at a file. So this is a ``JsonProvider`` that keeps its
checkpoints elsewhere, and :meth:`LivingAICheckpointProvider.restoring` puts one into a file for as
long as CrewAI reads it.

The checkpoints of a location are an execution, ``crewai:checkpoints/<location>``, and those of each
branch a group of entries in it (:mod:`livingai.adapters.shared_values`); nobody changes an entry.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from crewai.state.checkpoint_config import CheckpointConfig
from crewai.state.provider.json_provider import JsonProvider
from pydantic import PrivateAttr

from livingai.adapters.names import execution_name, part_name
from livingai.adapters.shared_values import SharedValues, moment_of
from livingai.adapters.steps import take, take_sync
from livingai.asked import check_text
from livingai.engine.engine import CheckpointEngine
from livingai.errors import CorruptRowError, ExecutionNotFoundError
from livingai.node import ExecutionNode
from livingai.outcome import Durability

_FRAMEWORK: Final = "crewai"


class LivingAICheckpointProvider(JsonProvider):
    """Keeps checkpoints in an engine's store: ``CheckpointConfig(location="trip-1", provider=...)``
    with any text as the location. The engine stays the caller's to close.

    Args:
        engine: where to.
        durability: what each checkpoint waits for; by default the engine's level.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    _values: SharedValues = PrivateAttr()

    def __init__(self, engine: CheckpointEngine, *, durability: Durability | None = None) -> None:
        super().__init__()
        self._values = SharedValues(engine, durability)

    def checkpoint(
        self, data: str, location: str, *, parent_id: str | None = None, branch: str = "main"
    ) -> str:
        """Keep a checkpoint; it then survives the death of this process. Its place.

        Raises:
            LivingAIError: as :meth:`SharedLog.append`; CrewAI logs it, and the crew goes on.
        """
        about = _about(location, branch, parent_id)
        group = part_name(branch)
        return take_sync(self._values.put(_execution(location), group, data, metadata=about))

    async def acheckpoint(
        self, data: str, location: str, *, parent_id: str | None = None, branch: str = "main"
    ) -> str:
        """Twin of :meth:`checkpoint`."""
        about = _about(location, branch, parent_id)
        group = part_name(branch)
        return await take(self._values.put(_execution(location), group, data, metadata=about))

    def extract_id(self, location: str) -> str:
        """The id of the checkpoint at a place."""
        return moment_of(location)

    def from_checkpoint(self, location: str) -> str:
        """The checkpoint at a place, as CrewAI has written it.

        Raises:
            NodeNotFoundError: there is none.
            CorruptRowError: another program has written it.
        """
        return _text(*self._values.engine.load_sync(location))

    async def afrom_checkpoint(self, location: str) -> str:
        """Twin of :meth:`from_checkpoint`."""
        return _text(*await self._values.engine.load(location))

    def prune(self, location: str, max_keep: int, *, branch: str = "main") -> int:
        """Remove the oldest checkpoints of a branch but ``max_keep``, and give their space back;
        how many are gone. One that another one builds on stays until that is gone."""
        execution_id = _execution(location)
        found = take_sync(self._values.entries(execution_id, part_name(branch), states=False))
        old = [each.node.id for each in (found[:-max_keep] if max_keep else found)]
        if not old:
            return 0
        return self._values.engine.drop_nodes_sync(execution_id, old).nodes

    def newest(self, location: str, *, branch: str = "main") -> str | None:
        """The place of the newest checkpoint of a branch, of all processes; None: there is none."""
        entry = take_sync(self._values.newest(_execution(location), part_name(branch)))
        return None if entry is None else entry.node.id

    @contextmanager
    def restoring(
        self, location: str, place: str | None = None, *, branch: str = "main", **settings: Any
    ) -> Iterator[CheckpointConfig]:
        """What CrewAI restores from, inside of the block: ``Crew.from_checkpoint(config)``, or
        ``crew.kickoff(from_checkpoint=config)``. Later checkpoints come to this provider.

        Args:
            location: as in ``CheckpointConfig``.
            place: which checkpoint; by default the newest of ``branch``.
            settings: further ones of ``CheckpointConfig``, such as ``on_events``.

        Raises:
            ExecutionNotFoundError: there is no checkpoint.
            NodeNotFoundError: there is none at ``place``.
            CorruptRowError: another program has written it.
        """
        found = place or self.newest(location, branch=branch)
        if found is None:
            raise ExecutionNotFoundError(
                f"no checkpoint is stored for the location {location!r}, branch {branch!r}"
            )
        data = self.from_checkpoint(found)
        parent = json.loads(data).get("parent_id") or "none"
        with tempfile.TemporaryDirectory(prefix="livingai-crewai-") as folder:
            # CrewAI reads the checkpoint's id out of the name.
            file = Path(folder, f"{moment_of(found)}_p-{parent}.json")
            file.write_text(data, encoding="utf-8")
            yield CheckpointConfig(location=location, provider=self, restore_from=file, **settings)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        self._values.log.flush_sync(timeout)


def _execution(location: str) -> str:
    check_text(location, "location")
    return execution_name(_FRAMEWORK, "checkpoints", location)


def _about(location: str, branch: str, parent_id: str | None) -> dict[str, Any]:
    return {
        "framework": _FRAMEWORK, "kind": "checkpoint", "location": location, "branch": branch,
        "parent": parent_id,
    }  # fmt: skip


def _text(node: ExecutionNode, state: Any) -> str:
    if not isinstance(state, str):
        raise CorruptRowError(f"{node.id} holds no checkpoint of CrewAI: another program wrote it")
    return state
