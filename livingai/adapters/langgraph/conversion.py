"""LangGraph's checkpoints and writes as entries, and back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import TASKS

from livingai.adapters.langgraph.entries import CheckpointEntry, TaskWrite, WritesEntry
from livingai.adapters.langgraph.loading import Checkpointed

#: Values from so many bytes on are deserialized beside the event loop.
LARGE_BYTES: Final = 1 << 16
#: Checkpoints from this version on hold the tasks that were sent to be run next.
_WITH_SENDS: Final = 4


def place_in(config: RunnableConfig) -> tuple[str, str]:
    """The thread's id and the namespace in a config."""
    configurable = config["configurable"]
    return str(configurable["thread_id"]), str(configurable.get("checkpoint_ns") or "")


def config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    """The config that names a checkpoint."""
    return {
        "configurable": {
            "thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id,
        }
    }  # fmt: skip


def checkpoint_entry(
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    serde: SerializerProtocol,
) -> CheckpointEntry:
    """A checkpoint whose parent ``config`` names."""
    _, namespace = place_in(config)
    about: Mapping[str, Any] = get_checkpoint_metadata(config, metadata)
    dump = serde.dumps_typed
    values = {name: dump(value) for name, value in checkpoint.get("channel_values", {}).items()}
    rest = {**checkpoint, "channel_values": {}}
    parents = about.get("parents") or {}
    counters = about.get("counters_since_delta_snapshot") or {}
    run_id = about.get("run_id")
    return CheckpointEntry(
        namespace, checkpoint["id"], get_checkpoint_id(config), dump(about), dump(rest), values,
        {str(key): str(value) for key, value in parents.items()},
        tuple(map(str, counters)), None if run_id is None else str(run_id),
        checkpoint.get("v", 0) < _WITH_SENDS,
    )  # fmt: skip


def writes_entry(
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    serde: SerializerProtocol,
) -> WritesEntry:
    """The writes of a task, which follow from the checkpoint that ``config`` names."""
    _, namespace = place_in(config)
    return WritesEntry(
        namespace, str(config["configurable"]["checkpoint_id"]), task_id, task_path,
        all(channel in WRITES_IDX_MAP for channel, _ in writes),
        tuple(
            TaskWrite(WRITES_IDX_MAP.get(channel, at), channel, serde.dumps_typed(value))
            for at, (channel, value) in enumerate(writes)
        ),
    )  # fmt: skip


def tuple_of(
    thread_id: str,
    checkpointed: Checkpointed,
    config: RunnableConfig | None,
    serde: SerializerProtocol,
) -> CheckpointTuple:
    """A checkpoint as LangGraph has it; ``config``: as it was asked for."""
    load = serde.loads_typed
    entry = checkpointed.found.entry
    checkpoint = load(entry.checkpoint)
    checkpoint["channel_values"] = {name: load(typed) for name, typed in entry.values.items()}
    if checkpointed.sends:
        checkpoint["channel_values"][TASKS] = [load(typed) for typed in checkpointed.sends]
        versions = checkpoint["channel_versions"]
        versions[TASKS] = max(versions.values()) if versions else next_version(None)
    parent = entry.parent_id
    return CheckpointTuple(
        config or config_of(thread_id, entry.namespace, entry.checkpoint_id),
        checkpoint,
        load(entry.metadata),
        None if not parent else config_of(thread_id, entry.namespace, parent),
        [(task, write.channel, load(write.value)) for task, write in checkpointed.writes],
    )


async def tuple_beside(
    thread_id: str,
    checkpointed: Checkpointed,
    config: RunnableConfig | None,
    serde: SerializerProtocol,
) -> CheckpointTuple:
    """As :func:`tuple_of`; in another thread if the values are so large that the event loop should
    not wait for them."""
    values = [*checkpointed.found.entry.values.values()]
    values += [write.value for _, write in checkpointed.writes]
    if sum(len(data) for _, data in values) < LARGE_BYTES:
        return tuple_of(thread_id, checkpointed, config, serde)
    return await asyncio.to_thread(tuple_of, thread_id, checkpointed, config, serde)


def next_version(current: str | None) -> str:
    """The next version of a channel: a number that sorts as text, and a random part."""
    number = 0 if current is None else int(str(current).split(".", maxsplit=1)[0])
    return f"{number + 1:032}.{random.random():016}"
