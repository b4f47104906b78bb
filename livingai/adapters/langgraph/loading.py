"""Checkpoints with their states and writes, once it is known which ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from langgraph.checkpoint.serde.types import TASKS

from livingai.adapters.langgraph.cursor import FoundCheckpoint
from livingai.adapters.langgraph.entries import (
    CheckpointEntry,
    TaskWrite,
    Typed,
    WritesEntry,
    merge_writes,
)
from livingai.adapters.langgraph.ids import behind_checkpoint, prefix
from livingai.adapters.langgraph.view import Layer, Place, hidden_writes
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.stores.ranges import MAX_NODES, NodeRange, Version

#: A write, with its task.
Written = tuple[str, TaskWrite]


class Checkpointed(NamedTuple):
    """A checkpoint, and the writes that follow from it, each with its task. ``sends`` are tasks
    that it takes from its parent's writes (see :class:`CheckpointEntry`)."""

    found: FoundCheckpoint
    writes: list[Written]
    sends: tuple[Typed, ...] = ()


def load(
    log: SharedLog, found: Sequence[FoundCheckpoint], layers: Sequence[Layer]
) -> Steps[list[Checkpointed]]:
    """These checkpoints of a thread with their states and their writes from all its layers: one
    round trip for each layer. What was removed meanwhile is left out."""
    states, writes = yield from _read(log, found, [each.place for each in found], layers)
    loaded = []
    for each in found:
        if each.node_id in states:
            entry = CheckpointEntry.read(states[each.node_id])
            if entry.parent_id is not None and each.layer.keeps_alone(
                each.place, each.first, (entry.namespace, entry.parent_id)
            ):
                entry = replace(entry, parent_id=None)
            loaded.append(Checkpointed(each._replace(entry=entry), writes[each.place]))
    taking = [each.found.entry for each in loaded if each.found.entry.takes_sends]
    parents = {(each.namespace, each.parent_id) for each in taking if each.parent_id}
    if not parents:
        return loaded
    _, sent = yield from _read(log, [], sorted(parents), layers)
    return [each._replace(sends=_sends(each.found.entry, sent)) for each in loaded]


def _sends(entry: CheckpointEntry, writes: Mapping[Place, Sequence[Written]]) -> tuple[Typed, ...]:
    if not entry.takes_sends or not entry.parent_id:
        return ()
    of_parent = writes[entry.namespace, entry.parent_id]
    return tuple(write.value for _, write in of_parent if write.channel == TASKS)


def _read(
    log: SharedLog,
    found: Sequence[FoundCheckpoint],
    places: Sequence[Place],
    layers: Sequence[Layer],
) -> Steps[tuple[dict[str, RangedNode], dict[Place, list[Written]]]]:
    """The nodes of checkpoints by id, and the writes that follow from those of ``places``."""
    hides = any(layer.hidden for layer in layers)
    states: dict[str, RangedNode] = {}
    writes: dict[Place, list[tuple[Layer, list[RangedNode]]]] = {place: [] for place in places}
    firsts: dict[Place, list[tuple[Layer, list[Version]]]] = {place: [] for place in places}
    for layer in reversed(layers):  # the log itself comes last: what it has is newer
        execution_id = layer.execution_id
        mine = [
            each for each in found
            if each.layer.execution_id == execution_id and each.node_id not in states
        ]  # fmt: skip
        asked = [NodeRange(each.node_id, each.node_id + "\0", 1) for each in mine]
        asked += [in_layer(exactly(execution_id, "w", *place), layer) for place in places]
        if hides:
            asked += [in_layer(exactly(execution_id, "c", *place), layer) for place in places]
        pages: list[NodePage] = yield Step(log, "node_pages", execution_id, asked)
        for page in pages[: len(mine)]:
            states.update((each.node.id, each) for each in page)
        for place, page in zip(places, pages[len(mine) :], strict=False):
            writes[place].append((layer, (yield from rest_of(log, execution_id, page))))
        for place, page in zip(places, pages[len(mine) + len(places) :], strict=False):
            nodes = yield from rest_of(log, execution_id, page)
            firsts[place].append((layer, [each.first for each in nodes]))
    merged = {}
    for place in places:
        lost = hidden_writes(place, firsts[place])
        entries: list[WritesEntry] = []
        for layer, nodes in writes[place]:
            entries += writes_of(place, (each for each in nodes if not lost(layer, each.first)))
        merged[place] = merge_writes(entries)
    return states, merged


def exactly(
    execution_id: str,
    kind: str,
    namespace: str,
    checkpoint_id: str,
    *,
    limit: int = MAX_NODES,
    states: bool = False,
) -> NodeRange:
    """Entries of one checkpoint: of itself ("c"), or of its writes ("w")."""
    start = prefix(execution_id, kind, namespace, checkpoint_id)
    behind = behind_checkpoint(execution_id, kind, namespace, checkpoint_id)
    return NodeRange(start, behind, limit, backwards=True, states=states)


def in_layer(asked: NodeRange, layer: Layer) -> NodeRange:
    """The range without what does not belong to a layer."""
    return NodeRange(
        asked.first, asked.behind, asked.limit, asked.backwards, asked.states, layer.after,
        layer.upto,
    )  # fmt: skip


def writes_of(place: Place, nodes: Iterable[RangedNode]) -> list[WritesEntry]:
    """The entries that are writes of that checkpoint, in the order in which they were stored."""
    ordered: list[tuple[Version, WritesEntry]] = []
    for each in nodes:
        about = each.node.metadata
        if (about.get("namespace"), about.get("checkpoint")) == place:
            ordered.append((each.first, WritesEntry.read(each)))
    ordered.sort(key=lambda each: each[0])
    return [each for _, each in ordered]


def rest_of(log: SharedLog, execution_id: str, page: NodePage) -> Steps[list[RangedNode]]:
    """The nodes of a page and of all that follow it."""
    nodes = list(page)
    while page.rest is not None:
        page = yield Step(log, "nodes_between", execution_id, page.rest)
        nodes += page
    return nodes
