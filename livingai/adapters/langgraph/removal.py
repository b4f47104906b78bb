"""Removing what a thread's marks hide, and logs that nobody reads any more.

What is here changes nothing that a thread shows: it may be killed anywhere, and done again. Two
rules make that so. Writes go before the checkpoint that they follow from, because a write whose
checkpoint is not there is taken for one that came early. And a deleted thread's own log, which says
where else there is something to remove, goes last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from livingai.adapters.langgraph.entries import place_of
from livingai.adapters.langgraph.ids import prefix
from livingai.adapters.langgraph.loading import in_layer
from livingai.adapters.langgraph.thread import Thread, marks_of
from livingai.adapters.langgraph.view import Place
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.failpoint import failpoint
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import NodeRange

#: Nodes that are read, or removed, in one request.
CHUNK: Final = 1000


def remove_deleted(log: SharedLog, execution_id: str) -> Steps[None]:
    """Remove the log of a thread that is marked as deleted, and logs that were only kept for it.
    While it has copies, nothing."""
    if (yield from has_copies(log, execution_id)):
        return
    yield from release_sources(log, execution_id)
    yield Step(log.engine, "delete", execution_id)
    failpoint("thread.delete_removed")


def remove_leftover(log: SharedLog, execution_id: str) -> Steps[None]:
    """What a delete that was killed has left of a thread's log, and of logs that were only kept
    for it."""
    if (yield from has_copies(log, execution_id)):
        return
    yield from _collect(log, execution_id)
    yield from release_sources(log, execution_id)


def remove_hidden(thread: Thread) -> Steps[None]:
    """Remove the nodes of a log without copies that are hidden: checkpoints, and their writes."""
    layers = yield from thread.layers()
    own = layers[0]
    checkpoints: list[str] = []
    hidden: set[Place] = set()
    for layer in layers:
        start = prefix(layer.execution_id, "c")
        asked = NodeRange(start, behind_prefix(start), CHUNK, states=False)
        asked = asked if layer is own else in_layer(asked, layer)
        for each in (yield from _all(thread.log, layer.execution_id, asked)):
            place = place_of(each)
            old = layer.after is not None and each.first <= layer.after
            if not old and layer.shows(place, each.first):
                continue
            if not old:
                hidden.add(place)
            if layer is own:
                checkpoints.append(each.node.id)
    writes: list[str] = []
    start = prefix(own.execution_id, "w")
    asked = NodeRange(start, behind_prefix(start), CHUNK, states=False)
    for each in (yield from _all(thread.log, own.execution_id, asked)):
        place = place_of(each)
        old = own.after is not None and each.first <= own.after
        if old or (place in hidden and not own.shows(place, each.first)):
            writes.append(each.node.id)
    yield from drop(thread.log, own.execution_id, writes)
    yield from drop(thread.log, own.execution_id, checkpoints)


def drop(log: SharedLog, execution_id: str, node_ids: Iterable[str]) -> Steps[None]:
    """Remove nodes, the newest first: states of later ones build on those of earlier ones. Those
    that others need all the same stay, and are removed the next time."""
    ids = list(node_ids)[::-1]
    for at in range(0, len(ids), CHUNK):
        yield Step(log.engine, "drop_nodes", execution_id, ids[at : at + CHUNK])
        failpoint("thread.dropped")


# -- copies --


def has_copies(log: SharedLog, execution_id: str, seen: set[str] | None = None) -> Steps[bool]:
    """Whether there are threads that still read this log. ``seen`` are logs that were looked at:
    threads may be copies of each other."""
    seen = {execution_id} if seen is None else seen
    start = prefix(execution_id, "k")
    rest: NodeRange | None = NodeRange(start, behind_prefix(start), CHUNK, states=False)
    while rest is not None:
        page = yield Step(log, "nodes_between", execution_id, rest)
        for each in page:
            copied = str(each.node.output["to"])
            theirs = yield from marks_of(log, copied)
            if each.node.id.removeprefix(start) in theirs.tokens:
                return True
            if copied not in seen:
                seen.add(copied)
                if (yield from has_copies(log, copied, seen)):  # deleted, and read by its copies
                    return True
        rest = page.rest
    return False


def release_sources(log: SharedLog, execution_id: str) -> Steps[None]:
    """Of a log without copies: remove what the logs that it was copied from, and theirs, were kept
    for, and its name from the logs that it does not read any more."""
    marks = yield from marks_of(log, execution_id)
    waiting = [source for source, _ in marks.sources]
    seen = {execution_id}
    while waiting:
        source = waiting.pop(0)
        if source in seen:
            continue
        seen.add(source)
        theirs = yield from marks_of(log, source)
        waiting += [each for each, _ in theirs.sources]
        yield from _collect(log, source)
        failpoint("thread.source_collected")
    for source, token in marks.sources:
        if token not in marks.tokens:
            yield from drop(log, source, [prefix(source, "k") + token])


def _collect(log: SharedLog, execution_id: str) -> Steps[None]:
    """Remove what a deleted log was kept for, if none of its copies is left. Its nodes one by one,
    because somebody may use the thread again at this moment."""
    marks = yield from marks_of(log, execution_id)
    if marks.after is None or marks.tokens or (yield from has_copies(log, execution_id)):
        return
    for kind in "wck":
        start = prefix(execution_id, kind)
        asked = NodeRange(start, behind_prefix(start), CHUNK, states=False, upto=marks.after)
        old = yield from _all(log, execution_id, asked)
        yield from drop(log, execution_id, [each.node.id for each in old])


def _all(log: SharedLog, execution_id: str, asked: NodeRange) -> Steps[list[RangedNode]]:
    """The nodes of a range, of all its pages."""
    found: list[RangedNode] = []
    rest: NodeRange | None = asked
    while rest is not None:
        page = yield Step(log, "nodes_between", execution_id, rest)
        found += page
        rest = page.rest
    return found
