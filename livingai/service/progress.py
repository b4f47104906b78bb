"""Tells the service manager how the service is, for as long as ``livingai serve`` runs.

A thread of ``livingai serve`` asks the dispatcher again and again, as any command would, and passes
on what it answers:

==========================  =====================================================================
``READY=1``                 writers and compressors are up, and a question was answered
``STATUS=...``              what is on its way, how old the oldest of it is, and any trouble
``WATCHDOG=1``              the dispatcher has answered, and its main loop has taken turns since it
                            did so last. One that hangs, is stopped or dies again and again is not
                            reported, and the manager ends and restarts the service
``STOPPING=1``              it was asked to end, and stores what is queued
``EXTEND_TIMEOUT_USEC=``    while it does so, and turns: the manager waits longer for the end
==========================  =====================================================================

A store that takes nothing is no reason for a restart: the dispatcher turns all the same, and its
trouble is in ``STATUS``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from livingai.errors import LivingAIError
from livingai.protocol.status import ServiceStatus
from livingai.service.notify import ManagerSocket

_log = logging.getLogger("livingai.service")
#: Seconds between two questions: a quarter of what the watchdog allows, within these limits. The
#: dispatcher takes a turn every 0.2 s at least.
_OFTEN_S: Final = 0.5
_RARELY_S: Final = 5.0
#: Seconds by which a stop is put off, beyond the time until the next question or two.
_MORE_S: Final = 10.0


class ProgressReports:
    """Reports to a service manager from a thread of its own, between :meth:`ready` and
    :meth:`close`. Without a manager all methods do nothing."""

    def __init__(
        self, manager: ManagerSocket | None, ask: Callable[[float], ServiceStatus]
    ) -> None:
        """``ask``: how the service is, asked for so many seconds at most."""
        self._manager = manager
        self._ask = ask
        self._stopping = False
        self._turns = -1
        self._bell = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        watchdog_s = manager.watchdog_s if manager is not None else 0.0
        rarely_s = watchdog_s / 4 if watchdog_s else _RARELY_S
        self._interval_s = min(max(rarely_s, _OFTEN_S), _RARELY_S)

    def ready(self) -> None:
        """The service is up."""
        if self._manager is None:
            return
        self._manager.send(READY=1, STATUS="serving")
        self._thread = threading.Thread(target=self._run, name="livingai-progress", daemon=True)
        self._thread.start()

    def stopping(self) -> None:
        """The service was asked to end: it drains. Idempotent."""
        if self._manager is None or self._stopping:
            return
        self._stopping = True
        self._manager.send(STOPPING=1, STATUS="draining", EXTEND_TIMEOUT_USEC=self._more_time_us())
        self._bell.set()

    def close(self, status: str = "") -> None:
        """End the thread; ``status`` is the last thing that the manager hears. Idempotent."""
        self._ended = True
        self._bell.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._interval_s * 2)
        if self._manager is not None and status:
            self._manager.send(STATUS=status)

    def _more_time_us(self) -> int:
        return int((2 * self._interval_s + _MORE_S) * 1e6)

    def _run(self) -> None:
        while not self._ended:
            self._report()
            if self._bell.wait(self._interval_s):
                self._bell.clear()

    def _report(self) -> None:
        assert self._manager is not None
        try:
            now = self._ask(self._interval_s)
        except LivingAIError as error:
            if not (self._ended or self._stopping):  # what has drained answers no more
                self._manager.send(STATUS=f"the dispatcher does not answer: {error}")
            return
        if self._ended:
            return
        turned, self._turns = now.turns != self._turns, now.turns
        values: dict[str, str | int] = {"STATUS": described(now, draining=self._stopping)}
        if turned:
            values["WATCHDOG"] = 1
            if self._stopping:
                values["EXTEND_TIMEOUT_USEC"] = self._more_time_us()
        self._manager.send(**values)


def described(now: ServiceStatus, *, draining: bool = False) -> str:
    """What a service is doing, in a line for ``systemctl status``."""
    doing = "draining" if draining else "serving"
    if not now.inflight:
        what = "all stored"
    else:
        what = f"{now.inflight} records on their way, the oldest for {now.flow.oldest_s:.1f} s"
    text = f"{doing} {now.agents} agents; {what}"
    return f"{text}; trouble: {now.trouble}" if now.trouble else text
