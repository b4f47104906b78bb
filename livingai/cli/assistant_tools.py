"""What an assistant may ask about runs: each answer is one bounded object of plain values.

Nothing here changes anything but :meth:`AssistantTools.replay`, which writes a new execution.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from livingai.cli.exit_status import CommandError
from livingai.cli.listing import Selection, as_object
from livingai.cli.place import looking_at
from livingai.cli.recovering import plan_object
from livingai.cli.states import state_at
from livingai.cli.tree import node_object
from livingai.cli.where import engine_on
from livingai.node import ExecutionNode
from livingai.replay.mode import ReplayMode
from livingai.replay.session import ReplaySession
from livingai.runs.diff import NOTHING, differences
from livingai.stores.base import ExecutionFilter
from livingai.stores.shared.human import human_json

#: An answer has so many runs, nodes or differences at most.
MOST: Final = 100
#: Characters of a value as JSON; what is longer is cut, and a part of it may be asked for.
_VALUE: Final = 2_000
_STATE: Final = 20_000


class AssistantTools:
    """Tools for one store. Each call opens the store, or asks the service that runs then.

    Methods raise LivingAIError or CommandError, with a sentence that says what to do.
    """

    def __init__(self, store: str, program: Callable[..., Any] | None = None) -> None:
        """``program``: what :meth:`replay` runs."""
        self._store = store
        self._program = program

    def list_runs(
        self, status: str = "", prefix: str = "", text: str = "", after: str = "", limit: int = 50
    ) -> dict[str, Any]:
        """A page of runs in order of id. ``after`` is ``next_after`` of the page before."""
        most = min(max(limit, 1), MOST)
        where = ExecutionFilter((status,)) if status else None
        selection = Selection(where, prefix, text.casefold(), after or None, "id", False)
        with looking_at(self._store) as view:
            found = selection.of(view, most + 1)
        next_after = found[most - 1].execution_id if len(found) > most else None
        return {"runs": [as_object(run) for run in found[:most]], "next_after": next_after}

    def show_run(self, run: str, first: int = 0, values: bool = False) -> dict[str, Any]:
        """A run and its nodes from the number ``first`` on; ``values``: with inputs, outputs and
        errors, cut to a few lines each."""
        with looking_at(self._store) as view:
            info = view.execution(run)
            nodes = view.nodes(run)
            sizes = {size.node_id: size for size in view.checkpoints(run)}
        first = max(first, 0)
        shown = []
        for recorded in nodes[first : first + MOST]:
            node = node_object(recorded, sizes)
            shown.append(node | _values(recorded.node) if values else node)
        following = first + MOST if len(nodes) > first + MOST else None
        return {"run": as_object(info), "nodes": shown, "next_first": following}

    def state(self, run: str, at_node: str = "", path: str = "") -> dict[str, Any]:
        """The state of a run, or as it was when a node was saved; of that the part that ``path``
        names: keys and numbers, separated by slashes."""
        with looking_at(self._store) as view:
            carrier, found = state_at(view, run, at_node or None)
        value = json.loads(human_json(found) or "null")
        for key in filter(None, path.split("/")):
            value = _part(value, key, path)
        return {"run": run, "node": carrier, "path": path, "state": _cut(value, _STATE)}

    def diff(self, one: str, other: str, one_at: str = "", other_at: str = "") -> dict[str, Any]:
        """Where the states of two runs differ, or of a run at two nodes."""
        with looking_at(self._store) as view:
            first = state_at(view, one, one_at or None).state
            second = state_at(view, other, other_at or None).state
        found = differences(first, second, limit=MOST + 1)
        listed = []
        for each in found[:MOST]:
            sides = {"one": each.recorded, "other": each.replayed}
            listed.append({"path": each.path} | {
                name: _described(side) for name, side in sides.items() if side is not NOTHING
            })  # fmt: skip
        return {"differences": listed, "more": len(found) > MOST}

    def recovery(self, run: str) -> dict[str, Any]:
        """What the run would do if it were resumed: where it begins, what may run again, what is
        served from the record, and which calls are in doubt."""
        with looking_at(self._store) as view:
            info, plan = view.execution(run), view.plan(run)
        found = plan_object(info, plan)
        for name, listed in found.items():
            if isinstance(listed, list):
                found[name] = listed[:MOST]
        in_doubt = [
            {"id": node.id, "name": node.metadata.get("name")} | _values(node)
            for node in plan.in_doubt_nodes[:MOST]
        ]
        return found | {"calls_in_doubt": in_doubt}

    def replay(self, run: str) -> dict[str, Any]:
        """Replay a run with the program: steps are made again, tools are served from the record.
        The record stays as it is; the replay is a new execution."""
        if self._program is None:
            raise CommandError("no program was given: livingai mcp --program module:function")
        with engine_on(self._store) as engine:
            session = ReplaySession(engine, run)
            result = session.run_sync(self._program, mode=ReplayMode.MOCK_TOOLS)
            engine.flush_sync()
        return {
            "same": result.same,
            "execution_id": result.execution_id,
            "counts": result.counts,
            "output": _described(result.output),
            "report": _cut(result.report(), _STATE),
        }


def _values(node: ExecutionNode) -> dict[str, Any]:
    error = node.error and f"{node.error.type}: {node.error.message}"
    values = {"input": _described(node.input), "output": _described(node.output), "error": error}
    return {name: _cut(value, _VALUE) for name, value in values.items() if value is not None}


def _described(value: Any) -> Any:
    return _cut(json.loads(human_json(value) or "null"), _VALUE)


def _cut(value: Any, most: int) -> Any:
    """A value whose JSON has so many characters at most; else the beginning of that, as text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= most:
        return value
    return f"{text[:most]}… ({len(text)} characters)"


def _part(value: Any, key: str, path: str) -> Any:
    try:
        if isinstance(value, list):
            return value[int(key)]
        return value[key]
    except (LookupError, TypeError, ValueError) as error:
        raise CommandError(f"the state has nothing at {path!r}: no {key!r}") from error
