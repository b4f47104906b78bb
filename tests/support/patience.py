"""How long tests wait on a machine that is busy.

Rules:

1. A deadline in a test is for an idle machine. It ends a wait for what never comes, and says
   nothing of how long something takes.
2. It is stretched by how slow the machine is, and never shrunk: :func:`patience` for a wait that is
   told its seconds before it begins, :class:`Deadline` for one that looks again and again. A
   ``Deadline`` measures anew when its time is up, so load that came in between counts, too.
3. Slow is the worse of two. The load average per processor is the past minute's queue of all
   processes, those that wait for a disk among them. It knows nothing of a container's quota, nor of
   what a host takes from a virtual machine; so a few milliseconds of CPU are spent here, and their
   wall time tells what a process has to wait for them now.
4. Not more than ``MOST`` times: what hangs has to end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

# By name: tests that give the product another clock leave this one alone.
from time import monotonic, perf_counter, thread_time

#: The most that a deadline is stretched.
MOST = 10.0
#: CPU that a measurement spends: several times what the kernel gives a process in one go.
_SPIN_S = 0.02
#: Seconds for which a measurement is good.
_FRESH_S = 5.0


class Slowness:
    """Measures the machine, not more often than every few seconds. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured_at = float("-inf")
        self._last = 1.0

    def __call__(self) -> float:
        """How many times as long as on an idle machine things take now: 1 to ``MOST``."""
        with self._lock:
            if monotonic() - self._measured_at > _FRESH_S:
                self._last = min(MOST, max(1.0, queued(), spun()))
                self._measured_at = monotonic()
            return self._last


def queued() -> float:
    """Processes per processor that wanted to run in the last minute."""
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


def spun() -> float:
    """Wall time of a little CPU time, as a multiple of it."""
    began, used = perf_counter(), thread_time()
    while (cpu_s := thread_time() - used) < _SPIN_S:
        pass
    return (perf_counter() - began) / cpu_s


slowness = Slowness()


def patience(seconds: float) -> float:
    """Seconds to wait now for what takes less than ``seconds`` on an idle machine."""
    return seconds * slowness()


class Deadline:
    """The end of a wait that looks again and again."""

    def __init__(
        self,
        seconds: float,
        *,
        measure: Callable[[], float] = slowness,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``seconds`` are those of an idle machine."""
        self._seconds = seconds
        self._measure = measure
        self._clock = clock
        self._began = clock()
        #: The slowest that the machine was at any look at it, since the wait began.
        self._worst = 1.0

    def left(self) -> float:
        """Seconds that may still be waited, at the least; 0 once the deadline has passed."""
        spent = self._clock() - self._began
        if spent >= self._seconds * self._worst:
            self._worst = min(MOST, max(self._worst, self._measure()))
        return max(0.0, self._seconds * self._worst - spent)

    def __str__(self) -> str:
        text = f"{self._seconds * self._worst:.3g} s"
        return text if self._worst == 1.0 else f"{text} ({self._seconds:.3g} s, a busy machine)"
