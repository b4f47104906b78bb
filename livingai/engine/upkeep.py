"""Deleting, forking, retention: the housekeeping half of the engine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from livingai.asked import check_text, shown
from livingai.engine.reads import CheckpointReader
from livingai.errors import ConfigurationError
from livingai.protocol import verbs
from livingai.stores.records import DroppedNodes
from livingai.stores.retention import Pruned, Retention


class EngineUpkeep(CheckpointReader):
    """Verbs of :class:`~livingai.CheckpointEngine` that remove or copy whole executions. They run
    in a process of the service's, beside reads and writes."""

    async def delete(self, execution_id: str, *, dry_run: bool = False) -> int:
        """Delete an execution with all its nodes and checkpoints; the number of nodes deleted.

        A barrier: writes queued before it are stored first and deleted with the rest, writes of
        owners from before it end ``fenced``, so nothing comes back. A process that saves to the
        execution after it begins it anew. With ``dry_run`` nothing is deleted; the answer is how
        many nodes would be.

        Raises:
            ServiceUnavailableError: the service does not answer.
        """
        nodes = await self._ask(verbs.DELETE, *self._deletion(execution_id, dry_run))
        self._deleted(execution_id, dry_run)
        return nodes

    def delete_sync(self, execution_id: str, *, dry_run: bool = False) -> int:
        """Twin of :meth:`delete`."""
        nodes = self._ask_sync(verbs.DELETE, *self._deletion(execution_id, dry_run))
        self._deleted(execution_id, dry_run)
        return nodes

    def _deletion(self, execution_id: str, dry_run: bool) -> list[Any]:
        check_text(execution_id, "execution_id")
        if dry_run:
            return [execution_id, True]
        self.open_handle().forget(execution_id)
        return [execution_id]

    def _deleted(self, execution_id: str, dry_run: bool) -> None:
        """What was saved meanwhile may have been deleted with the rest, and its claim with it."""
        if not dry_run:
            self.open_handle().forget(execution_id)

    async def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with their checkpoints and give their space back; what was removed.

        ``kept`` names those that have to stay: the node written last, that of the newest
        checkpoint, that of a run's last life, and those with a checkpoint that another node's
        builds on. Ids that are not there are left alone. Writes queued for the execution are stored
        first. Other processes may save to it meanwhile.

        Raises:
            ConfigurationError: ``node_ids`` is no collection of texts.
            ServiceUnavailableError: the service does not answer; ask again.
        """
        return await self._ask(verbs.DROP_NODES, *_drop(execution_id, node_ids))

    def drop_nodes_sync(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Twin of :meth:`drop_nodes`."""
        return self._ask_sync(verbs.DROP_NODES, *_drop(execution_id, node_ids))

    async def fork(self, execution_id: str, new_id: str) -> int:
        """Copy an execution, with everything queued for it, under a new id; the number of nodes.

        Asked again, as after a crash, it goes on with a fork that has not been written to yet.

        Raises:
            ExecutionNotFoundError: there is no such execution.
            ConfigurationError: ``new_id`` is taken.
        """
        return (await self._ask(verbs.FORK, *_fork(execution_id, new_id))).nodes

    def fork_sync(self, execution_id: str, new_id: str) -> int:
        """Twin of :meth:`fork`."""
        return self._ask_sync(verbs.FORK, *_fork(execution_id, new_id)).nodes

    async def prune(self, retention: Retention, *, dry_run: bool = False) -> Pruned:
        """Apply a retention policy to the store now; what was removed. With ``dry_run`` nothing is
        removed, and the answer lists what would be.

        Raises:
            ConfigurationError: the policy makes no sense.
            CorruptRecordError: some executions are damaged and were left alone; all others were
                pruned.
        """
        return await self._ask(verbs.PRUNE, *_policy(retention, dry_run))

    def prune_sync(self, retention: Retention, *, dry_run: bool = False) -> Pruned:
        """Twin of :meth:`prune`."""
        return self._ask_sync(verbs.PRUNE, *_policy(retention, dry_run))

    async def size(self) -> int:
        """Bytes that the store occupies."""
        return await self._ask(verbs.SIZE)

    def size_sync(self) -> int:
        """Twin of :meth:`size`."""
        return self._ask_sync(verbs.SIZE)

    async def drain(self) -> None:
        """Wait until everything that any process has queued in this state directory is stored."""
        await self._ask(verbs.DRAIN)

    def drain_sync(self) -> None:
        """Twin of :meth:`drain`."""
        self._ask_sync(verbs.DRAIN)


def _drop(execution_id: str, node_ids: Collection[str]) -> list[Any]:
    check_text(execution_id, "execution_id")
    if isinstance(node_ids, str | bytes) or not isinstance(node_ids, Collection):
        raise ConfigurationError(f"node_ids is a list of ids, not {shown(node_ids)}")
    ids = list(node_ids)
    for node_id in ids:
        check_text(node_id, "a node id")
    return [execution_id, ids]


def _fork(execution_id: str, new_id: str) -> list[Any]:
    check_text(execution_id, "execution_id")
    check_text(new_id, "new_id")
    return [execution_id, new_id]


def _policy(retention: Retention, dry_run: bool) -> list[Any]:
    if not isinstance(retention, Retention):
        raise ConfigurationError(f"retention must be a Retention, not {shown(retention)}")
    retention.validate()
    return [retention.to_wire(), True] if dry_run else [retention.to_wire()]
