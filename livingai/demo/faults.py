"""Which processes are killed, and when: an agent's, a compressor and the writer, with SIGKILL."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Final

import psutil

from livingai.demo.crew import Broken, Crew
from livingai.service.service import Service

#: Share of all states that has been saved when each of them dies.
_AGENT_AT: Final = 0.35
_COMPRESSOR_AT: Final = 0.50
_WRITER_AT: Final = 0.65
_GONE_S: Final = 10.0


class Faults:
    """Kills processes as the runs progress. :attr:`done` lists those that were killed."""

    def __init__(self, crew: Crew, service: Service) -> None:
        self._crew = crew
        self._service = service
        self._plan = [
            (_AGENT_AT, self._kill_agent),
            (_COMPRESSOR_AT, self._kill_compressor),
            (_WRITER_AT, self._kill_writer),
        ]
        self.planned = len(self._plan)
        self.done: list[str] = []

    def turn(self) -> Iterator[str]:
        """Kill the processes whose turn it is; yields a line about each."""
        while self._plan and self._crew.done_steps >= self._plan[0][0] * self._crew.total_steps:
            _, kill = self._plan.pop(0)
            killed = kill()
            self.done.append(killed)
            yield f"SIGKILL: {killed}"

    def _kill_agent(self) -> str:
        worker = max(self._crew.working, key=lambda worker: len(worker.job.runs), default=None)
        if worker is None:
            raise Broken(
                "the agents were done before one could be killed; give them more --seconds"
            )
        worker.kill()
        return f"agent process {worker.process.pid} ({len(worker.job.runs)} agents)"

    def _kill_compressor(self) -> str:
        return f"compressor {self._kill_one('compressors')}"

    def _kill_writer(self) -> str:
        return f"writer {self._kill_one('writers')}"

    def _kill_one(self, role: str) -> int:
        """SIGKILL for the first process of ``role``, and wait until it is dead."""
        pids = self._service.status().pids
        alive = [pid for pid in getattr(pids, role) if pid and psutil.pid_exists(pid)]
        if not alive:
            raise Broken(f"the service says that it has no {role}")
        pid: int = alive[0]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _GONE_S
        while _is_running(pid):
            if time.monotonic() > deadline:
                raise Broken(f"process {pid} ({role}) outlived SIGKILL")
            os.sched_yield()
        return pid


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
