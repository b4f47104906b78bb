"""Matching: which recorded call is the counterpart of a call that a replayed program makes.

The program may make other calls than the recorded ones. :class:`livingai.runs.tape.Tape` raises
DivergenceError then; this one looks for the recorded call that is most like it:

1. at the same place, with the same arguments;
2. with the same arguments elsewhere, preferably one that no call was matched with yet;
3. at the same place, or else the next one that no call was matched with yet, with the same name
   but other arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from livingai.node import ExecutionNode, NodeType
from livingai.replay.recording import Recording
from livingai.runs.calls import CALL, CHECKPOINT, ROLE, Call
from livingai.runs.tape import Tape, is_same


class Match(NamedTuple):
    """The recorded node for a call, if there is one, and whether its arguments are the same."""

    node: ExecutionNode | None
    same: bool


class ReplayTape(Tape):
    """The record of a replayed execution, searched by what is called. ``put`` takes nodes of the
    replay itself: what a call that is tried again did in its earlier attempt."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.execution_id, recording.nodes)
        self._given: set[str] = set()
        self._own: dict[str, ExecutionNode] = {}

    @cached_property
    def _lines(self) -> dict[Hashable, _Line]:
        """The recorded calls by kind and name, and by kind, name and input; made when the program
        first makes a call that is not at its place."""
        lines: dict[Hashable, _Line] = {}
        for node in self.nodes():
            key = _key(node)
            if key is not None:
                for each in (key, (*key, frozen(node.input))):
                    lines.setdefault(each, _Line()).nodes.append(node)
        return lines

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

    def left_out(self, position: int, reached: Collection[str]) -> ExecutionNode | None:
        """Calls that the program leaves out are reported in the end."""
        return None

    def match(self, call: Call) -> Match:
        """The recorded call that is most like ``call``, in the order that this module's text
        gives."""
        found = self._closest(call)
        if found.node is not None:
            self._given.add(found.node.id)
        return found

    def _closest(self, call: Call) -> Match:
        here = self._calls.get(call.path)
        if here is not None and is_same(here, call.kind, call.name, call.input):
            return Match(here, True)
        key = (call.kind, call.name)
        alike = self._lines.get((*key, frozen(call.input.recorded())), _NO_CALLS)
        for node in alike.free_first(self._given):
            if call.input.same_as(node.input):
                return Match(node, True)
        if here is not None and here.id not in self._given and _key(here) == key:
            return Match(here, False)
        return Match(self._lines.get(key, _NO_CALLS).first_free(self._given), False)


def _key(node: ExecutionNode) -> tuple[NodeType, str] | None:
    """Kind and name; None for a checkpoint, which is found by its place alone."""
    if node.metadata.get(ROLE) == CHECKPOINT:
        return None
    return (node.type, str(node.metadata.get("name")))


@dataclass(slots=True)
class _Line:
    """Calls of one kind, in the order of the record. Those at the head that were given are passed
    once and for all, so that a program of thousands of equal calls does not look at them again."""

    nodes: list[ExecutionNode] = field(default_factory=list)
    head: int = 0

    def first_free(self, given: set[str]) -> ExecutionNode | None:
        """The first one that was not given yet."""
        while self.head < len(self.nodes) and self.nodes[self.head].id in given:
            self.head += 1
        return self.nodes[self.head] if self.head < len(self.nodes) else None

    def free_first(self, given: set[str]) -> Iterator[ExecutionNode]:
        """All, those that were not given yet before those that were."""
        self.first_free(given)
        for node in itertools.islice(self.nodes, self.head, None):
            if node.id not in given:
                yield node
        yield from (node for node in self.nodes if node.id in given)


_NO_CALLS: Final = _Line()


def frozen(value: Any) -> Hashable:
    """A key to look an input up by. Equal inputs (:meth:`Input.same_as`) have equal keys; so have
    some that differ: a list and a tuple, and all that cannot be hashed."""
    try:
        key = _frozen(value)
        hash(key)
    except (TypeError, RecursionError, ArithmeticError):  # the last: a signaling NaN
        return None
    return key


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        if "digest" in value:
            return str(value["digest"])
        return frozenset((_frozen(key), _frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, set | frozenset):
        return frozenset(map(_frozen, value))
    if isinstance(value, bytearray):
        return bytes(value)
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    return value  # type: ignore[no-any-return]
