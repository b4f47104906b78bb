"""The record of an execution, as a replay reads it: once, whole, and never written to.

An execution counts as still being written if a live process holds the lock of the journal that owns
it, and a node is unfinished; neither service nor store is asked for that. An owner on another
machine cannot be seen here; that the record grew meanwhile is noticed at the end of the replay.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import xxhash

from livingai import serial
from livingai.errors import CorruptRecordError, NodeNotFoundError, StillBeingWrittenError
from livingai.keywords import nearest
from livingai.node import ExecutionNode, Status
from livingai.queue.directory import StateDirectory
from livingai.queue.index import Index
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import boot_id, owner_alive, owner_identity
from livingai.queue.record import execution_hash
from livingai.runs.calls import CALL, CHECKPOINT, ROLE, RUN
from livingai.runs.effects import ReadLatest, ReadState, Work, do

_MOST_LISTED = 12
_UNFINISHED = (Status.RUNNING, Status.PENDING)


class Recording:
    """All nodes of an execution in the order of their first save, and which node has which parent.

    ``lives`` are the nodes that record that a process entered the run, and how that ended
    (:mod:`livingai.runs.life`). They are not replayed, so they are not among ``nodes``. Those of
    processes that made no call (PENDING) are left out.
    """

    def __init__(self, execution_id: str, nodes: Sequence[ExecutionNode]) -> None:
        self.execution_id = execution_id
        self.nodes = tuple(node for node in nodes if node.metadata.get(ROLE) != RUN)
        self.lives = tuple(
            node
            for node in nodes
            if node.metadata.get(ROLE) == RUN and node.status is not Status.PENDING
        )
        self.by_id = {node.id: node for node in self.nodes}
        self._places = {node.id: place for place, node in enumerate(self.nodes)}
        self._children: dict[str, list[str]] = {}
        for node in self.nodes:
            if node.parent_id is not None:
                self._children.setdefault(node.parent_id, []).append(node.id)

    def node(self, node_id: str) -> ExecutionNode:
        """A node of this execution.

        Raises:
            NodeNotFoundError: it has none of that id.
        """
        try:
            return self.by_id[node_id]
        except KeyError:
            raise NodeNotFoundError(
                f"the execution {self.execution_id!r} has no node {node_id!r}"
            ) from None

    def named(self, given: str) -> ExecutionNode:
        """The node of that id, or else of the call of that path, or else the only one that has that
        name.

        Raises:
            NodeNotFoundError: there is none, or more than one; the message lists candidates.
        """
        if given in self.by_id:
            return self.by_id[given]
        for key in (CALL, "name"):
            found = [node for node in self.nodes if node.metadata.get(key) == given]
            if len(found) == 1:
                return found[0]
            if found:
                raise NodeNotFoundError(
                    f"the execution {self.execution_id!r} has {len(found)} calls {given!r}; name "
                    f"one by its path or id: {_listed(found)}"
                )
        names = {str(node.metadata.get("name", "")): node for node in self.nodes}
        meant = names.get(nearest(given, filter(None, names)) or "")
        hint = "." if meant is None else f"; did you mean {_listed([meant])}?"
        raise NodeNotFoundError(
            f"the execution {self.execution_id!r} has no node with the id, path or name {given!r}"
            f"{hint} It has {_listed(self.nodes) or 'no nodes'}"
        )

    def descendants(self, node_ids: Iterable[str]) -> set[str]:
        """All nodes that have one of these among their ancestors, themselves not included."""
        waiting = list(node_ids)
        found: set[str] = set()
        while waiting:
            for child in self._children.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def ancestors(self, node_id: str) -> list[str]:
        """The node's parent, that one's parent and so on."""
        found: list[str] = []
        parent = self.node(node_id).parent_id
        while parent in self.by_id and parent not in found:
            found.append(parent)
            parent = self.by_id[parent].parent_id
        return found

    def ordered(self, node_ids: Iterable[str]) -> list[str]:
        """These nodes in the order of the record."""
        return sorted(node_ids, key=self._places.__getitem__)

    def before(self, node_id: str) -> list[ExecutionNode]:
        """The nodes that were saved before this one, the last of them first."""
        at = self._places[self.node(node_id).id]
        return list(reversed(self.nodes[:at]))

    def fingerprint(self) -> int:
        """Changes if anything in the record does."""
        digest = xxhash.xxh3_64()
        for node in (*self.nodes, *self.lives):
            digest.update(serial.pack(node.to_wire()))
        return digest.intdigest()

    def require_settled(self, directory: StateDirectory) -> None:
        """Raise StillBeingWrittenError if a live process is at work on this execution."""
        # Processes of earlier lives may have been killed, which left them RUNNING; only the last
        # life says whether the run is being written now.
        unfinished = [
            node for node in (*self.nodes, *self.lives[-1:]) if node.status in _UNFINISHED
        ]
        owner = live_owner(directory, self.execution_id) if unfinished else None
        if owner is not None:
            raise StillBeingWrittenError(
                f"{self.execution_id!r} is still being written: process {owner} owns it, and node "
                f"{unfinished[0].id!r} is {unfinished[0].status.value}. Replay it when it has "
                "ended, or pass allow_live=True to replay what is there now"
            )


def _listed(nodes: Sequence[ExecutionNode]) -> str:
    """Nodes as a person names them: name, path, id."""
    shown = [
        f"{node.metadata.get('name') or node.type.value!s} ({place}{node.id})"
        for node in nodes[:_MOST_LISTED]
        for place in [f"{node.metadata[CALL]}, " if CALL in node.metadata else ""]
    ]
    more = len(nodes) - _MOST_LISTED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def fresh(node: ExecutionNode) -> ExecutionNode:
    """A copy that shares nothing with the record, so that a handler may do with it what it likes"""
    return ExecutionNode.from_wire(serial.unpack(serial.pack(node.to_wire())))  # type: ignore[arg-type]


def live_owner(directory: StateDirectory, execution_id: str) -> int | None:
    """The process id of the live owner of an execution on this machine; None without one."""
    key = execution_hash(execution_id)
    # The service holds the locks of dead owners' journals; it is not the owner of an execution.
    service = owner_identity(directory.lock).get("pid")
    for path in directory.journal_paths():
        # A journal may be removed, or be damaged, meanwhile: then it has no live owner.
        with contextlib.suppress(OSError, ValueError, CorruptRecordError):
            index = Index(path)
            try:
                slot = index.get(key) if index.boot == boot_id() else None
            finally:
                index.close()
            lock = os.path.join(path, OWNER_LOCK)
            if slot is not None and slot.newest and not slot.superseded and owner_alive(lock):
                owner = int(owner_identity(lock).get("pid", 0))
                if owner != service:
                    return owner
    return None


def newest_state_before(recording: Recording, node_id: str) -> Work[Any]:
    """The state of the newest checkpoint that was saved with a node before this one; None if there
    is none."""
    before = recording.before(node_id)
    if not before or (yield from do(ReadLatest(recording.execution_id)))[1] is None:
        return None
    for node in before:
        if CALL in node.metadata and node.metadata.get(ROLE) != CHECKPOINT:
            continue  # a recorded call has no state; do not ask for thousands of them one by one
        state = yield from do(ReadState(node.id))
        if state is not None:
            return state
    return None
