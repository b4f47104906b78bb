"""Record against replay, node by node, and the result that a session returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from livingai.node import ErrorInfo, ExecutionNode
from livingai.replay.mode import ReplayMode
from livingai.runs.calls import CALL
from livingai.runs.diff import Difference, differences


class Change(StrEnum):
    """How a node of the replay relates to the record."""

    #: Same type, name, input, status, output and error.
    SAME = "same"
    #: At the same place, but something of that differs.
    CHANGED = "changed"
    #: The record has nothing at this place.
    NEW = "new"
    #: The record has it, the replay did not come to it.
    MISSING = "missing"


class How(StrEnum):
    """Where a replayed node's result comes from."""

    #: From the record; nothing was called.
    SERVED = "served"
    #: It ran.
    RUN = "run"
    #: From the overrides of a COUNTERFACTUAL.
    REPLACED = "replaced"


def name_of(node: ExecutionNode) -> str:
    """What a node is called: its metadata's ``name``, else its type."""
    return str(node.metadata.get("name") or node.type.value)


@dataclass(frozen=True, slots=True)
class NodeComparison:
    """One node: as recorded (None if new), as replayed (None if missing), and what differs."""

    change: Change
    name: str
    recorded: ExecutionNode | None
    replayed: ExecutionNode | None
    how: How | None = None
    differences: tuple[Difference, ...] = ()

    def lines(self) -> list[str]:
        """The comparison in words: one line, and one more for each difference."""
        node = self.recorded or self.replayed
        assert node is not None
        how = f" ({self.how.value})" if self.how else ""
        path = node.metadata.get(CALL)
        place = "" if path is None else f"call {path}  "
        lines = [f"{self.change.value:8}{node.type.value:7}{self.name}{how}  {place}{node.id}"]
        if self.change is Change.NEW and self.replayed is not None:
            lines += [f"    {line}" for line in _facts(self.replayed)]
        return lines + [f"    {difference}" for difference in self.differences]


def _facts(node: ExecutionNode) -> list[str]:
    """The lines for a node that has no counterpart."""
    error = f"{node.error.type}: {node.error.message}" if node.error else None
    facts = differences({}, {"input": node.input, "output": node.output, "error": error})
    return [str(fact) for fact in facts if fact.replayed is not None]


def compare(
    recorded: ExecutionNode | None, replayed: ExecutionNode | None, how: How | None = None
) -> NodeComparison:
    """Compare two versions of a node, one of which may not be there.

    Ids, times, costs and metadata (but for the name) belong to a run and are not compared, nor is
    the traceback of an error.
    """
    if recorded is None or replayed is None:
        node = replayed or recorded
        assert node is not None
        change = Change.NEW if recorded is None else Change.MISSING
        return NodeComparison(change, name_of(node), recorded, replayed, how)
    found = differences(_content(recorded), _content(replayed))
    change = Change.CHANGED if found else Change.SAME
    return NodeComparison(change, name_of(recorded), recorded, replayed, how, found)


def _content(node: ExecutionNode) -> dict[str, Any]:
    error = node.error
    return {
        "name": name_of(node),
        "type": node.type.value,
        "input": node.input,
        "status": node.status.value,
        "output": node.output,
        "error": None if error is None else f"{error.type}: {error.message}",
    }


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did.

    ``execution_id`` is the new execution, ``parent_execution`` the record. ``nodes`` compares both
    in order of the replay, what is missing at the end. ``output`` is what the agent function
    returned (None for a handler), ``state`` the last state, ``error`` what ended the replay early
    or the first failure of a handler; ``error_recorded``: the recorded program ended with the same.
    ``state_differences`` compares the last states of two programs. ``record_changed``: the record
    was written to during the replay. ``unseen``: calls that a COUNTERFACTUAL served because their
    arguments are the same, though their functions also use variables around them (their names),
    which may have other values now.
    """

    execution_id: str
    parent_execution: str
    mode: ReplayMode
    nodes: tuple[NodeComparison, ...]
    output: Any = None
    state: Any = None
    error: ErrorInfo | None = None
    error_recorded: bool = False
    state_differences: tuple[Difference, ...] = ()
    record_changed: bool = False
    unseen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether the replay did what the record says, node by node, to the last state."""
        failed = self.error is not None and not self.error_recorded
        return not failed and not self.state_differences and not self.diverged

    @property
    def diverged(self) -> tuple[NodeComparison, ...]:
        """The nodes that are not the same."""
        return tuple(node for node in self.nodes if node.change is not Change.SAME)

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes are same, changed, new and missing."""
        counted = Counter(node.change.value for node in self.nodes)
        return {change.value: counted[change.value] for change in Change}

    def report(self, *, full: bool = False) -> str:
        """The result as text: what is not the same, with differences; with ``full`` every node."""
        counts = ", ".join(f"{count} {change}" for change, count in self.counts.items() if count)
        lines = [
            f"replay of {self.parent_execution} ({self.mode.value}) -> {self.execution_id}",
            f"{'same' if self.same else 'diverged'}: {counts or 'no nodes'}",
        ]
        for node in self.nodes if full else self.diverged:
            lines += node.lines()
        lines += [f"state    {difference}" for difference in self.state_differences]
        if self.error is not None:
            lines.append(f"error    {self.error.type}: {self.error.message}")
        for name, variables in self.unseen.items():
            lines.append(
                f"note     {name} was served, though it also uses {', '.join(variables)}: pass "
                "what may change as an argument"
            )
        if self.record_changed:
            lines.append("note     the record was written to during the replay")
        return "\n".join(lines)
