"""What the housekeeper does: removes and copies whole executions, beside reads and writes."""

from __future__ import annotations

from typing import Any

from livingai.errors import ConfigurationError
from livingai.failpoint import failpoint
from livingai.node import NodeField
from livingai.stores.base import Store
from livingai.stores.copying import copy_execution, find_execution
from livingai.stores.retention import Retention, prune
from livingai.workers.store.role import Role


class HousekeeperRole(Role):
    """Verbs of the housekeeper. Each may be killed half-way and asked again."""

    def do_prune(self, policy: dict[str, Any], dry_run: bool = False) -> list[Any]:
        """Apply a retention policy; the fields of :class:`~livingai.stores.retention.Pruned`."""
        policy["statuses"] = tuple(policy.get("statuses", ()))
        failpoint("housekeeper.before_prune")
        pruned = prune(self._open(), Retention(**policy), dry_run=dry_run)
        failpoint("housekeeper.after_prune")
        return [getattr(pruned, field) for field in type(pruned).__dataclass_fields__]

    def do_delete(self, execution_id: str, dry_run: bool = False) -> int:
        """Remove an execution; the number of nodes removed, or that would be."""
        store = self._open()
        if dry_run:
            return sum(1 for _ in store.packed_nodes(execution_id))
        return store.delete_execution(execution_id)

    def do_drop_nodes(self, execution_id: str, node_ids: list[str]) -> list[Any]:
        """Remove nodes with their checkpoints; the fields of
        :class:`~livingai.stores.records.DroppedNodes`."""
        failpoint("housekeeper.before_drop")
        dropped = self._open().drop_nodes(execution_id, node_ids)
        failpoint("housekeeper.after_drop")
        return [dropped.nodes, dropped.blob_bytes, list(dropped.kept)]

    def do_fork(self, execution_id: str, new_id: str) -> list[int]:
        """Copy an execution under a new id; ``[nodes, checkpoints]`` copied."""
        store = self._open()
        if find_execution(store, new_id) and not self._is_this_fork(store, execution_id, new_id):
            raise ConfigurationError(f"an execution {new_id!r} is there already; choose another id")
        failpoint("housekeeper.before_fork")
        copied = copy_execution(store, store, execution_id, new_id)
        failpoint("housekeeper.after_fork")
        return [copied.nodes, copied.checkpoints]

    def _is_this_fork(self, store: Store, execution_id: str, new_id: str) -> bool:
        """Whether ``new_id`` is a fork of that execution which has not been written to since. It
        may be unfinished, because its housekeeper was killed; then it is finished now, and what is
        there stays."""
        first = next(iter(store.nodes(new_id)), None)
        metadata = first.wire[NodeField.METADATA] if first is not None else None
        if not isinstance(metadata, dict) or metadata.get("forked_from") != execution_id:
            return False
        return set(store.owners(new_id)) <= set(store.owners(execution_id))
