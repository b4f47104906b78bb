"""The tape: what is recorded of a run, looked up call by call when its program runs again.

The node of a call is found by the call's path. It has to record the same kind, name and arguments;
else the program has changed or is not deterministic, and the run raises
:class:`~livingai.errors.DivergenceError`, which shows both calls.
"""

from __future__ import annotations

import difflib
import logging
import pprint
from collections.abc import Collection, Iterable
from typing import Any, Final

from livingai.errors import DivergenceError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.runs.calls import CALL, CHECKPOINT, ROLE, Call, Input

_log = logging.getLogger("livingai")
_WIDTH: Final = 88
_MOST_LINES: Final = 40


class Tape:
    """The recorded calls of one execution, by path."""

    def __init__(self, execution_id: str, nodes: Iterable[ExecutionNode] = ()) -> None:
        self.execution_id = execution_id
        self._calls: dict[str, ExecutionNode] = {}
        for node in nodes:
            self.put(node)

    def put(self, node: ExecutionNode) -> None:
        """Add a node, or its newer version; one that records no call is left out."""
        path = node.metadata.get(CALL)
        if isinstance(path, str):
            self._calls[path] = node

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, path: str) -> bool:
        return path in self._calls

    def nodes(self) -> list[ExecutionNode]:
        """All recorded calls, in the order of their first save."""
        return list(self._calls.values())

    def in_doubt(self) -> list[ExecutionNode]:
        """Tools whose intent is recorded, and no outcome."""
        return [
            node
            for node in self._calls.values()
            if node.status is Status.RUNNING and not node.idempotent
        ]

    def at(self, path: str) -> ExecutionNode | None:
        """The node that is recorded under a path."""
        return self._calls.get(path)

    def find(self, call: Call) -> ExecutionNode | None:
        """The node of the same call; None if it was not recorded.

        Raises:
            DivergenceError: another call is recorded in its place.
        """
        node = self._calls.get(call.path)
        if node is None or is_same(node, call.kind, call.name, call.input):
            return node
        raise self.divergence(call.path, node, call.kind, call.name, call.input.value)

    def left_out(self, position: int, reached: Collection[str]) -> ExecutionNode | None:
        """The first call that a program which has ended should have made: one of its own that is
        recorded at ``position`` or behind it, or a tool in a task or named scope that is not among
        the ``reached`` places. Idempotent calls of tasks may be missing: how many there are may
        depend on timing, such as those of a heartbeat."""
        behind = [int(path) for path in self._calls if path.isdecimal() and int(path) >= position]
        if behind:
            return self._calls[str(min(behind))]
        for path, node in self._calls.items():
            if not (node.idempotent or node.parent_id or path.isdecimal() or path in reached):
                return node
        return None

    def divergence(
        self, path: str, node: ExecutionNode, kind: NodeType, name: str, call_input: Any
    ) -> DivergenceError:
        """The error for a call that is not the recorded one."""
        recorded = show_call(node.type, str(node.metadata.get("name", "")), node.input)
        now = show_call(kind, name, call_input)
        lines = difflib.unified_diff(recorded, now, "recorded", "now", n=2, lineterm="")
        diff = "\n".join(list(lines)[:_MOST_LINES])
        return DivergenceError(
            f"run {self.execution_id!r}, call {path}: the program makes another call than the one "
            f"that is recorded there\n{diff}\nResume a run with the program that began it; give a "
            "changed program an execution id of its own. Tasks that are started in a varying order "
            'need `with run.scope("name"):`.'
        )


def is_same(node: ExecutionNode, kind: NodeType, name: str, call_input: Input) -> bool:
    """Whether a node records this call."""
    if node.type is not kind or node.metadata.get("name") != name:
        return False
    return node.metadata.get(ROLE) == CHECKPOINT or call_input.same_as(node.input)


def show_call(kind: NodeType, name: str, call_input: Any) -> list[str]:
    """A call as lines of text, to be compared."""
    lines = [f"{kind.value} {name}"]
    if isinstance(call_input, dict) and "kwargs" in call_input:
        for number, value in enumerate(call_input.get("args", ())):
            lines += _show(f"argument {number}", value)
        for key, value in call_input["kwargs"].items():
            lines += _show(str(key), value)
    elif call_input is not None:
        lines += _show("input", call_input)
    return lines


def warn_of_other_state(checkpoint: ExecutionNode, recorded: Any, now: Any) -> None:
    """Log a warning if a resumed program reaches the newest checkpoint with another state than the
    recorded one. The program goes on with its own state."""
    from livingai.runs.diff import differences  # noqa: PLC0415 - for this warning only

    if recorded == now or not (found := differences(recorded, now, "state", limit=3)):
        return
    _log.warning(
        "run %r: at checkpoint %s its state is not the recorded one (%s). Make it from the results "
        "of recorded calls alone: what is changed inside of a call is not changed again when the "
        "call is served.",
        checkpoint.execution_id, checkpoint.metadata.get(CALL), "; ".join(map(str, found)),
    )  # fmt: skip


def _show(title: str, value: Any) -> list[str]:
    text = pprint.pformat(value, width=_WIDTH, sort_dicts=False).splitlines()
    return [f"  {title}: {text[0]}", *(f"    {line}" for line in text[1:])]
