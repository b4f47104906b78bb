"""CPU time of processes."""

import os
import subprocess
import sys
import threading
import time

import pytest

from bench.cpu import cpu_seconds


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_threads_that_have_ended_count() -> None:
    before = cpu_seconds(os.getpid())
    thread = threading.Thread(target=burn, args=(0.1,))
    thread.start()
    thread.join()
    now = cpu_seconds(os.getpid())
    assert now - before >= 0.1
    assert now <= time.process_time()


def test_another_process() -> None:
    code = "import time; print(time.process_time_ns(), flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        by_itself = int(process.stdout.readline()) / 1e9
        assert by_itself <= cpu_seconds(process.pid) < by_itself + 1
        process.stdin.write(b"\n")
    with pytest.raises(OSError, match="process"):
        cpu_seconds(process.pid)
