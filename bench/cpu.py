"""CPU time of a process, in nanoseconds, threads that have ended included.

``/proc/PID/stat``, and psutil with it, counts in ticks of 10 ms, as much as fifty saves.
"""

from __future__ import annotations

import ctypes
import os
import time
from functools import cache


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, by its clock (POSIX ``clock_getcpuclockid``).

    Raises:
        OSError: there is no such process.
    """
    clock = ctypes.c_int()
    error = _libc().clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error), f"process {pid}")
    return time.clock_gettime_ns(clock.value) / 1e9
