"""The record as a replaying program sees it: it may make other calls than the recorded ones.

Where :class:`livingai.tape.Tape` refuses a program that diverges, this one looks for the recorded
call that comes closest:

1. at the same place, with the same arguments;
2. with the same arguments elsewhere, one that no call was given yet before one that was;
3. at the same place, or else the next one that no call was given yet, with the same name but
   other arguments.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from livingai.calls import CALL, CHECKPOINT, ROLE, Call
from livingai.node import ExecutionNode, NodeType
from livingai.replay.recording import Recording
from livingai.tape import Tape, is_same


class Match(NamedTuple):
    """The recorded node for a call, if there is one, and whether its arguments are the same."""

    node: ExecutionNode | None
    same: bool


class ReplayTape(Tape):
    """See the module's text. ``put`` takes nodes of the replay itself: what a call that is tried
    again did in its earlier attempt."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.execution_id, recording.nodes)
        self._given: set[str] = set()
        self._by_name: dict[tuple[NodeType, str], list[ExecutionNode]] = {}
        for node in self.nodes():
            if node.metadata.get(ROLE) != CHECKPOINT:
                key = (node.type, str(node.metadata.get("name")))
                self._by_name.setdefault(key, []).append(node)
        self._own: dict[str, ExecutionNode] = {}

    def __bool__(self) -> bool:
        return True  # even without a single call

    def put(self, node: ExecutionNode) -> None:
        """Add a node of the record or of the replay."""
        if node.execution_id == self.execution_id:
            super().put(node)
        else:
            self._own[str(node.metadata[CALL])] = node

    def at(self, path: str) -> ExecutionNode | None:
        """What the replay itself did at a place."""
        return self._own.get(path)

    def find(self, call: Call) -> ExecutionNode | None:
        """As :meth:`at`; the record is asked by :meth:`match`."""
        return self._own.get(call.path)

    def left_out(self, position: int) -> ExecutionNode | None:
        """Calls that the program leaves out are reported in the end."""
        return None

    def match(self, call: Call) -> Match:
        """The recorded call that comes closest; see the module's text."""
        found = self._closest(call)
        if found.node is not None:
            self._given.add(found.node.id)
        return found

    def _closest(self, call: Call) -> Match:
        here = self._calls.get(call.path)
        if here is not None and is_same(here, call.kind, call.name, call.input):
            return Match(here, True)
        named = self._by_name.get((call.kind, call.name), [])
        free = [node for node in named if node.id not in self._given]
        for node in itertools.chain(free, named):
            if call.input.same_as(node.input):
                return Match(node, True)
        if here in free:
            return Match(here, False)
        return Match(free[0] if free else None, False)
