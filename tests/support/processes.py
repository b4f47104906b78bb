"""Processes of a test: they carry its tag in their environment, and so do those that they start.

One of them is never killed: Python's resource tracker, a process beside each one that has
compressors. Once all that used their semaphores are dead, it removes those from ``/dev/shm``, and
ends. If it were killed with them, they would stay there.
"""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from tests.support.waiting import until

#: The variable with the tag.
TAG = "LIVINGAI_TEST_PLACE"


def tagged(tag: str, variable: str = TAG) -> list[psutil.Process]:
    """Every process with that tag, but this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(variable) == tag:
                found.append(process)
    return found


def is_tracker(process: psutil.Process) -> bool:
    """Whether it is a resource tracker."""
    with suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    return False


def end_all(tag: str, variable: str = TAG) -> None:
    """SIGKILL every process with that tag, and wait until none is left."""

    def none_left() -> bool:
        found = tagged(tag, variable)
        for process in found:
            if not is_tracker(process):
                with suppress(psutil.Error):
                    process.kill()
        return not found

    until(none_left, what=f"end of all processes with {variable}={tag}")
