"""The processes that work on a state directory, with what they use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import psutil

from livingai.errors import LivingAIError
from livingai.inspection.directories import DirectoryView
from livingai.protocol.status import ServicePids
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import owner_pid

_ONE: Final = ("supervisor", "dispatcher", "reader", "housekeeper")
_MANY: Final = (("writers", "writer"), ("compressors", "compressor"))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used; None: it cannot be seen from here (it runs in another container)."""

    role: str
    pid: int
    #: Of one processor, in percent, since the last look.
    cpu_percent: float | None
    #: Memory that is in use now, in bytes.
    rss_bytes: int | None
    command: str


class ProcessWatch:
    """Looks at the processes of a service and at its agents again and again."""

    def __init__(self, view: DirectoryView) -> None:
        self._view = view
        #: By pid; psutil keeps the CPU time of the last look in them.
        self._known: dict[int, psutil.Process] = {}

    def look(self, pids: ServicePids | None) -> list[Usage]:
        """Those of the service (None: none answers), then the agents."""
        roles = [(role, pid) for role, pid in _service(pids) if pid]
        roles += [("agent", pid) for pid in sorted(self._agents())]
        found = [self._usage(role, pid) for role, pid in roles]
        self._known = {use.pid: self._known[use.pid] for use in found if use.pid in self._known}
        return found

    def _agents(self) -> set[int]:
        """Owners of journals that live; those of another container have no number here."""
        found = set()
        for path in self._view.directory.journal_paths():
            try:
                pid = owner_pid(os.path.join(path, OWNER_LOCK))
            except (OSError, LivingAIError):  # the journal was removed a moment ago
                continue
            if pid:
                found.add(pid)
        return found

    def _usage(self, role: str, pid: int) -> Usage:
        try:
            process = self._known.get(pid)
            if process is None or not process.is_running():
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                command = " ".join(process.cmdline()) if role == "agent" else ""
                return Usage(role, pid, process.cpu_percent(), process.memory_info().rss, command)
        except psutil.Error:
            self._known.pop(pid, None)
            return Usage(role, pid, None, None, "")


def _service(pids: ServicePids | None) -> list[tuple[str, int | None]]:
    if pids is None:
        return []
    found: list[tuple[str, int | None]] = [(role, getattr(pids, role)) for role in _ONE[:2]]
    for field, role in _MANY:
        found += [(role, pid) for pid in getattr(pids, field)]
    return found + [(role, getattr(pids, role)) for role in _ONE[2:]]
