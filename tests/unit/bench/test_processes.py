"""What processes of a run take."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.processes import CpuOverTime, memory_bytes, written_bytes


def test_cpu_between_two_points_in_time() -> None:
    """Points between two looks are interpolated, points outside are the nearest look."""
    marks = []
    with CpuOverTime([os.getpid()]).running() as cpu:
        for _ in range(2):
            marks.append((time.monotonic_ns(), time.process_time()))
            while time.process_time() < marks[-1][1] + 0.2:
                pass
        marks.append((time.monotonic_ns(), time.process_time()))
        time.sleep(0.1)  # one more look, with nothing to see
    (first, a), (second, b), (third, c) = marks
    assert cpu.between(first, second) == pytest.approx(b - a, abs=0.1)
    assert cpu.between(second, third) == pytest.approx(c - b, abs=0.1)
    assert cpu.between(first, third) == pytest.approx(c - a, abs=0.1)
    assert cpu.between(third + 10**12, third + 10**13) == 0
    assert cpu.between(0, first - 10**12) == 0


def test_the_end_of_a_run_counts() -> None:
    """Also what lies behind the last of the regular looks."""
    with CpuOverTime([os.getpid()]).running() as cpu:
        begin = time.process_time()
        began_ns = time.monotonic_ns()
        while time.process_time() < begin + 0.005:
            pass
        ended_ns = time.monotonic_ns()
    assert cpu.between(began_ns, ended_ns) > 0


def test_of_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    for figure in (memory_bytes, written_bytes):
        with pytest.raises(OSError, match=str(process.pid)):
            figure([process.pid])
    with pytest.raises(OSError, match=str(process.pid)), CpuOverTime([process.pid]).running():
        pass


def test_written_to_disk(tmp_path: Path) -> None:
    found = [p for p in psutil.disk_partitions(all=True) if tmp_path.is_relative_to(p.mountpoint)]
    if max(found, key=lambda p: len(p.mountpoint)).fstype in ("tmpfs", "ramfs"):
        pytest.skip("no disk is behind this folder")
    before = written_bytes([os.getpid()])
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(3 << 20))
        file.flush()
        os.fsync(file.fileno())
    assert written_bytes([os.getpid()]) - before >= 3 << 20


def test_memory() -> None:
    before = memory_bytes([os.getpid()])
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 30 << 20, private) as held:  # nothing that was freed before, and kept
        held.write(b"x" * (30 << 20))
        assert memory_bytes([os.getpid()]) - before > 20 << 20
