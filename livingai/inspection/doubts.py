"""How many tools are in doubt: begun, without a result, and no process works on them any more.

The store has the nodes, so the service's reader is asked. Who still works on a run is in the
indexes of the journals: a process that lives and has not been taken over is making the call now,
and what it is doing is no doubt. Processes of other machines are not seen from here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from livingai.errors import LivingAIError
from livingai.inspection.directories import DirectoryView
from livingai.inspection.view import RunsView
from livingai.node import Status
from livingai.protocol.verbs import Answer, Verb
from livingai.queue.index import Index
from livingai.queue.owners import agents_alive
from livingai.queue.record import execution_hash
from livingai.stores.base import ExecutionFilter

#: Runs that are read at most for one count: each is a question to the reader.
MOST_RUNS: Final = 1000
_PATIENCE_S: Final = 15.0
_OPEN: Final = (str(Status.PENDING), str(Status.RUNNING), str(Status.FAILED))


def count_doubts(view: DirectoryView) -> int:
    """How many tools of unfinished runs are in doubt; of the first ``MOST_RUNS`` that no living
    process of this machine works on.

    Raises:
        ServiceUnavailableError: no service runs, or it does not answer in time.
        LivingAIError, OSError: it cannot be found out now.
    """

    def ask(verb: Verb[Answer], *arguments: Any) -> Answer:
        return view.ask(verb, *arguments, timeout_s=_PATIENCE_S)

    runs = RunsView(ask, view.store_url)
    doubts = looked_at = 0
    with _living(view) as indexes:
        for info in runs.executions(ExecutionFilter(statuses=_OPEN)):
            key = execution_hash(info.execution_id)
            if info.damage or any(_works_on(index, key) for index in indexes):
                continue
            doubts += len(runs.plan(info.execution_id).in_doubt_nodes)
            looked_at += 1
            if looked_at >= MOST_RUNS:
                break
    return doubts


@contextlib.contextmanager
def _living(view: DirectoryView) -> Iterator[list[Index]]:
    """The indexes of the journals whose owners live. Raises OSError."""
    with contextlib.ExitStack() as stack:
        found = []
        for path in agents_alive(view.directory):
            try:
                index = Index(path, write=False)
            except (FileNotFoundError, ValueError, LivingAIError):  # it ends now, or is damaged
                continue
            stack.callback(index.close)
            found.append(index)
        yield found


def _works_on(index: Index, key: int) -> bool:
    slot = index.get(key)
    return slot is not None and not slot.superseded
