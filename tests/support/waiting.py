"""Waiting for the operating system, always with a deadline.

Only for states that nothing announces (a process has ended, a file is there). What is announced is
waited for by its signal: a line on a pipe, an outcome, the end of a process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import psutil

T = TypeVar("T")


def until(look: Callable[[], T], *, what: str, timeout: float = 30.0) -> T:
    """The first truthy answer of ``look``; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.005)


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


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """The processes are stopped (SIGSTOP) inside the block, and go on behind it."""
    pids = list(pids)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            until(lambda p=pid: psutil.Process(p).status() == psutil.STATUS_STOPPED,  # type: ignore[misc]
                  what=f"process {pid} stopped")  # fmt: skip
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
