"""``livingai serve`` as process 1 of a container: it collects the orphans that the kernel gives it.

When a process ends, its children become children of process 1. In a container without an init that
is the service: a shell of ``docker exec`` or of a probe that leaves children behind would leave
zombies, until no process can be started any more. What the service's own processes leave is
collected by the supervisor, which is their subreaper.
"""

from __future__ import annotations

import contextlib
import os
import signal


class Orphans:
    """Collects children that end, but for one, which somebody waits for."""

    def __init__(self, own: int) -> None:
        """``own``: the child that is not to be collected."""
        self._own = own

    def adopt(self) -> None:
        """Collect what has ended, and from now on whatever ends. To be called in the main
        thread."""
        signal.signal(signal.SIGCHLD, self._child_ended)
        self._child_ended()

    def _child_ended(self, _number: int = signal.SIGCHLD, _frame: object = None) -> None:
        """SIGCHLD: one signal may stand for several ends."""
        with contextlib.suppress(ChildProcessError):
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == self._own:
                    return  # with the own child the service ends, and the container with it
                os.waitpid(found.si_pid, os.WNOHANG)
