"""How the persistence of one state directory is: what its service says, or what can be seen where
none answers. Nothing is started or changed."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from livingai.errors import ServiceUnavailableError
from livingai.inspection.directories import DirectoryView
from livingai.inspection.quarantine import AsideRecord, list_aside
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import STATUS
from livingai.service.report import ServiceReport


class Presence(StrEnum):
    """Whether there is a service."""

    RUNNING = "running"
    #: A process holds the service's lock and does not answer: stopped, starting or ending.
    SILENT = "silent"
    NONE = "none"


class Verdict(StrEnum):
    """In one word."""

    HEALTHY = "healthy"
    #: Writes are not stored now, a process keeps dying, or records are quarantined.
    TROUBLE = "trouble"
    #: No service answers. Where agents start it when they need it, that may be as it should be.
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Health:
    """What was seen of a state directory at one moment."""

    directory: str
    #: Without credentials.
    store: str
    presence: Presence
    #: Process id of the service that does not answer; None: it does, or there is none.
    silent_pid: int | None
    #: None if no service answers.
    status: ServiceStatus | None
    #: How the last service was, or ended; for where none answers.
    report: ServiceReport
    journals: int
    #: Accepted records that have no outcome yet.
    waiting: int
    quarantined: list[AsideRecord] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        """Why writes are not stored; "" if nobody says so."""
        return self.status.trouble if self.status is not None else self.report.trouble

    @property
    def verdict(self) -> Verdict:
        """All of it in one word."""
        if self.status is None:
            return Verdict.UNREACHABLE
        return Verdict.TROUBLE if self.trouble or self.quarantined else Verdict.HEALTHY

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; the fields are those of docs/CLI.md."""
        return {
            "verdict": str(self.verdict),
            "service": str(self.presence),
            "directory": self.directory,
            "store": self.store,
            "trouble": self.trouble,
            "journals": self.journals,
            "waiting": self.waiting,
            "quarantined": [
                {**asdict(record), "path": os.path.basename(record.path)}
                for record in self.quarantined
            ],
            "status": self.status.to_wire() if self.status is not None else None,
            "last": asdict(self.report) if self.status is None else None,
        }


def health_of(view: DirectoryView, timeout_s: float) -> Health:
    """Look at a state directory; its service has ``timeout_s`` seconds to answer.

    Raises:
        LivingAIError: the service answers, with an error (it is of another version, say).
        OSError: the directory cannot be read.
    """
    status, pid = None, None
    presence = Presence.NONE
    try:
        status = view.ask(STATUS, timeout_s=timeout_s)
        presence = Presence.RUNNING
    except ServiceUnavailableError:
        if owner := view.owner():
            presence, pid = Presence.SILENT, owner.pid
    return Health(
        directory=view.path,
        store=view.store_url if status is None else status.store,
        presence=presence,
        silent_pid=pid,
        status=status,
        report=view.report(),
        journals=view.journals() if status is None else status.journals,
        waiting=_waiting(view, status),
        quarantined=list_aside(view.directory),
    )


def _waiting(view: DirectoryView, status: ServiceStatus | None) -> int:
    if status is None:
        return view.waiting()
    return max(status.flow.queued, status.inflight)  # an earlier version says only the latter
