"""What the value of a delta channel is built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livingai.adapters.langgraph.entries import TaskWrite
from livingai.adapters.langgraph.listing import Deserializer
from livingai.adapters.langgraph.thread import Thread
from livingai.adapters.steps import Steps
from livingai.errors import CorruptRowError


def delta_history(
    thread: Thread,
    namespace: str,
    checkpoint_id: str | None,
    channels: Sequence[str],
    serde: Deserializer,
) -> Steps[Mapping[str, Any]]:
    """For each channel ``{"writes": [...]}``: those of the checkpoint's ancestors, oldest first, as
    (task, channel, value), back to the nearest ancestor that has the channel's value, with that
    one's own; its value is ``"seed"``.

    Follows the parents, not the order of ids: two processes' ids need not be in order.
    """
    newest_first: dict[str, list[tuple[str, TaskWrite]]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    remaining = set(channels)
    if checkpoint_id:
        target = yield from thread.checkpoint(namespace, checkpoint_id)
    else:
        target = yield from thread.latest(namespace)
    parent = None if target is None else target.found.entry.parent_id
    visited: set[str] = set()
    while parent and remaining and parent not in visited:
        visited.add(parent)
        ancestor = yield from thread.checkpoint(namespace, parent)
        if ancestor is None:
            break
        if ancestor.found.entry.is_dropped:
            raise CorruptRowError(
                f"the state of checkpoint {parent} of {thread.execution_id} was removed (by "
                f"retention?), and {', '.join(sorted(remaining))} is built from it; prune threads "
                "with the saver's prune()"
            )
        for task, write in reversed(ancestor.writes):
            if write.channel in remaining:
                newest_first[write.channel].append((task, write))
        values = ancestor.found.entry.values
        for channel in remaining & set(values):
            seeds[channel] = serde.loads_typed(values[channel])
            remaining.discard(channel)
        parent = ancestor.found.entry.parent_id
    history: dict[str, Any] = {}
    for channel in channels:
        writes = reversed(newest_first[channel])
        history[channel] = {
            "writes": [(task, channel, serde.loads_typed(write.value)) for task, write in writes]
        }
        if channel in seeds:
            history[channel]["seed"] = seeds[channel]
    return history
