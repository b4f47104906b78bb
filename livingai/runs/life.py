"""One process's life in a run: what is recorded of it, and so what the run's status says.

A life's node is saved three times:

* PENDING as the run is entered: that is how this process takes it over. It says nothing of the run;
* RUNNING before the first thing that this life adds to the record (at once, if the run is new);
* SUCCESS or FAILED at the end, with the error that ended it, whatever that was: what a call raised,
  a divergence, Ctrl-C, a cancelled task.

A life that makes no call, sets no state and ends in order has only looked in, and is not saved
again, so the run stands as before. Nor is one that was fenced: the run is its successor's.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable
from typing import Any

from livingai.errors import FencedError, LivingAIError
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status
from livingai.runs.calls import ROLE, RUN
from livingai.runs.effects import Save, Work, do, save_failed
from livingai.runs.failures import RAISED
from livingai.runs.ownership import Ownership

_log = logging.getLogger("livingai")


class Life:
    """See the module's text."""

    def __init__(
        self, execution_id: str, owner: Ownership, metadata: dict[str, Any] | None
    ) -> None:
        self._owner = owner
        self.node = ExecutionNode(
            execution_id, NodeType.MEMORY, Status.PENDING,
            metadata={
                "name": "run", **(metadata or {}), ROLE: RUN, "host": socket.gethostname(),
                "pid": os.getpid(),
            },
        )  # fmt: skip
        #: Whether the program has done anything that only a program does.
        self.active = False
        #: Nothing was recorded before.
        self._is_first = False
        self._was_finished = False

    def enter(self) -> Work[None]:
        """Take the run over.

        Raises:
            FencedError: another process did so at the same time, and won.
        """
        self.node.created_at = time.time()
        yield from self._owner.take(self.node)

    def follow(self, before: Iterable[ExecutionNode]) -> Work[None]:
        """``before`` is what was recorded when the run was entered."""
        others = [node for node in before if node.id != self.node.id]
        told = [node for node in others if is_life(node) and node.status is not Status.PENDING]
        self._is_first = not others
        self._was_finished = bool(told) and told[-1].status is Status.SUCCESS
        if self._is_first:
            yield from self.go_on()

    def go_on(self) -> Work[None]:
        """Something is about to be recorded: the run is running (again)."""
        self.active = True
        if self.node.status is Status.PENDING:
            self.node.status = Status.RUNNING
            yield from do(Save(self.node))

    @property
    def looked_in(self) -> bool:
        """Whether this life was nothing but a look at what is recorded."""
        return not self.active

    def end(self, error: BaseException | None) -> Work[None]:
        """Record how it ended; with an error as far as that can be done: the error goes up in any
        case."""
        if self.looked_in and (error is None or self._was_finished):
            return
        node = self.node
        node.completed_at = time.time()
        if error is None:
            node.status = Status.SUCCESS
            yield from self._owner.check()
            yield from do(Save(node))
            return
        node.status = Status.FAILED
        node.error = ErrorInfo.from_exception(error)
        node.metadata[RAISED] = {"module": type(error).__module__}
        try:
            yield from self._owner.check()
            yield from save_failed(node)
        except FencedError:
            return  # how the run stands is its successor's to say
        except LivingAIError as trouble:
            _log.warning(
                "run %r ended with %s; that could not be recorded, so it still reads as running: "
                "%s", node.execution_id, node.error.type, trouble,
            )  # fmt: skip


def is_life(node: ExecutionNode) -> bool:
    """Whether a node is the record of a life."""
    return node.metadata.get(ROLE) == RUN
