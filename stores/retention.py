"""Retention: which checkpoints may go, without breaking the ones that stay.

Rules:

1. The newest checkpoint of an execution is never dropped; dropping it would change what
   ``latest_checkpoint`` answers.
2. A delta keeps its base: of the checkpoints whose content hash it names, the one that
   ``blob_by_hash`` answers (a full one, else the oldest), and so on down to a full one. Any other
   choice could leave two deltas that name each other.
3. A record that is still queued may name a dropped checkpoint as its base; the store then answers
   BASE_MISSING and the service encodes it anew. So retention needs no lock against writers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from livingai.errors import ConfigurationError
from livingai.stores.base import ExecutionFilter, ExecutionInfo, Store, StoredCheckpoint
from livingai.stores.records import check_statuses

_PAGE = 500
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep. At least one of the first three is set; all that are set apply.

    Times in seconds, measured by ``saved_at`` and ``updated_at`` (wall clock of the agents).
    """

    #: Keep so many of the newest checkpoints of each execution.
    keep_last: int | None = None
    #: Drop checkpoints older than this (never the newest one).
    max_age_s: float | None = None
    #: Delete executions whose last write is older than this.
    expire_s: float | None = None
    #: Only executions of one of these statuses: "pending", "running", "success", "failed". That of
    #: a run is its own (running until it has ended), see :mod:`livingai.stores.standing`.
    statuses: tuple[str, ...] = ()
    #: Only executions whose id begins so (a tenant).
    prefix: str = ""

    def validate(self) -> None:
        """Raise ConfigurationError unless the policy makes sense."""
        if self.keep_last is None and self.max_age_s is None and self.expire_s is None:
            raise ConfigurationError(
                "a retention policy needs keep_last, max_age_s or expire_s; else it keeps all"
            )
        check_statuses(self.statuses)
        if self.keep_last is not None and self.keep_last < 1:
            raise ConfigurationError("keep_last must be at least 1")
        for name in ("max_age_s", "expire_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be a positive number of seconds")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What :func:`prune` removed; ``blob_bytes`` counts encoded checkpoints."""

    executions: int = 0
    checkpoints: int = 0
    blob_bytes: int = 0


def plan_drops(
    checkpoints: Sequence[StoredCheckpoint], retention: Retention, now: float
) -> list[Version]:
    """Versions that ``retention`` lets go, of one execution's checkpoints (oldest first)."""
    keep: set[Version] = set()
    for rank, checkpoint in enumerate(reversed(checkpoints)):
        old = retention.max_age_s is not None and now - checkpoint.saved_at > retention.max_age_s
        beyond = retention.keep_last is not None and rank >= retention.keep_last
        if rank == 0 or not (old or beyond):
            keep.add((checkpoint.epoch, checkpoint.seq))
    _keep_bases(checkpoints, keep)
    return [(c.epoch, c.seq) for c in checkpoints if (c.epoch, c.seq) not in keep]


def _keep_bases(checkpoints: Sequence[StoredCheckpoint], keep: set[Version]) -> None:
    """Add to ``keep`` what its deltas need (rule 2)."""
    answers: dict[bytes, StoredCheckpoint] = {}
    for checkpoint in checkpoints:  # oldest first, so the first one stays unless a full one comes
        content = checkpoint.content_hash
        if content is None:
            continue
        known = answers.get(content)
        if known is None or (known.base_hash is not None and checkpoint.base_hash is None):
            answers[content] = checkpoint
    waiting = [c for c in checkpoints if (c.epoch, c.seq) in keep]
    while waiting:
        base_hash = waiting.pop().base_hash
        base = answers.get(base_hash) if base_hash is not None else None
        if base is not None and (base.epoch, base.seq) not in keep:
            keep.add((base.epoch, base.seq))
            waiting.append(base)


def prune(
    store: Store,
    retention: Retention,
    *,
    now: float | None = None,
    delete: Callable[[str], object] | None = None,
) -> Pruned:
    """Apply a policy to a store, execution by execution; may run while agents write.

    ``delete`` removes an expired execution (default: ``store.delete_execution``).

    Raises:
        ConfigurationError: the policy makes no sense.
        StoreError: the store failed; what was removed so far stays removed, run it again.
    """
    retention.validate()
    now = time.time() if now is None else now
    delete = delete or store.delete_execution
    executions = dropped = blob_bytes = 0
    after: str | None = None
    where = ExecutionFilter(statuses=retention.statuses)
    while page := store.list_executions(
        after=after, limit=_PAGE, prefix=retention.prefix, where=where
    ):
        for info in page:
            if retention.expire_s is not None and now - info.updated_at > retention.expire_s:
                delete(info.execution_id)
                executions += 1
                dropped += info.checkpoints
                blob_bytes += info.stored_bytes
            elif _worth_a_look(info, retention):
                listed = list(store.checkpoints(info.execution_id, blobs=False))
                versions = plan_drops(listed, retention, now)
                if versions:
                    blob_bytes += store.drop_checkpoints(info.execution_id, versions)
                    dropped += len(versions)
        after = page[-1].execution_id
    return Pruned(executions, dropped, blob_bytes)


def _worth_a_look(info: ExecutionInfo, retention: Retention) -> bool:
    if retention.max_age_s is not None:
        return info.checkpoints > 1
    return retention.keep_last is not None and info.checkpoints > retention.keep_last
