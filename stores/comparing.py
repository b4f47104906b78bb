"""What two stores hold of an execution, and whether one may be copied over the other.

Rules:

1. A write is ``(epoch, seq)`` of an execution; a claim owns its epoch for ever and is never given
   twice. So two stores hold the same run only if they name the same owner of each epoch that both
   know.
2. The target may be *behind*: all that it has is in the source, each node in the same or in an
   earlier version, each state the same by the hash of what it decodes to. That is what a copy that
   was cut short leaves, and an older copy.
3. Anything else, at any one place, is another run or another branch of it: nothing is merged.
4. What retention drops is no difference: the source may have dropped states that the target has
   kept, and the other way round. Nor is a node that the source has removed: it has later writes,
   and none that takes that one's place. The target keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import xxhash

from livingai.node import NodeField
from livingai.serial import pack
from livingai.stores.base import SizedBlob, Store, StoredCheckpoint
from livingai.stores.states import StateDecoder

#: States of up to this size are compared decoded, larger ones by the bytes of their blobs.
_DECODED_BYTES: Final = 64 << 20
_REMEMBERED: Final = 2
Version = tuple[int, int]


class NodePrint(NamedTuple):
    """A node: versions of its first and newest save, and the hash of its section."""

    first: Version
    version: Version
    wire: bytes


class StatePrint(NamedTuple):
    """A checkpoint: its node, the type of its value, and the hash of its state."""

    node_id: str
    kind: int
    state: bytes


@dataclass
class Holding:
    """What a store holds of one execution."""

    owners: dict[int, str | None] = field(default_factory=dict)
    nodes: dict[str, NodePrint] = field(default_factory=dict)
    states: dict[Version, StatePrint] = field(default_factory=dict)
    #: Newest versions of nodes that carried no state when they were written.
    stateless: set[Version] = field(default_factory=set)
    blob_bytes: int = 0

    def has_owner(self, epoch: int, claim: str | None) -> bool:
        """Whether a copy of this names ``claim`` as the owner of ``epoch``."""
        known = self.owners.get(epoch)
        if known is None and claim is not None:
            return claim == copied_claim(epoch)
        return epoch in self.owners and known == claim

    def has_removed(self, node: NodePrint | None) -> bool:
        """Whether a node that another store has, and this one lacks, may have been here: all of its
        writes are older than the newest one here, and none here is in the place of one of them."""
        if node is None:
            return False
        taken = {place for each in self.nodes.values() for place in (each.first, each.version)}
        taken |= self.states.keys()
        return node.version < max(taken, default=(0, 0)) and not taken & {node.first, node.version}

    def dropped_by(self, target: Holding) -> frozenset[Version]:
        """States that ``target`` lacks and cannot take any more, because they are of owners before
        its newest one. It has their nodes, so it had the states and has dropped them."""
        newest = max(target.owners, default=0)
        return frozenset(v for v in self.states if v[0] < newest and v not in target.states)


def copied_claim(epoch: int) -> str:
    """The owner that a copy names for an epoch whose owner the source does not know."""
    return f"copy-{epoch}"


def wire_hash(wire: list[object]) -> bytes:
    """A hash of a node section."""
    return xxhash.xxh3_128_digest(pack(wire))


class Hasher:
    """Makes :class:`StatePrint` of an execution's checkpoints, given in their order."""

    def __init__(self, store: Store, execution_id: str) -> None:
        self._decoder = StateDecoder(
            store, execution_id, max_bytes=_DECODED_BYTES, remembered=_REMEMBERED
        )

    def print_of(self, checkpoint: StoredCheckpoint, node_id: str) -> StatePrint:
        """``node_id`` is the one that it has in the target."""
        found = SizedBlob(checkpoint.blob or b"", checkpoint.raw_bytes)
        return StatePrint(node_id, checkpoint.state_kind, self._decoder.hash_of(found))


def read_holding(store: Store, execution_id: str) -> Holding:
    """All that ``store`` has of an execution.

    Raises:
        StoreUnavailableError, CorruptRecordError: as the store's reads.
    """
    held = Holding(dict(store.owners(execution_id)))
    for node in store.nodes(execution_id):
        version = (node.epoch, node.seq)
        first = node.first if node.first[0] else version
        held.nodes[str(node.wire[NodeField.ID])] = NodePrint(first, version, wire_hash(node.wire))
        if not node.has_state:
            held.stateless.add(version)
    hasher = Hasher(store, execution_id)
    for checkpoint in store.checkpoints(execution_id):
        print_ = hasher.print_of(checkpoint, str(checkpoint.wire[NodeField.ID]))
        held.states[checkpoint.epoch, checkpoint.seq] = print_
        held.blob_bytes += len(checkpoint.blob or b"")
    return held


def conflict(source: Holding, target: Holding) -> str | None:
    """The first thing that ``target`` has otherwise than ``source``; None where it has nothing, the
    same, or an earlier state of the same (rule 2)."""
    return (
        _owners_differ(source, target)
        or _nodes_differ(source, target)
        or _states_differ(source, target)
        or _out_of_reach(source, target)
    )


def is_complete(source: Holding, target: Holding) -> bool:
    """Whether ``target``, which is in no conflict, lacks nothing that it could take."""
    dropped = source.dropped_by(target)
    return all(
        node_id in target.nodes and target.nodes[node_id].version == node.version
        for node_id, node in source.nodes.items()
    ) and all(version in target.states or version in dropped for version in source.states)


def _owners_differ(source: Holding, target: Holding) -> str | None:
    last = max(source.owners, default=0)
    for epoch, claim in sorted(target.owners.items()):
        if source.has_owner(epoch, claim):
            continue
        if claim is None:
            return f"it was deleted there (epoch {epoch})"
        if epoch > last:
            return f"it went on there: epoch {epoch} belongs to {claim}, which the source lacks"
        known = source.owners.get(epoch) or "nobody"
        return f"epoch {epoch} belongs to {claim} there and to {known} in the source"
    return None


def _nodes_differ(source: Holding, target: Holding) -> str | None:
    places = {version: print_.node_id for version, print_ in source.states.items()}
    for node_id, node in source.nodes.items():
        places.setdefault(node.first, node_id)
        places.setdefault(node.version, node_id)
    for node_id, there in target.nodes.items():
        here = source.nodes.get(node_id)
        if here is None:
            if source.has_removed(there):
                continue
            return f"node {node_id} is only there"
        if there.version > here.version:
            return (
                f"node {node_id} is newer there: {_shown(there.version)}, {_shown(here.version)} "
                "in the source"
            )
        if there.version == here.version and there.wire != here.wire:
            return f"node {node_id} ({_shown(here.version)}) has another content there"
        if there.first < here.first or places.get(there.version, node_id) != node_id:
            return f"write {_shown(there.version)} is node {node_id} there and not in the source"
    return None


def _states_differ(source: Holding, target: Holding) -> str | None:
    taken = {node.version: node_id for node_id, node in source.nodes.items()}
    for version, there in target.states.items():
        here = source.states.get(version)
        if here is not None:
            if here != there:
                return f"the state of write {_shown(version)} (node {here.node_id}) differs"
            continue
        node = source.nodes.get(there.node_id)
        if node is None and source.has_removed(target.nodes.get(there.node_id)):
            continue
        if (
            node is None
            or version in source.stateless
            or not node.first <= version <= node.version
            or taken.get(version, there.node_id) != there.node_id
        ):
            return f"write {_shown(version)} (node {there.node_id}) is only there"
    return None


def _out_of_reach(source: Holding, target: Holding) -> str | None:
    """A node that the target lacks and cannot take: rows of an earlier owner are fenced there."""
    newest = max(target.owners, default=0)
    for node_id, node in source.nodes.items():
        there = target.nodes.get(node_id)
        if node.version[0] < newest and (there is None or there.version < node.version):
            return (
                f"node {node_id} ({_shown(node.version)}) is missing there, and belongs to an "
                f"earlier owner than epoch {newest}, which has begun there"
            )
    return None


def _shown(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
