"""What every process of the service does first."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent (pid ``parent``) dies.

    Linux only; elsewhere the end of the connection to the parent has to do. The parent may have
    died before the call, hence the check behind it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def yield_to_agents() -> None:
    """Let agents go first: a process of class SCHED_BATCH never preempts one that it wakes up
    beside, so a ``save`` that has just woken the service is not interrupted by it. Costs the
    service a few ms of its budget on a busy machine, and saves the agent its 99th percentile
    (``make bench`` measures it as "held")."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def leave_signals_to_parent() -> None:
    """Ignore what a terminal sends to the whole group; the dispatcher decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
