"""What the processes of a run take: CPU time, memory, bytes written to disk."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

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
    """What the processes keep in memory now of their own, without the files that they map
    (``Pss_Anon`` of ``/proc/PID/smaps_rollup``). Raises OSError."""
    return sum(_field(f"/proc/{pid}/smaps_rollup", "Pss_Anon") << 10 for pid in pids)


def written_bytes(pids: Iterable[int]) -> int:
    """Bytes of files on disks that the processes have changed so far: ``write_bytes`` of
    ``/proc/PID/io``, counted when a page becomes dirty, also if the file is removed before it is
    written. Raises OSError."""
    return sum(_field(f"/proc/{pid}/io", "write_bytes") for pid in pids)


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise FileNotFoundError(f"{path} has no {name}")


class CpuOverTime:
    """CPU time of some processes together, looked at many times a second from a thread."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._times_ns: list[int] = []
        self._seconds: list[float] = []
        self._stop = threading.Event()

    def _look(self) -> None:
        began_ns = time.monotonic_ns()
        seconds = sum(map(cpu_seconds, self._pids))
        self._times_ns.append((began_ns + time.monotonic_ns()) // 2)
        self._seconds.append(seconds)

    def _look_on(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self._look()

    @contextlib.contextmanager
    def running(self) -> Iterator[CpuOverTime]:
        """Look for as long. Raises OSError if one of the processes is not there at its begin or
        end."""
        self._look()
        thread = threading.Thread(target=self._look_on, name="cpu-over-time")
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
        self._look()

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
