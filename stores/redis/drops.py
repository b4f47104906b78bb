"""The removal of single nodes from a Redis store, beside whatever else is written.

Which nodes may go is planned here from all checkpoints of the execution
(:func:`~livingai.stores.retention.plan_node_drops`); a script looks whether the plan still holds
and removes a part, all or nothing. What it looks at is little, so a part takes a few milliseconds,
and a busy execution does not make every plan fail:

* the checkpoints that were planned with are all there;
* no later checkpoint builds on one that goes, or is of a node that goes;
* no node that goes was saved again.

What depends on others goes first. So behind each part no checkpoint lacks its base, and a commit
between two parts finds an execution that is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Final, NamedTuple

from livingai.errors import StoreUnavailableError
from livingai.stores.base import DroppedNodes, StoredCheckpoint
from livingai.stores.redis.keys import Keys, as_bytes, entry, parse_version, version
from livingai.stores.redis.link import Command, Link, Script
from livingai.stores.redis.reads import RedisReads, checked_reply
from livingai.stores.redis.rows import pack_for_lua, parsing, read_checkpoint
from livingai.stores.retention import answering, plan_node_drops

#: Nodes that one script removes.
_PART: Final = 250
#: Heads, and checkpoints, that are asked for at a time.
_PAGE: Final = 1000
#: So many plans are made before it is left to the caller to try again.
_TRIES: Final = 20


class DropPlan(NamedTuple):
    """What may go of an execution: ``parts`` of nodes (id, version of the newest save) in the order
    in which they go, and which ids have to be ``kept``. ``checkpoints`` are all up to the place
    ``top``."""

    parts: list[list[tuple[str, bytes]]]
    kept: tuple[str, ...]
    checkpoints: list[StoredCheckpoint]
    top: bytes


class RedisDrops:
    """Removes nodes on a connection. ``last_life`` says, given an execution and the version of its
    newest write, which version is the newest record of a life, where the line does not."""

    def __init__(
        self,
        link: Callable[[], Link],
        keys: Keys,
        reads: RedisReads,
        last_life: Callable[[str, bytes], bytes],
    ) -> None:
        self._link = link
        self._keys = keys
        self._reads = reads
        self._last_life = last_life
        self._keep = Script("keep")

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with all their checkpoints.

        Raises:
            StoreUnavailableError: it was written to all the time, in ways that change what may go;
                what was removed so far stays removed, try again.
        """
        asked = sorted(set(node_ids))
        nodes = blob_bytes = 0
        for _ in range(_TRIES):
            plan = self._plan(execution_id, asked)
            if plan is None:
                continue
            for count, freed in self._carry_out(execution_id, plan):
                if freed is None:
                    break
                nodes, blob_bytes = nodes + count, blob_bytes + freed
            else:
                return DroppedNodes(nodes, blob_bytes, plan.kept)
        raise StoreUnavailableError(
            f"execution {execution_id} changed each time before its nodes could be removed "
            f"({nodes} are); try again"
        )

    def _plan(self, execution_id: str, asked: list[str]) -> DropPlan | None:
        """What may go; None: the execution changed meanwhile.

        The nodes are looked at first: one that is saved later has another version then.
        """
        there = self._heads(execution_id, asked)
        top, count, newest, node, life, told = self._reads.ask(execution_id, "line")
        if not there or newest is None:
            return DropPlan([], (), [], b"")
        if told != newest:
            life = self._last_life(execution_id, newest)
        checkpoints = list(self._outline(execution_id, top))
        if len(checkpoints) != count:
            return None
        with parsing(execution_id):
            newest_node = node.decode()
        may_go = {node_id for node_id, of in there.items() if of != life}
        going, _ = plan_node_drops(checkpoints, may_go, newest_node)
        kept = tuple(sorted(set(there) - set(going)))
        parts = [[(node_id, there[node_id]) for node_id in part]
                 for part in _dependents_first(going, checkpoints)]  # fmt: skip
        return DropPlan(parts, kept, checkpoints, top)

    def _heads(self, execution_id: str, asked: list[str]) -> dict[str, bytes]:
        """The versions of the newest saves of those nodes that are there."""
        run = self._keys.of(execution_id).run
        found: dict[str, bytes] = {}
        for at in range(0, len(asked), _PAGE):
            part = asked[at : at + _PAGE]
            command = Command(run, ("HMGET", run, *(b"h:" + as_bytes(each) for each in part)))
            (reply,) = self._link().each([command])
            for node_id, head in zip(part, checked_reply(execution_id, reply), strict=True):
                if head is not None:
                    with parsing(execution_id):
                        found[node_id] = head.split()[0]
        return found

    def _outline(self, execution_id: str, top: bytes) -> Iterator[StoredCheckpoint]:
        """All checkpoints up to that place, oldest first, without what they hold."""
        after = b""
        while page := self._reads.ask(execution_id, "outline", after, _PAGE):
            for place, *stored in page:
                if place > top:
                    return
                found = read_checkpoint(execution_id, stored[0] if stored else None)
                with parsing(execution_id):
                    yield StoredCheckpoint(
                        [], *parse_version(place[1:]), b"", 0, found.node_id, found.base_hash,
                        found.content_hash,
                    )  # fmt: skip
            after = page[-1][0]

    def _carry_out(self, execution_id: str, plan: DropPlan) -> Iterator[tuple[int, int | None]]:
        """Of each part the number of nodes, and of bytes that its blobs had; None: the plan does
        not hold any more."""
        keys = self._keys.of(execution_id)
        left = {version(c.epoch, c.seq): c for c in plan.checkpoints}
        of_node: dict[str, list[str]] = {}
        for name, c in left.items():
            of_node.setdefault(c.node_id, []).append(name)
        for part in plan.parts:
            versions = [each for node_id, _ in part for each in of_node.get(node_id, ())]
            count = len(left)
            contents = {left.pop(each).content_hash for each in versions}
            answers = answering(left.values())
            changed = [
                word for c in contents if c is not None for word in (c, _answer(answers.get(c)))
            ]
            heads = [word for node_id, of in part for word in (as_bytes(node_id), of)]
            words = (
                "remove", self._keys.blob_prefix(execution_id), entry(execution_id), plan.top,
                count, pack_for_lua(heads), pack_for_lua(versions), pack_for_lua(changed),
            )  # fmt: skip
            command = Command(keys.run, [len(keys), *keys, *words], self._keep)
            (reply,) = self._link().each([command], durably=True)
            is_done, *removed = checked_reply(execution_id, reply)
            yield len(part), int(removed[0]) if is_done else None


def _dependents_first(going: list[str], checkpoints: list[StoredCheckpoint]) -> list[list[str]]:
    """These nodes in parts, of which none has a base of a delta that is in a later part."""
    answers = answering(checkpoints)
    dependents: dict[str, set[str]] = {node_id: set() for node_id in going}
    for c in checkpoints:
        base = answers.get(c.base_hash) if c.base_hash is not None else None
        if base and base.node_id != c.node_id and {base.node_id, c.node_id} <= dependents.keys():
            dependents[base.node_id].add(c.node_id)
    try:
        ordered = list(TopologicalSorter(dependents).static_order())
    except CycleError:  # nodes that were saved by turns, each as deltas on the other
        return [going]
    return [ordered[at : at + _PART] for at in range(0, len(ordered), _PART)]


def _answer(c: StoredCheckpoint | None) -> str:
    """A checkpoint as the scripts note that it answers for a content."""
    return f"{int(c.base_hash is not None)}{version(c.epoch, c.seq)}" if c else ""
