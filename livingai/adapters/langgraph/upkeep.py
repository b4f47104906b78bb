"""Threads as a whole: deleting, copying, pruning.

Rules:

1. A log is removed, in whole or in part, only while no copy reads it; else marks hide what goes.
2. What is decided about a thread holds for what its log had at one version. So an entry ``began``
   is appended first, and its version is the one; what is saved meanwhile stays.
3. A mark is stored before anything is removed. Killed between the two, the thread shows what it
   should, and the next prune removes the rest.
4. A copy says so in its own log before the source's log names it, so whoever finds the name can see
   whether that copy is alive. One that was killed half-way keeps its source until it is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from livingai.adapters.langgraph.cursor import FoundCheckpoint, Merged
from livingai.adapters.langgraph.entries import mark_node, prefix
from livingai.adapters.langgraph.thread import MAX_LAYERS, Thread
from livingai.adapters.langgraph.view import Layer, Marks, Place, read_marks
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.errors import ConfigurationError, ExecutionNotFoundError
from livingai.node import ExecutionNode, new_id
from livingai.outcome import Durability
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import MAX_NODES, NodeRange, Version

#: Nodes that are removed in one request.
_CHUNK: Final = 1000


def delete(log: SharedLog, thread: Thread) -> Steps[None]:
    """Remove a thread. Its copies keep what they have."""
    own, *copied = yield from thread.layers()
    # Before anybody is looked for: a copy that is made meanwhile sees it, or is seen.
    node = mark_node(thread.name, "m", {"mark": "deleted"})
    yield Step(log, "append", node, durability=Durability.STORE)
    if not (yield from _has_copies(log, own.execution_id)):
        yield from _remove(log, own.execution_id)
    for layer in copied:
        yield from _collect(log, layer.execution_id)


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
    node = mark_node(source.name, "k", {"to": target.execution_id}, token)
    upto = yield from _append_located(log, node)
    content = {**content, "mark": "copied", "upto": list(upto)}
    yield Step(log, "append", mark_node(target.name, "m", content), durability=Durability.STORE)


def prune(log: SharedLog, thread: Thread) -> Steps[None]:
    """Keep the latest checkpoint of each namespace, and what its delta channels are built from.

    A call of a subgraph has a namespace of its own; it goes with the checkpoint of the root that it
    started from.
    """
    layers = yield from thread.layers()
    if not (yield from _has_any(thread, layers)):
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
            keep |= yield from _needed(thread, head)
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
                place = _place(each)
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


def _needed(thread: Thread, head: FoundCheckpoint) -> Steps[set[Place]]:
    """The head, and its ancestors as far as its delta channels need them: down to the one that has
    the channel's value."""
    needed = {(head.entry.namespace, head.entry.checkpoint_id)}
    missing = {channel for channel in head.entry.delta_channels if channel not in head.entry.values}
    found: FoundCheckpoint | None = head
    while missing and found is not None and found.entry.parent_id is not None:
        of = yield from thread.checkpoint(found.entry.namespace, found.entry.parent_id)
        if of is None:
            break
        parent = of.found
        place = (parent.entry.namespace, parent.entry.checkpoint_id)
        if place in needed:
            break  # put again under a descendant of its own: a circle
        needed.add(place)
        missing -= set(parent.entry.values)
        found = parent
    return needed


# -- marks, and removing what they hide --


def _begin(log: SharedLog, thread: Thread) -> Steps[Version]:
    return (yield from _append_located(log, mark_node(thread.name, "m", {"mark": "began"})))


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
    if (yield from _has_copies(log, thread.execution_id)):
        return
    gone = yield from _hidden_nodes(thread)
    yield from _drop(log, thread.execution_id, gone)
    if content["mark"] == "pruned":  # it keeps nothing that an earlier mark hides
        yield from _drop(log, thread.execution_id, before.removable)


def _hidden_nodes(thread: Thread) -> Steps[list[str]]:
    """The nodes of the log itself that are hidden: checkpoints, and their writes."""
    layer = (yield from thread.marks()).own_layer(thread.execution_id)
    nodes: list[str] = []
    hidden: set[Place] = set()
    shown: set[Place] = set()
    for kind in "cw":
        start = prefix(thread.execution_id, kind)
        rest: NodeRange | None = NodeRange(start, behind_prefix(start), _CHUNK, states=False)
        while rest is not None:
            page = yield Step(thread.log, "nodes_between", thread.execution_id, rest)
            for each in page:
                place = _place(each)
                old = layer.after is not None and each.first <= layer.after
                if kind == "w":
                    if old or (place in hidden and place not in shown):
                        nodes.append(each.node.id)
                elif old or not layer.shows(place, each.first):
                    hidden.add(place)
                    nodes.append(each.node.id)
                else:
                    shown.add(place)
            rest = page.rest
    return nodes


def _place(found: RangedNode) -> Place:
    about = found.node.metadata
    return str(about.get("namespace", "")), str(about.get("checkpoint", ""))


def _drop(log: SharedLog, execution_id: str, node_ids: Iterable[str]) -> Steps[None]:
    """Remove nodes, the newest first: states of later ones build on those of earlier ones. Those
    that others need all the same stay, and are removed the next time."""
    ids = list(node_ids)[::-1]
    for at in range(0, len(ids), _CHUNK):
        yield Step(log.engine, "drop_nodes", execution_id, ids[at : at + _CHUNK])


# -- copies --


def _has_copies(log: SharedLog, execution_id: str, seen: set[str] | None = None) -> Steps[bool]:
    """Whether there are threads that still read this log. ``seen`` are logs that were looked at:
    threads may be copies of each other."""
    seen = {execution_id} if seen is None else seen
    start = prefix(execution_id, "k")
    rest: NodeRange | None = NodeRange(start, behind_prefix(start), _CHUNK, states=False)
    while rest is not None:
        page = yield Step(log, "nodes_between", execution_id, rest)
        for each in page:
            copied = str(each.node.output["to"])
            theirs = yield from _marks_of(log, copied)
            if each.node.id.removeprefix(start) in theirs.tokens:
                return True
            if copied not in seen:
                seen.add(copied)
                if (yield from _has_copies(log, copied, seen)):  # deleted, and read by its copies
                    return True
        rest = page.rest
    return False


def _collect(log: SharedLog, execution_id: str) -> Steps[None]:
    """Remove what a log was kept for, if none of its copies is left. Its nodes one by one, because
    somebody may use the thread again at this moment."""
    marks = yield from _marks_of(log, execution_id)
    if marks.after is None or marks.tokens or (yield from _has_copies(log, execution_id)):
        return
    for kind in "cwk":
        start = prefix(execution_id, kind)
        rest: NodeRange | None = NodeRange(
            start, behind_prefix(start), _CHUNK, states=False, upto=marks.after
        )
        old: list[str] = []
        while rest is not None:
            page = yield Step(log, "nodes_between", execution_id, rest)
            old += [each.node.id for each in page]
            rest = page.rest
        yield from _drop(log, execution_id, old)


def _remove(log: SharedLog, execution_id: str) -> Steps[None]:
    """Remove a log that nobody reads, and its name from the logs that it was copied from."""
    marks = yield from _marks_of(log, execution_id)
    for source, token in marks.sources:
        yield Step(log.engine, "drop_nodes", source, [prefix(source, "k") + token])
    yield Step(log.engine, "delete", execution_id)


def _marks_of(log: SharedLog, execution_id: str) -> Steps[Marks]:
    start = prefix(execution_id, "m")
    rest: NodeRange | None = NodeRange(start, behind_prefix(start), MAX_NODES, states=False)
    found: list[RangedNode] = []
    while rest is not None:
        page = yield Step(log, "nodes_between", execution_id, rest)
        found += page
        rest = page.rest
    return read_marks(found)


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
