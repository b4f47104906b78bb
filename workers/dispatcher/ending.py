"""When a service ends: idle for long enough, on request, or without its state directory."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Final, NamedTuple

from livingai.config import ServiceConfig
from livingai.queue.directory import StateDirectory
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.ports import EndingPort

_log = logging.getLogger("livingai.service")
#: Seconds that the agent which started the service may take to connect.
_WELCOME_S: Final = 2.0


class Farewell(NamedTuple):
    """How a dispatcher ended: the journals whose owners live on, and whether all was stored that
    was accepted before it was asked to end."""

    journals: list[str]
    drained: bool


class Ending:
    """Decides when the service ends."""

    def __init__(
        self, directory: StateDirectory, config: ServiceConfig, intake: Intake, port: EndingPort
    ) -> None:
        self._directory = directory
        self._config = config
        self._intake = intake
        self._port = port
        self._idle_since = time.monotonic() + _WELCOME_S
        self._stop_by = 0.0
        self._place = _place(directory.lock)
        #: The directory itself, under whatever name.
        self._folder = os.open(directory.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def displaced(self) -> bool:
        """Whether the state directory is not where agents look for it. To be asked every turn: who
        asks us then what we can no longer know is not answered, but asks our successor."""
        if _place(self._directory.lock) == self._place:
            return False
        if not self._port.has_agents:
            _log.error("the state directory was removed: no agent can connect any more")
            return True
        if (there := self._moved_to()) is None:
            return False
        _log.error(
            "the state directory was moved to %s: this service, which knows only its old place, "
            "makes room for one that is started there", there
        )  # fmt: skip
        return True

    def idle(self) -> bool:
        """Whether no process needs the service: no agent, nothing on its way, for long enough.
        While records wait it stays, however long the store takes nothing: no other process would
        store them. To be asked every turn."""
        now = time.monotonic()
        busy = (
            self._config.foreground
            or self._port.has_agents
            or self._port.inflight
            or self._intake.waiting()
        )
        if busy:
            self._idle_since = now
            return False
        if now - self._idle_since < self._config.idle_s:
            return False
        self._port.look_around(now=True)
        for feed in self._intake.feeds.values():
            self._intake.read_ahead(feed)
        return all(feed.drained and (feed.finished or feed.alive)
                   for feed in self._intake.feeds.values())  # fmt: skip

    def grace_over(self) -> bool:
        """Whether a stopping service has waited long enough for the store."""
        now = time.monotonic()
        if not self._stop_by:
            self._stop_by = now + self._config.drain_s
        return now >= self._stop_by

    def _moved_to(self) -> str | None:
        """Where the directory is now if that is elsewhere; None: here, or removed."""
        try:
            there = os.readlink(f"/proc/self/fd/{self._folder}")
            moved = os.path.samestat(os.stat(there), os.fstat(self._folder))
        except OSError:
            return None
        return there if moved and there != self._directory.path else None

    def close(self) -> None:
        """Release the directory. Idempotent."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def _place(path: str) -> tuple[int, int] | None:
    """Device and inode number of a file; None if there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None
