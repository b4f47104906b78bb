"""Moving LangGraph's checkpoints from one of its savers to livingai's, and reading them back.

Rules:

1. A checkpoint goes after its parent, and its writes after it. So whenever an import is killed,
   what the store has of a thread has its ancestors, too, and the next import goes on from there.
2. What the store has already is neither added again nor replaced: the program may have gone on with
   the thread there. Only where it has not, a task's error, interrupt or answer that has changed in
   the source since an earlier import takes the old one's place.
3. Memory holds the ids of one namespace's checkpoints, and the values of at most a hundred.
4. At the end both savers are asked for the same, and have to give the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol

from livingai.adapters.langgraph import LivingAISaver
from livingai.adapters.langgraph.entries import TaskWrite, WritesEntry
from livingai.adapters.langgraph.ids import ThreadName
from livingai.adapters.shared_log import SharedLog
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ImportSourceError, LivingAIError, UnreadableValueError
from livingai.importing.kinds import ImportOptions, ImportSummary, Progress
from livingai.importing.verbatim import VerbatimSerializer
from livingai.importing.verify import verify_namespace

#: After so many checkpoints what was added is waited for, as it is in memory until it is stored.
_EVERY: Final = 100


class StoredWrite(NamedTuple):
    """One write of a task, as the source has it."""

    task_id: str
    task_path: str
    idx: int
    channel: str
    #: The format's name, and bytes.
    value: tuple[str, bytes]

    @property
    def is_replaced_later(self) -> bool:
        """Whether it is an error, an interrupt or an answer, of which the newest counts; of what a
        task has written to other channels, the first."""
        return self.idx < 0


class CheckpointSource(Protocol):
    """A database of one of LangGraph's savers, at one moment."""

    #: The framework's own saver on it.
    saver: Any

    def threads(self) -> Sequence[str]:
        """All thread ids, in order."""

    def namespaces(self, thread_id: str) -> Sequence[str]:
        """The namespaces of a thread, the root first."""

    def parents(self, thread_id: str, namespace: str) -> Mapping[str, str | None]:
        """The ids of a namespace's checkpoints, each with its parent's."""

    def writes(self, thread_id: str, namespace: str, checkpoint_id: str) -> Sequence[StoredWrite]:
        """The writes of a checkpoint, in order of task path, task and index."""

    def writes_without_checkpoint(self, threads: Sequence[str]) -> int:
        """How many writes have no checkpoint; of these threads, of all if there are none named."""


def import_checkpoints(
    source: CheckpointSource,
    serializer: VerbatimSerializer,
    engine: CheckpointEngine | None,
    options: ImportOptions,
    progress: Progress,
) -> ImportSummary:
    """Import the threads of a source with an engine, flush it, and verify them.

    Raises:
        ImportSourceError: a thread that is asked for is not there, or a value cannot be read.
        ImportMismatchError: what was read back is not what the source has.
        LivingAIError: as the engine's methods.
    """
    known = source.threads()
    threads = list(dict.fromkeys(options.threads)) or known
    if missing := set(threads) - set(known):
        raise ImportSourceError(f"the source has no thread {sorted(missing)[0]!r:.80}")
    summary = ImportSummary(types=serializer.types)
    summary.writes_without_checkpoint = source.writes_without_checkpoint(options.threads)
    saver = None if engine is None else LivingAISaver(engine, serde=serializer)
    for thread_id in threads:
        summary.threads += 1
        empty = saver is None or _is_empty(saver, thread_id)
        for namespace in source.namespaces(thread_id):
            summary.namespaces += 1
            move = _NamespaceMove(source, saver, thread_id, namespace, options.dry_run, empty)
            for _ in move.run(summary):
                if summary.checkpoints % _EVERY == 0:
                    if saver is not None:
                        saver.flush()
                    progress(summary)
    if saver is None or options.dry_run:
        return summary
    saver.flush()
    for thread_id in threads:
        for namespace in source.namespaces(thread_id):
            for _ in verify_namespace(source.saver, saver, thread_id, namespace):
                summary.verified_checkpoints += 1
                if summary.verified_checkpoints % _EVERY == 0:
                    progress(summary)
    progress(summary)
    return summary


class _NamespaceMove:
    """The move of one namespace of a thread."""

    def __init__(
        self,
        source: CheckpointSource,
        target: LivingAISaver | None,
        thread_id: str,
        namespace: str,
        dry_run: bool,
        empty: bool,
    ) -> None:
        """``empty``: the target has nothing of the thread, so it need not be asked."""
        self._source = source
        self._target = target
        self._thread_id = thread_id
        self._namespace = namespace
        self._dry_run = dry_run
        self._empty = empty

    def run(self, summary: ImportSummary) -> Iterator[None]:
        """Move checkpoint by checkpoint, and yield after each."""
        parents = self._source.parents(self._thread_id, self._namespace)
        for checkpoint_id in parents_first(parents):
            try:
                self._move(checkpoint_id, parents[checkpoint_id], summary)
            except UnreadableValueError as error:
                raise UnreadableValueError(
                    f"a value of checkpoint {checkpoint_id} of thread {self._thread_id!r:.80} "
                    f"cannot be imported: {error}"
                ) from error
            yield

    def _move(self, checkpoint_id: str, parent_id: str | None, summary: ImportSummary) -> None:
        named = config_of(self._thread_id, self._namespace, checkpoint_id)
        found = self._read(named)
        writes = self._source.writes(self._thread_id, self._namespace, checkpoint_id)
        summary.checkpoints += 1
        summary.writes += len(writes)
        there = None if self._empty or self._target is None else self._target.get_tuple(named)
        if there is None:
            summary.added_checkpoints += 1
        if self._target is not None and not self._dry_run and there is None:
            parent = config_of(self._thread_id, self._namespace, parent_id)
            self._target.put(parent, found.checkpoint, found.metadata, {})
        new = writes if there is None else self._missing(writes, there)
        summary.added_writes += len(new)
        if self._target is not None and not self._dry_run:
            self._add_writes(checkpoint_id, new)

    def _read(self, named: dict[str, Any]) -> Any:
        """The checkpoint, as the source's saver gives it."""
        try:
            found = self._source.saver.get_tuple(named)
            if not isinstance(found.checkpoint, dict) or not isinstance(found.metadata, dict):
                raise TypeError("it is no dict")
        except (ValueError, TypeError, LookupError) as error:
            if isinstance(error, LivingAIError):
                raise
            raise UnreadableValueError(
                f"the framework's saver fails on it ({type(error).__name__}: {error}), so its row "
                "is damaged, or another program wrote it"
            ) from error
        return found

    def _missing(self, writes: Iterable[StoredWrite], there: Any) -> list[StoredWrite]:
        """The writes that the target does not have."""
        target = self._target
        if target is None:
            return []
        dumps, loads = target.serde.dumps_typed, target.serde.loads_typed
        has = Counter(
            (task, channel, dumps(value)) for task, channel, value in there.pending_writes
        )
        missing = []
        for each in writes:
            key = (each.task_id, each.channel, dumps(loads(each.value)))
            if has[key]:
                has[key] -= 1
            else:
                missing.append(each)
        # What the target has and the source has not came later there, unless the source has
        # another error, interrupt or answer of that task now: those are written over.
        changed = {(each.task_id, each.channel) for each in missing if each.is_replaced_later}
        others = {key[:2] for key, count in has.items() if count} - changed
        return [each for each in missing if not (others and each.is_replaced_later)]

    def _add_writes(self, checkpoint_id: str, writes: Sequence[StoredWrite]) -> None:
        """Append what the tasks have written, a task at a time."""
        if self._target is None:
            return
        log = SharedLog(self._target.engine)
        for (task_id, task_path, replaces), of_task in groupby(
            writes, key=lambda each: (each.task_id, each.task_path, each.is_replaced_later)
        ):
            written = tuple(TaskWrite(each.idx, each.channel, each.value) for each in of_task)
            entry = WritesEntry(
                self._namespace, checkpoint_id, task_id, task_path, replaces, written
            )
            log.append_sync(entry.node(ThreadName.of(self._thread_id)))


def parents_first(parents: Mapping[str, str | None]) -> Iterator[str]:
    """The checkpoints in order of their ids, but none before its parent."""
    done: set[str] = set()
    for checkpoint_id in sorted(parents):
        chain: dict[str, None] = {}
        each: str | None = checkpoint_id
        while each is not None and each in parents and each not in done and each not in chain:
            chain[each] = None
            each = parents[each]
        done.update(chain)
        yield from reversed(chain)


def config_of(thread_id: str, namespace: str, checkpoint_id: str | None = None) -> dict[str, Any]:
    """The config that names a checkpoint, or the latest of a namespace."""
    configurable = {"thread_id": thread_id, "checkpoint_ns": namespace}
    if checkpoint_id:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def _is_empty(saver: LivingAISaver, thread_id: str) -> bool:
    found: Iterator[Any] = saver.list({"configurable": {"thread_id": thread_id}}, limit=1)
    return next(found, None) is None
