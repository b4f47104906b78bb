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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from livingai.asked import as_seconds, check_count, check_text
from livingai.errors import ConfigurationError, CorruptRecordError, CorruptRowError
from livingai.keywords import checked
from livingai.stores.base import ExecutionFilter, ExecutionInfo, Store, StoredCheckpoint
from livingai.stores.records import check_statuses

_PAGE = 500
_MOST: Final = (1 << 63) - 1
#: So many damaged executions are named in the message.
_NAMED = 5
Version = tuple[int, int]


@checked("setting of Retention")
@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep. At least one of the first three is set; all that are set apply. Older
    checkpoints that those to keep build on (deltas) stay, too: up to 49 of an execution.

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
        check_text(self.prefix, "prefix")
        if self.keep_last is not None:
            check_count(self.keep_last, "keep_last", _MOST)
        for name in ("max_age_s", "expire_s"):
            value = getattr(self, name)
            if value is not None and not as_seconds(value, name) > 0:
                raise ConfigurationError(f"{name} must be a positive number of seconds")

    def to_wire(self) -> dict[str, Any]:
        """The policy as plain values, for the service."""
        ages = {name: getattr(self, name) for name in ("max_age_s", "expire_s")}
        seconds = {name: age if age is None else float(age) for name, age in ages.items()}
        return {**asdict(self), **seconds, "statuses": [str(status) for status in self.statuses]}


class Dropped(NamedTuple):
    """What :func:`prune` would remove of one execution: all of it (``whole``), or the checkpoints
    of these (epoch, seq); their number and their encoded bytes."""

    execution_id: str
    whole: bool
    versions: tuple[Version, ...]
    checkpoints: int
    blob_bytes: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What :func:`prune` removed; ``blob_bytes`` counts encoded checkpoints. In a dry run
    ``dropped`` lists it, and ``damaged`` says which executions would be left alone, and why."""

    executions: int = 0
    checkpoints: int = 0
    blob_bytes: int = 0
    dropped: tuple[Dropped, ...] = ()
    damaged: tuple[str, ...] = ()


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


def plan_node_drops(
    checkpoints: Sequence[StoredCheckpoint], node_ids: Collection[str], newest_node: str
) -> tuple[list[str], list[Version]]:
    """Which of the nodes of one execution may be removed, and the versions of their checkpoints.

    ``checkpoints`` are all of the execution (oldest first), ``newest_node`` is the id of the node
    that was written last. A node goes if each of its checkpoints may go: it is not the newest one,
    and no delta that stays needs it (rules 1 and 2).
    """
    going = set(node_ids) - {newest_node}
    if checkpoints:
        going.discard(checkpoints[-1].node_id)
    while True:
        keep = {(c.epoch, c.seq) for c in checkpoints if c.node_id not in going}
        _keep_bases(checkpoints, keep)
        needed = {c.node_id for c in checkpoints if (c.epoch, c.seq) in keep} & going
        if not needed:
            break
        going -= needed
    dropped = [(c.epoch, c.seq) for c in checkpoints if c.node_id in going]
    return sorted(going), dropped


def answering(checkpoints: Iterable[StoredCheckpoint]) -> dict[bytes, StoredCheckpoint]:
    """By content hash, the checkpoint that ``blob_by_hash`` answers; they come oldest first."""
    answers: dict[bytes, StoredCheckpoint] = {}
    for checkpoint in checkpoints:  # oldest first, so the first one stays unless a full one comes
        content = checkpoint.content_hash
        if content is None:
            continue
        known = answers.get(content)
        if known is None or (known.base_hash is not None and checkpoint.base_hash is None):
            answers[content] = checkpoint
    return answers


def _keep_bases(checkpoints: Sequence[StoredCheckpoint], keep: set[Version]) -> None:
    """Add to ``keep`` what its deltas need (rule 2)."""
    answers = answering(checkpoints)
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
    dry_run: bool = False,
) -> Pruned:
    """Apply a policy to a store, execution by execution; may run while agents write.

    ``delete`` removes an expired execution (default: ``store.delete_execution``). With ``dry_run``
    nothing is removed, and the answer lists what would be.

    Raises:
        ConfigurationError: the policy makes no sense.
        CorruptRecordError: some executions are damaged and were left alone; all others were pruned.
        StoreError: the store failed; what was removed so far stays removed, run it again.
    """
    retention.validate()
    now = time.time() if now is None else now
    executions = checkpoints = blob_bytes = 0
    listed: list[Dropped] = []
    damaged: list[str] = []
    where = ExecutionFilter(statuses=retention.statuses)
    for info in _all(store, retention.prefix, where):
        try:
            going = _going(store, info, retention, now)
        except CorruptRecordError as error:
            damaged.append(str(error))
            continue
        if going is None:
            continue
        freed = going.blob_bytes
        if dry_run:
            listed.append(going)
        elif going.whole:
            (delete or store.delete_execution)(going.execution_id)
        else:
            freed = store.drop_checkpoints(going.execution_id, going.versions)
        executions += going.whole
        checkpoints += going.checkpoints
        blob_bytes += freed
    if damaged and not dry_run:
        raise CorruptRowError(
            f"{len(damaged)} executions are damaged and were not pruned, all others were: "
            f"{'; '.join(damaged[:_NAMED])}"
        )
    return Pruned(executions, checkpoints, blob_bytes, tuple(listed), tuple(damaged))


def _all(store: Store, prefix: str, where: ExecutionFilter) -> Iterator[ExecutionInfo]:
    after: str | None = None
    while page := store.list_executions(after=after, limit=_PAGE, prefix=prefix, where=where):
        yield from page
        after = page[-1].execution_id


def _going(store: Store, info: ExecutionInfo, retention: Retention, now: float) -> Dropped | None:
    """What of an execution goes.

    Raises:
        CorruptRecordError: it cannot be found out.
    """
    if info.damage:
        raise CorruptRowError(f"{info.execution_id}: {info.damage}")
    if retention.expire_s is not None and now - info.updated_at > retention.expire_s:
        return Dropped(info.execution_id, True, (), info.checkpoints, info.stored_bytes)
    if not _worth_a_look(info, retention):
        return None
    found = list(store.checkpoints(info.execution_id, blobs=False))
    versions = tuple(plan_drops(found, retention, now))
    sizes = {(c.epoch, c.seq): c.stored_bytes for c in found}
    size = sum(sizes[version] for version in versions)
    return Dropped(info.execution_id, False, versions, len(versions), size) if versions else None


def _worth_a_look(info: ExecutionInfo, retention: Retention) -> bool:
    if retention.max_age_s is not None:
        return info.checkpoints > 1
    return retention.keep_last is not None and info.checkpoints > retention.keep_last
