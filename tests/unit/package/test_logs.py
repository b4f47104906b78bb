"""What the tests leave out of a log that they read: what the standard library says of a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.logs import own_text
from tests.support.patience import patience

BEFORE = "2026-11-28 00:00:00,000 service INFO before\n"
PLAIN = {**os.environ, "PYTHON_COLORS": "0"}
AFTER = "2026-11-28 00:00:00,001 service INFO after\n"


def without_parent() -> str:
    """What a process of a pool says whose parent died before it said what to do."""
    reading, writing = os.pipe()
    os.close(writing)
    try:
        code = f"from multiprocessing.spawn import spawn_main; spawn_main(pipe_handle={reading})"
        command = [sys.executable, "-c", code, "--multiprocessing-fork"]
        return subprocess.run(
            command, pass_fds=[reading], env=PLAIN, stderr=subprocess.PIPE, text=True, check=False,
            timeout=patience(60),
        ).stderr  # fmt: skip
    finally:
        os.close(reading)


def without_semaphore() -> str:
    """What a process of a pool says whose parent's semaphores are gone."""
    code = """
import multiprocessing
from _multiprocessing import sem_unlink

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    lock = spawn.Lock()
    sem_unlink(lock._semlock.name)
    process = spawn.Process(target=print, args=(lock,))
    process.start()
    process.join()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=PLAIN, stderr=subprocess.PIPE, text=True, check=False, timeout=patience(60)
    )
    return done.stderr[: done.stderr.index("FileNotFoundError")] + "FileNotFoundError: gone\n"


@pytest.mark.parametrize("says", [without_parent, without_semaphore])
def test_a_process_without_a_parent(says: Callable[[], str]) -> None:
    told = says()
    assert "Traceback" in told
    assert own_text(BEFORE + told + AFTER) == (BEFORE + AFTER).rstrip()
    assert own_text(told) == ""
    for at in range(len(told.splitlines())):
        lines = told.splitlines(keepends=True)
        mixed = "".join([*lines[:at], BEFORE, *lines[at:]])
        assert own_text(mixed) == BEFORE.rstrip()


@pytest.mark.parametrize(
    "changed",
    [
        ("EOFError: Ran out of input", "ValueError: of ours"),
        ("/multiprocessing/spawn.py", "/livingai/workers/compressor.py"),
        ("spawn_main", "main"),
    ],
)
def test_another_traceback_is_kept(changed: tuple[str, str]) -> None:
    told = without_parent().replace(*changed)
    assert own_text(BEFORE + told + AFTER) == (BEFORE + told + AFTER).rstrip()


def test_the_tracker() -> None:
    told = "resource_tracker.py:224: UserWarning: resource_tracker: 6 leaked semaphore objects\n"
    assert own_text(BEFORE + told + AFTER) == (BEFORE + AFTER).rstrip()
