"""What processes of a run take."""

from __future__ import annotations

import os
import time
from pathlib import Path

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


def test_written_to_disk(tmp_path: Path) -> None:
    before = written_bytes([os.getpid()])
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(3 << 20))
        file.flush()
        os.fsync(file.fileno())
    if os.statvfs(tmp_path).f_fsid == 0:
        pytest.skip("no disk is behind this folder")
    assert written_bytes([os.getpid()]) - before >= 3 << 20


def test_memory() -> None:
    before = memory_bytes([os.getpid()])
    held = os.urandom(30 << 20)
    assert memory_bytes([os.getpid()]) - before > 20 << 20
    assert len(held) == 30 << 20
