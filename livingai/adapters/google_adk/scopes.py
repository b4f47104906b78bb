"""State that sessions share: of an app, or of one of its users.

Each is an execution that any session of any process appends changes to, ``<execution>/e/...``. The
state is all changes in the order in which the store has them, so everybody reads the same, and of
two changes of one key the later one counts. Every now and then a process writes down what they come
to, ``<execution>/s/<position>-...``, and readers begin there.
"""

from __future__ import annotations

import collections
import copy
import threading
from typing import Final

from livingai.adapters.google_adk.entries import FRAMEWORK, StateDict, unique
from livingai.adapters.names import behind_prefix, execution_name
from livingai.adapters.shared_log import SharedLog
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.stores.ranges import NodeRange, Version

#: As many changes are behind a sum before the next one is written.
SUM_EVERY: Final = 64
_PAGE: Final = 1000
#: How many scopes' states are remembered.
_REMEMBERED: Final = 4096
_BEGIN: Final = (-1, -1)


class _Sum:
    """What the changes up to a position come to, and how many of those that were read no written
    sum has."""

    __slots__ = ("loose", "state", "upto")

    def __init__(self, state: StateDict, upto: Version, loose: int) -> None:
        self.state = state
        self.upto = upto
        self.loose = loose


def app_execution(app_name: str) -> str:
    """The execution of an app's state."""
    return execution_name(FRAMEWORK, "app", app_name)


def user_execution(app_name: str, user_id: str) -> str:
    """The execution of a user's state."""
    return execution_name(FRAMEWORK, "user", app_name, user_id)


class SharedStates:
    """Reads and changes the states that sessions share. Thread-safe."""

    def __init__(self, log: SharedLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[str, _Sum] = collections.OrderedDict()

    async def change(
        self, execution_id: str, delta: StateDict, name: str, durability: Durability | None
    ) -> None:
        """Append a change; the same ``name`` again changes nothing.

        Raises:
            LivingAIError: as :meth:`SharedLog.append`.
        """
        node = ExecutionNode(
            execution_id, NodeType.MEMORY, Status.SUCCESS, id=f"{execution_id}/e/{name}",
            output=delta, metadata={"framework": FRAMEWORK, "kind": "state"},
        )  # fmt: skip
        node.completed_at = node.created_at
        await self._log.append(node, durability=durability)
        with self._lock:
            known = self._known.get(execution_id)
        if known is not None and known.loose >= SUM_EVERY:
            await self._write_sum(execution_id)

    async def _write_sum(self, execution_id: str) -> None:
        known = await self._read(execution_id)
        if known.loose < SUM_EVERY:  # another process has written one
            return
        epoch, seq = known.upto
        await self._log.append(ExecutionNode(
            execution_id, NodeType.MEMORY, Status.SUCCESS,
            id=f"{execution_id}/s/{epoch:020d}-{seq:020d}-{unique()}",
            metadata={"framework": FRAMEWORK, "kind": "sum", "upto": [epoch, seq]},
        ), known.state)  # fmt: skip
        with self._lock:
            known.loose = 0

    async def read(self, execution_id: str) -> StateDict:
        """The state; the caller's to change.

        Raises:
            CorruptRowError: another program has written into the execution.
            LivingAIError: as :meth:`SharedLog.nodes_between`.
        """
        return copy.deepcopy((await self._read(execution_id)).state)

    async def _read(self, execution_id: str) -> _Sum:
        with self._lock:
            known = self._known.get(execution_id)
        if known is None:
            newest, changes = await self._log.node_pages(
                execution_id, [_sums(execution_id), _changes(execution_id, _BEGIN)]
            )
            known = _sum(newest.nodes[0]) if newest.nodes else _Sum({}, _BEGIN, 0)
            if newest.nodes and changes.rest is not None:  # begin there instead
                changes = await self._log.nodes_between(
                    execution_id, _changes(execution_id, known.upto)
                )
        else:
            changes = await self._log.nodes_between(
                execution_id, _changes(execution_id, known.upto)
            )
        added = await self._all(execution_id, changes, known.upto)
        if added:
            state = dict(known.state)
            for entry in added:
                state |= _delta(entry.node)
            known = _Sum(state, added[-1].first, known.loose + len(added))
        with self._lock:
            self._known[execution_id] = known
            self._known.move_to_end(execution_id)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    async def _all(self, execution_id: str, page: NodePage, after: Version) -> list[RangedNode]:
        """The changes of a page and of all that follow, behind a position, in the store's order."""
        found = list(page.nodes)
        while page.rest is not None:
            page = await self._log.nodes_between(execution_id, page.rest)
            found += page.nodes
        return sorted((each for each in found if each.first > after), key=lambda each: each.first)


def _changes(execution_id: str, after: Version) -> NodeRange:
    prefix = f"{execution_id}/e/"
    behind = behind_prefix(prefix)
    return NodeRange(prefix, behind, _PAGE, states=False, after=None if after == _BEGIN else after)


def _sums(execution_id: str) -> NodeRange:
    prefix = f"{execution_id}/s/"
    return NodeRange(prefix, behind_prefix(prefix), limit=1, backwards=True)


def _sum(entry: RangedNode) -> _Sum:
    match entry.node.metadata.get("upto"):
        case [int(epoch), int(seq)] if isinstance(entry.state, dict):
            return _Sum(entry.state, (epoch, seq), 0)
    raise _foreign(entry.node)


def _delta(node: ExecutionNode) -> StateDict:
    delta = node.output
    if not isinstance(delta, dict) or not all(isinstance(key, str) for key in delta):
        raise _foreign(node)
    return delta


def _foreign(node: ExecutionNode) -> CorruptRowError:
    return CorruptRowError(
        f"{node.id} is no change of a state: another program has written into that execution"
    )
