"""What every process of the service does first."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent (pid ``parent``) dies.

    Linux only; elsewhere it ends when its connection to the parent does. The parent may have
    died before the call, hence the check behind it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError, ImportError):
            import ctypes  # noqa: PLC0415 - there are Pythons without it

            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def yield_to_agents() -> None:
    """Let agents go first, as far as the kernel lets us say so: a process of class SCHED_BATCH does
    not preempt at wake-up, so a ``save`` that has just woken the service is less often interrupted
    by it (``make bench`` measures that as "held"). It costs the service a few ms of its budget on
    a busy machine.

    A hint only. Where the scheduler groups processes by session (``sched_autogroup_enabled``, the
    default of desktops and of many servers) or by cgroup, groups compete as wholes and the service,
    a session of its own, is in another group than its agents: the hint then counts among the
    service's own processes and hardly against an agent. ``nice`` is no way around that, because it,
    too, counts inside a group."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have: the dispatcher needs a few per agent, and the
    usual soft limit of 1024 is there for programs that call ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS says "unlimited" and means less
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def leave_signals_to_parent() -> None:
    """Ignore what a terminal sends to the whole group; the dispatcher decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
