"""Checkpoints with their states and writes, once it is known which ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from livingai.adapters.langgraph.cursor import FoundCheckpoint
from livingai.adapters.langgraph.entries import (
    CheckpointEntry,
    TaskWrite,
    WritesEntry,
    behind_checkpoint,
    merge_writes,
    prefix,
)
from livingai.adapters.langgraph.view import Layer, Place, hidden_writes
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.stores.ranges import MAX_NODES, NodeRange, Version


class Checkpointed(NamedTuple):
    """A checkpoint, and the writes that follow from it, each with its task."""

    found: FoundCheckpoint
    writes: list[tuple[str, TaskWrite]]


def load(
    log: SharedLog, found: Sequence[FoundCheckpoint], layers: Sequence[Layer]
) -> Steps[list[Checkpointed]]:
    """These checkpoints of a thread with their states and their writes from all its layers: one
    round trip for each layer. What was removed meanwhile is left out."""
    hides = any(layer.hidden for layer in layers)
    states: dict[str, RangedNode] = {}
    writes: dict[Place, list[tuple[Layer, list[RangedNode]]]] = {}
    firsts: dict[Place, list[tuple[Layer, list[Version]]]] = {}
    for layer in reversed(layers):  # the log itself comes last: what it has is newer
        execution_id = layer.execution_id
        mine = [
            each for each in found
            if each.layer.execution_id == execution_id and each.node_id not in states
        ]  # fmt: skip
        asked = [NodeRange(each.node_id, each.node_id + "\0", 1) for each in mine]
        asked += [in_layer(exactly(execution_id, "w", *each.place), layer) for each in found]
        if hides:
            asked += [in_layer(exactly(execution_id, "c", *each.place), layer) for each in found]
        pages: list[NodePage] = yield Step(log, "node_pages", execution_id, asked)
        for page in pages[: len(mine)]:
            states.update((each.node.id, each) for each in page)
        for each, page in zip(found, pages[len(mine) :], strict=False):
            nodes = yield from rest_of(log, execution_id, page)
            writes.setdefault(each.place, []).append((layer, nodes))
        for each, page in zip(found, pages[len(mine) + len(found) :], strict=False):
            nodes = yield from rest_of(log, execution_id, page)
            firsts.setdefault(each.place, []).append((layer, [one.first for one in nodes]))
    loaded = []
    for each in found:
        if each.node_id not in states:
            continue
        merged: list[WritesEntry] = []
        lost = hidden_writes(each.place, firsts.get(each.place, []))
        for layer, nodes in writes[each.place]:
            kept = [one for one in nodes if not lost(layer, one.first)]
            merged += writes_of(each.place, kept)
        entry = CheckpointEntry.read(states[each.node_id])
        loaded.append(Checkpointed(each._replace(entry=entry), merge_writes(merged)))
    return loaded


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
