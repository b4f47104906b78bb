"""LangGraph's checkpoints in livingai."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from livingai.adapters.langgraph.conversion import (
    checkpoint_entry,
    config_of,
    next_version,
    place_in,
    tuple_beside,
    tuple_of,
    writes_entry,
)
from livingai.adapters.langgraph.history import delta_history
from livingai.adapters.langgraph.ids import ThreadName
from livingai.adapters.langgraph.listing import Listing
from livingai.adapters.langgraph.loading import Checkpointed
from livingai.adapters.langgraph.thread_upkeep import ThreadUpkeep
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Steps, take, take_sync
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.node import ExecutionNode
from livingai.outcome import Durability

#: Where LangGraph tells a saver which durability the caller asked for; absent where none was.
_ASKED_DURABILITY = "__pregel_durability"


class LivingAISaver(ThreadUpkeep, BaseCheckpointSaver[str]):
    """A checkpointer: ``graph = builder.compile(checkpointer=LivingAISaver(engine))``.

    Args:
        engine: where checkpoints are saved; it stays the caller's, who closes it.
        serde: how values become bytes; by default LangGraph's own serializer.
        sync_durability: what ``durability="sync"`` waits for: ``Durability.FSYNC`` (the local disk)
            or ``Durability.STORE`` (the database).

    ``put`` and ``put_writes`` return once the record survives the death of any process, whatever
    the database does. Reads see what any process of this machine has put before. Every method has a
    synchronous and an asynchronous form, to be called from any thread or event loop.

    What the store refuses for good, long after ``put`` has returned, is raised by the next call for
    the same thread and by :meth:`flush`.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        *,
        serde: SerializerProtocol | None = None,
        sync_durability: Durability = Durability.FSYNC,
    ) -> None:
        super().__init__(serde=serde)
        if not isinstance(engine, CheckpointEngine):
            raise ConfigurationError(f"LivingAISaver takes a CheckpointEngine, not {engine!r:.80}")
        if not isinstance(sync_durability, Durability):
            raise ConfigurationError(
                f"sync_durability must be a livingai.Durability, not {sync_durability!r:.80}"
            )
        self.engine = engine
        self._sync_durability = sync_durability
        self._log = SharedLog(engine)

    # -- writing --

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint; the config that names it."""
        node, state, stored = self._checkpoint(config, checkpoint, metadata)
        self._log.append_sync(node, state, durability=self._level(config))
        return stored

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As :meth:`put`; it is saved before anything is awaited."""
        node, state, stored = self._checkpoint(config, checkpoint, metadata)
        await self._log.append(node, state, durability=self._level(config))
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save the writes of a task, which follow from the checkpoint that ``config`` names."""
        node = self._writes(config, writes, task_id, task_path)
        if node is not None:
            self._log.append_sync(node, durability=self._level(config))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As :meth:`put_writes`; they are saved before anything is awaited."""
        node = self._writes(config, writes, task_id, task_path)
        if node is not None:
            await self._log.append(node, durability=self._level(config))

    def _level(self, config: RunnableConfig) -> Durability:
        asked = config["configurable"].get(_ASKED_DURABILITY)
        return self._sync_durability if asked == "sync" else Durability.JOURNAL

    def _checkpoint(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> tuple[ExecutionNode, list[Any], RunnableConfig]:
        thread_id, namespace = place_in(config)
        entry = checkpoint_entry(config, checkpoint, metadata, self.serde)
        node, state = entry.node(ThreadName.of(thread_id))
        return node, state, config_of(thread_id, namespace, checkpoint["id"])

    def _writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> ExecutionNode | None:
        if not writes:
            return None
        thread_id, _ = place_in(config)
        entry = writes_entry(config, writes, task_id, task_path, self.serde)
        return entry.node(ThreadName.of(thread_id))

    # -- reading --

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or the latest of its thread and namespace; None:
        there is none."""
        found = take_sync(self._get(config))
        return None if found is None else tuple_of(*found, self.serde)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As :meth:`get_tuple`."""
        found = await take(self._get(config))
        return None if found is None else await tuple_beside(*found, self.serde)

    def _get(
        self, config: RunnableConfig
    ) -> Steps[tuple[str, Checkpointed, RunnableConfig | None] | None]:
        thread_id, namespace = place_in(config)
        thread = self._thread(thread_id)
        checkpoint_id = get_checkpoint_id(config)
        if checkpoint_id:
            checkpointed = yield from thread.checkpoint(namespace, str(checkpoint_id))
        else:
            checkpointed = yield from thread.latest(namespace)
        if checkpointed is None or checkpointed.found.entry.is_dropped:
            return None
        return thread_id, checkpointed, config if checkpoint_id else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the newest (by id) first: of the thread in ``config``, of its namespace if
        it names one, of all threads if it is None; those whose metadata have the entries of
        ``filter``, with an id below that of ``before``; at most ``limit``."""
        listing = self._listing(config, filter, before, limit)
        while (found := take_sync(listing.next())) is not None:
            yield tuple_of(*found, None, self.serde)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As :meth:`list`."""
        listing = self._listing(config, filter, before, limit)
        while (found := await take(listing.next())) is not None:
            yield await tuple_beside(*found, None, self.serde)

    def _listing(
        self,
        config: RunnableConfig | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing:
        asked = dict(config["configurable"]) if config is not None else None
        limit_id = get_checkpoint_id(before) if before is not None else None
        return Listing(self._log, asked, limit_id, wanted or {}, self.serde, limit)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel what its value at that checkpoint is built from: the writes of its
        ancestors, oldest first, and the value at the nearest ancestor that has one."""
        return take_sync(self._delta_history(config, channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As :meth:`get_delta_channel_history`."""
        return await take(self._delta_history(config, channels))

    def _delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Steps[Mapping[str, DeltaChannelHistory]]:
        if not channels:
            return {}
        thread_id, namespace = place_in(config)
        return (
            yield from delta_history(
                self._thread(thread_id), namespace, get_checkpoint_id(config), channels, self.serde
            )
        )

    # -- the database --

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the database has all that this process has put.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        self._log.flush_sync(timeout)

    async def aflush(self, timeout: float | None = None) -> None:
        """As :meth:`flush`."""
        await self._log.flush(timeout)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The next version of a channel: a number that sorts as text, and a random part."""
        return next_version(current)
