"""Waiting for the operating system, always with a deadline.

Only for states that nothing announces (a process has ended, a file is there). What is announced is
waited for by its signal: a line on a pipe, an outcome, the end of a process. Each ``timeout`` is
for an idle machine, and is stretched on a busy one (:mod:`tests.support.patience`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psutil

from tests.support.patience import Deadline

T = TypeVar("T")


def until(
    look: Callable[[], T],
    *,
    what: str,
    timeout: float = 30.0,
) -> T:
    """The first truthy answer of ``look``; AssertionError after ``timeout`` seconds. If it comes
    from a process that may have died, ``look`` raises then."""
    deadline = Deadline(timeout)
    while True:
        found = look()
        if found:
            return found
        if not deadline.left():
            raise AssertionError(f"not within {deadline}: {what}")
        time.sleep(0.005)


def ended(process: subprocess.Popen[Any], timeout: float = 30.0) -> int:
    """Wait for the end of a process; its exit status."""
    deadline = Deadline(timeout)
    while left := deadline.left():
        with suppress(subprocess.TimeoutExpired):
            return process.wait(left)
    raise AssertionError(f"process {process.pid} has not ended within {deadline}")


def joined(*threads: threading.Thread, timeout: float = 30.0) -> None:
    """Wait for the end of threads."""
    deadline = Deadline(timeout)
    for thread in threads:
        while thread.is_alive() and (left := deadline.left()):
            thread.join(left)
        assert not thread.is_alive(), f"{thread.name} has not ended within {deadline}"


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(*pids: int) -> None:
    """SIGKILL all of them; those that are gone already are fine."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gone(*pids: int, timeout: float = 30.0) -> None:
    """Wait until none of the processes runs."""
    until(lambda: not any(map(is_running, pids)), what=f"end of {pids}", timeout=timeout)


def _is_stopped(pid: int) -> bool:
    assert is_running(pid), f"process {pid} has ended"
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """The processes are stopped (SIGSTOP) inside the block, and go on behind it."""
    pids = list(pids)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            until(lambda p=pid: _is_stopped(p), what=f"process {pid} stopped")  # type: ignore[misc]
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def elsewhere_locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Another process has the lock of a file (``flock``) inside the block."""
    with subprocess.Popen(
        [sys.executable, "-c", _LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"locked\n"
            yield
        finally:
            other.kill()
            other.wait()
