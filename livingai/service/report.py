"""The service's report: a small file in the state directory that says how the service is, or how it
ended, for when no service answers.

The supervisor writes it, whole or not at all. It is a hint for people and for agents that wait, and
nothing else rests on it: one that is missing, old or damaged says nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from livingai._version import __version__
from livingai.errors import LivingAIError
from livingai.queue.opening import open_binary, read_json

NAME: Final = "service.report"


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """What the last service said of itself; the defaults where there was none."""

    #: Its version of livingai.
    version: str = ""
    #: Process id of its supervisor.
    pid: int = 0
    #: Started by ``livingai serve``, so that it will come back.
    served: bool = False
    #: Started by a ``Service`` or by ``livingai serve``: it does not go when idle.
    foreground: bool = False
    #: When it ended in order (Unix time); 0 while it runs, or if it was killed.
    ended_at: float = 0.0
    #: Accepted records that it left behind unstored.
    left: int = 0
    #: Why it cannot do its work; "" while it can.
    trouble: str = ""


def read_report(directory: str) -> ServiceReport:
    """The report in a state directory; an empty one if there is none that can be read."""
    try:
        found = read_json(os.path.join(directory, NAME))
    except (OSError, ValueError, LivingAIError):
        return ServiceReport()
    return _checked(found) if isinstance(found, dict) else ServiceReport()


def _checked(found: dict[str, Any]) -> ServiceReport:
    """What has the right name and type; the rest is ignored."""
    defaults = asdict(ServiceReport())
    kept = {
        field.name: found[field.name]
        for field in fields(ServiceReport)
        if type(found.get(field.name)) is type(defaults[field.name])
    }
    return ServiceReport(**kept)


class Reporter:
    """Keeps the report of one supervisor."""

    def __init__(self, directory: str, *, served: bool, foreground: bool) -> None:
        self._directory = directory
        self._report = ServiceReport(__version__, os.getpid(), served, foreground)

    def begin(self) -> None:
        """Report that this service has begun; what an earlier one reported is over."""
        self._write()

    def trouble(self, text: str) -> None:
        """Report why the service cannot work; "" that it can."""
        if text != self._report.trouble:
            self._report = replace(self._report, trouble=text)
            self._write()

    def end(self, left: int) -> None:
        """Report that the service ends in order, and leaves so many records unstored."""
        self._report = replace(self._report, ended_at=time.time(), left=left)
        self._write()

    def _write(self) -> None:
        write_hint(self._directory, NAME, asdict(self._report))


def write_hint(directory: str, name: str, value: dict[str, Any]) -> None:
    """Write a small file of the state directory, whole or not at all. A failure is ignored: nothing
    rests on a hint."""
    with contextlib.suppress(OSError, LivingAIError):  # a full disk, or the directory is gone
        temporary = os.path.join(directory, f".report-{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            with open_binary(temporary, flags) as file:
                file.write(json.dumps(value).encode())
            os.replace(temporary, os.path.join(directory, name))
        except OSError:
            os.unlink(temporary)
            raise
