"""Threads as a whole: deleting, copying, pruning.

Rules:

1. A log is removed, in whole or in part, only while no copy reads it; else marks hide what goes.
2. What is decided about a thread holds for what its log had at one version. So an entry ``began``
   is appended first, and its version is the one; what is saved meanwhile stays.
3. A mark is stored before anything is removed, and it alone decides what the thread shows. So
   whoever is killed leaves the old thread or the new one, and the next delete or prune removes the
   rest (:mod:`livingai.adapters.langgraph.removal`).
4. A copy says so in its own log before the source's log names it, so whoever finds the name can see
   whether that copy is alive. One that was killed half-way keeps its source until it is deleted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from livingai.adapters.langgraph.cursor import FoundCheckpoint, Merged
from livingai.adapters.langgraph.entries import mark_node, place_of
from livingai.adapters.langgraph.ids import prefix
from livingai.adapters.langgraph.loading import load
from livingai.adapters.langgraph.removal import (
    drop,
    has_copies,
    release_sources,
    remove_deleted,
    remove_hidden,
    remove_leftover,
)
from livingai.adapters.langgraph.thread import MAX_LAYERS, Thread
from livingai.adapters.langgraph.view import Layer, Place
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.errors import ConfigurationError, ExecutionNotFoundError
from livingai.failpoint import failpoint
from livingai.node import ExecutionNode, new_id
from livingai.outcome import Durability
from livingai.stores.ranges import NodeRange, Version

#: Nodes that are read in one request.
_CHUNK: Final = 1000


def delete(log: SharedLog, thread: Thread) -> Steps[None]:
    """Remove a thread. Its copies keep what they have."""
    failpoint("thread.before_delete")
    # Before anybody is looked for: a copy that is made meanwhile sees it, or is seen.
    node = mark_node(thread.name, "m", {"mark": "deleted"})
    yield Step(log, "append", node, durability=Durability.STORE)
    failpoint("thread.delete_marked")
    yield from remove_deleted(log, thread.execution_id)


def copy(log: SharedLog, source: Thread, target: Thread) -> Steps[None]:
    """Let a thread have all that another one has now, whatever its length."""
    layers = yield from source.layers()
    if source.execution_id == target.execution_id or not (yield from _has_any(source, layers)):
        return
    if len(layers) >= MAX_LAYERS:
        raise ConfigurationError(
            f"{source.execution_id} is a copy of a copy, {len(layers)} times; it cannot be copied "
            "once more. Put its latest checkpoint into a new thread"
        )
    token = new_id()
    content: dict[str, Any] = {"mark": "copying", "from": source.execution_id, "token": token}
    yield Step(log, "append", mark_node(target.name, "m", content), durability=Durability.STORE)
    failpoint("thread.copy_begun")
    node = mark_node(source.name, "k", {"to": target.execution_id}, token)
    upto = yield from _append_located(log, node)
    failpoint("thread.copy_named")
    content = {**content, "mark": "copied", "upto": list(upto)}
    yield Step(log, "append", mark_node(target.name, "m", content), durability=Durability.STORE)
    failpoint("thread.copy_done")


def prune(log: SharedLog, thread: Thread) -> Steps[None]:
    """Keep the latest checkpoint of each namespace, and what its delta channels are built from.

    A call of a subgraph has a namespace of its own; it goes with the checkpoint of the root that it
    started from.
    """
    layers = yield from thread.layers()
    if not (yield from _has_any(thread, layers)):
        yield from remove_leftover(log, thread.execution_id)
        return
    upto = yield from _begin(log, thread)
    layers = _bounded((yield from thread.layers()), upto)
    keep: set[Place] = set()
    heads: list[FoundCheckpoint] = []
    for namespace in (yield from thread.namespaces(layers)):
        head = yield from Merged(thread.cursors(layers, [namespace])).next()
        if head is not None:
            heads.append(head)
    root = next((head for head in heads if not head.entry.namespace), None)
    for head in heads:
        if not (yield from _went_with_root(thread, head, root)):
            keep |= yield from _needed(thread, layers, head)
    content = {"mark": "pruned", "upto": list(upto), "keep": sorted(map(list, keep))}
    yield from _hide(log, thread, content)


def remove_runs(log: SharedLog, thread: Thread, run_ids: Collection[str]) -> Steps[None]:
    """Remove the checkpoints of these runs, with their writes."""
    layers = yield from thread.layers()
    if not (yield from _of_runs(thread, layers, run_ids)):
        return
    upto = yield from _begin(log, thread)
    layers = _bounded((yield from thread.layers()), upto)
    gone = yield from _of_runs(thread, layers, run_ids)
    content = {"mark": "removed", "upto": list(upto), "ids": sorted(map(list, gone))}
    yield from _hide(log, thread, content)


# -- what is to go --


def _of_runs(thread: Thread, layers: list[Layer], run_ids: Collection[str]) -> Steps[set[Place]]:
    found: set[Place] = set()
    for layer in layers:
        start = prefix(layer.execution_id, "c")
        rest: NodeRange | None = NodeRange(
            start, behind_prefix(start), _CHUNK, states=False, after=layer.after, upto=layer.upto
        )
        while rest is not None:
            page = yield Step(thread.log, "nodes_between", layer.execution_id, rest)
            for each in page:
                place = place_of(each)
                if each.node.metadata.get("run_id") in run_ids and layer.shows(place, each.first):
                    found.add(place)
            rest = page.rest
    return found


def _went_with_root(
    thread: Thread, head: FoundCheckpoint, root: FoundCheckpoint | None
) -> Steps[bool]:
    """Whether the head is of a subgraph's call that started from a checkpoint which goes."""
    about = head.entry
    if ":" not in about.namespace:
        return False
    started = about.parents.get("")
    if started is None or (root is not None and root.entry.checkpoint_id == started):
        return False
    saved = yield from thread.checkpoint("", started)
    return saved is not None


def _needed(thread: Thread, layers: list[Layer], head: FoundCheckpoint) -> Steps[set[Place]]:
    """The head, and its ancestors as far as its delta channels need them: down to the one that has
    the channel's value. And the parent, if the head takes tasks from its writes."""
    needed = {head.place}
    if not head.entry.delta_channels and not head.entry.takes_sends:
        return needed
    loaded = yield from load(thread.log, [head], layers)
    entry = loaded[0].found.entry if loaded else head.entry
    if loaded and loaded[0].sends:
        needed.add((entry.namespace, str(entry.parent_id)))
    walked = {head.place}
    missing = {channel for channel in entry.delta_channels if channel not in entry.values}
    while missing and entry.parent_id is not None:
        of = yield from thread.checkpoint(entry.namespace, entry.parent_id)
        if of is None or of.found.place in walked:
            break  # in a circle, where it was put again under a descendant of its own
        walked.add(of.found.place)
        entry = of.found.entry
        missing -= set(entry.values)
    return needed | walked


# -- marks --


def _begin(log: SharedLog, thread: Thread) -> Steps[Version]:
    upto = yield from _append_located(log, mark_node(thread.name, "m", {"mark": "began"}))
    failpoint("thread.prune_begun")
    return upto


def _append_located(log: SharedLog, node: ExecutionNode) -> Steps[Version]:
    """Append a mark; the version that it has in the store. All that was accepted before on this
    machine has a lower one."""
    yield Step(log, "append", node, durability=Durability.STORE)
    exactly = NodeRange(node.id, node.id + "\0", 1)
    page = yield Step(log, "nodes_between", node.execution_id, exactly)
    for found in page:
        version: Version = found.first
        return version
    raise ExecutionNotFoundError(f"{node.execution_id} was deleted meanwhile; nothing was changed")


def _hide(log: SharedLog, thread: Thread, content: dict[str, Any]) -> Steps[None]:
    before = yield from thread.marks()
    node = mark_node(thread.name, "m", content)
    yield Step(log, "append", node, durability=Durability.STORE)
    failpoint("thread.prune_marked")
    if (yield from has_copies(log, thread.execution_id)):
        return
    yield from remove_hidden(thread)
    if content["mark"] == "pruned":  # it keeps nothing that an earlier mark hides
        yield from drop(log, thread.execution_id, before.removable)
    failpoint("thread.prune_unmarked")
    yield from release_sources(log, thread.execution_id)


def _has_any(thread: Thread, layers: list[Layer]) -> Steps[bool]:
    for layer in layers:
        for kind in "cw":
            start = prefix(layer.execution_id, kind)
            asked = NodeRange(
                start, behind_prefix(start), 1, states=False, after=layer.after, upto=layer.upto
            )
            if (yield Step(thread.log, "nodes_between", layer.execution_id, asked)):
                return True
    return False


def _bounded(layers: list[Layer], upto: Version) -> list[Layer]:
    """The layers without what the thread's own log got later."""
    return [layers[0]._replace(upto=upto), *layers[1:]]
