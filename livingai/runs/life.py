"""A *life*: the time from when one process enters a run until it leaves it or dies.

The run's status is the status of its newest life that is not PENDING. A life's node is saved up to
three times:

* PENDING when the run is entered. This save takes the execution over; it does not change the status
  of the run.
* RUNNING before this life adds anything else to the record (at once, if the run is new).
* SUCCESS or FAILED at the end, with the error that ended the program: what a call raised, a
  divergence, KeyboardInterrupt, a cancelled task.

A life in which the program makes no call, sets no state and ends without an error is not saved
again, so the run keeps its status. Neither is a life that was fenced: its successor decides the
status of the run.
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
    """The node of one process's time in a run, and when it is saved."""

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
        #: Whether the program has made a call or set a state.
        self.active = False
        #: Whether nothing was recorded before.
        self._is_first = False
        self._was_finished = False

    def enter(self) -> Work[None]:
        """Take the run over.

        Raises:
            FencedError: another process took it over at the same time, and its claim is the newer
                one.
        """
        self.node.created_at = time.time()
        yield from self._owner.take(self.node)

    def follow(self, before: Iterable[ExecutionNode]) -> Work[None]:
        """``before`` is what was recorded when the run was entered."""
        others = [node for node in before if node.id != self.node.id]
        recorded = [node for node in others if is_life(node) and node.status is not Status.PENDING]
        self._is_first = not others
        self._was_finished = bool(recorded) and recorded[-1].status is Status.SUCCESS
        if self._is_first:
            yield from self.go_on()

    def go_on(self) -> Work[None]:
        """Call before anything else is recorded: saves the life as RUNNING, if it is not yet."""
        self.active = True
        if self.node.status is Status.PENDING:
            self.node.status = Status.RUNNING
            yield from do(Save(self.node))

    @property
    def looked_in(self) -> bool:
        """Whether the program has made no call and set no state."""
        return not self.active

    def end(self, error: BaseException | None) -> Work[None]:
        """Record how the life ended. If it ended with an error, trouble while that is recorded is
        only logged: the program's own error is the one that is raised."""
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
            return  # its successor decides the status of the run
        except LivingAIError as trouble:
            _log.warning(
                "run %r ended with %s; that could not be recorded, so it still reads as running: "
                "%s", node.execution_id, node.error.type, trouble,
            )  # fmt: skip


def is_life(node: ExecutionNode) -> bool:
    """Whether a node is the record of a life."""
    return node.metadata.get(ROLE) == RUN
