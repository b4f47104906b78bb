"""What the processes of a run take: CPU time, memory, bytes written to disk."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from bench.cpu import cpu_seconds
from livingai import Service

#: Seconds between two samples of :class:`CpuOverTime`.
_SAMPLE_S = 0.02


def roles_of(service: Service) -> dict[str, list[int]]:
    """The service's process ids by role."""
    pids = service.status().pids
    return {
        "dispatcher": [pids.dispatcher],
        "compressors": list(pids.compressors),
        "writers": [pid for pid in pids.writers if pid],
        "others": [pid for pid in (pids.supervisor, pids.reader) if pid],
    }


def memory_bytes(pids: Iterable[int]) -> int:
    """What the processes keep in memory now, shared pages counted once (PSS)."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)


def written_bytes(pids: Iterable[int]) -> int:
    """What the processes have caused to be written to disks so far: ``write_bytes`` of
    ``/proc/PID/io``, counted when a page becomes dirty."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "write_bytes":
                total += int(value)
    return total


class CpuOverTime:
    """CPU time of some processes together, looked at many times a second from a thread."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._times_ns: list[int] = []
        self._seconds: list[float] = []
        self._stop = threading.Event()

    def _look(self) -> None:
        while not self._stop.is_set():
            self._times_ns.append(time.monotonic_ns())
            self._seconds.append(sum(map(cpu_seconds, self._pids)))
            self._stop.wait(_SAMPLE_S)

    @contextlib.contextmanager
    def running(self) -> Iterator[CpuOverTime]:
        """Look for as long."""
        thread = threading.Thread(target=self._look, name="cpu-over-time")
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def between(self, begin_ns: int, end_ns: int) -> float:
        """CPU seconds between two points in time (CLOCK_MONOTONIC)."""
        return self._at(end_ns) - self._at(begin_ns)

    def _at(self, when_ns: int) -> float:
        number = bisect.bisect(self._times_ns, when_ns)
        if number in (0, len(self._times_ns)):
            return self._seconds[max(0, number - 1)]
        (before_ns, after_ns) = self._times_ns[number - 1 : number + 1]
        (before, after) = self._seconds[number - 1 : number + 1]
        return before + (after - before) * (when_ns - before_ns) / (after_ns - before_ns)
