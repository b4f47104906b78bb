"""What all processes of a run take while the agents save: CPU time, memory, writes."""

from __future__ import annotations

import contextlib

from bench.cpu import cpu_seconds
from bench.figures import Figures
from bench.processes import memory_bytes, written_bytes
from bench.servers import Server


class Usage:
    """Of the agents' processes, the service's by role, and the database server's, from now on."""

    def __init__(
        self, agents: list[int], service: dict[str, list[int]], server: Server | None
    ) -> None:
        self._service = service
        self._servers = [pid for pids in service.values() for pid in pids]
        #: All but the database server's.
        self.pids = agents + self._servers
        self._server = server
        self._cpu_s = {role: sum(map(cpu_seconds, pids)) for role, pids in service.items()}
        self._server_cpu_s = server.cpu_seconds() if server else 0.0
        self._network = server.network_bytes() if server else None
        self._written = self._written_now()

    def figures(self) -> Figures:
        """What was taken since.

        Raises:
            RuntimeError: a process of the service is gone.
        """
        figures: Figures = {}
        for role, pids in self._service.items():
            try:
                figures[f"{role}_cpu_s"] = sum(map(cpu_seconds, pids)) - self._cpu_s[role]
            except OSError as error:
                raise RuntimeError(f"one of the {role} died during the run: {error}") from error
        if self._server:
            figures["server_cpu_s"] = self._server.cpu_seconds() - self._server_cpu_s
            figures["server_memory_bytes"] = self._server.memory_bytes()
            network = self._server.network_bytes()
            if network is not None and self._network is not None:
                figures["network_bytes"] = network - self._network
        written = self._written_now()
        if written is not None and self._written is not None:
            figures["written_bytes"] = written - self._written
        if self._servers:
            with contextlib.suppress(OSError):  # this kernel does not tell
                figures["service_memory_bytes"] = memory_bytes(self._servers)
        return figures

    def _written_now(self) -> int | None:
        """None where the kernel does not tell."""
        try:
            ours = written_bytes(self.pids)
        except OSError:
            return None
        return ours + (self._server.written_bytes() if self._server else 0)


def per_save(figures: Figures) -> Figures:
    """CPU time per save in ms, of all processes and of the agents, from that of each role."""
    of_all = sum(seconds for name, seconds in figures.items() if name.endswith("_cpu_s"))
    return {
        "save_cpu_ms": of_all * 1e3 / figures["saves"],
        "agents_save_cpu_ms": figures["agents_cpu_s"] * 1e3 / figures["saves"],
    }
