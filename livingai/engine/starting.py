"""What an agent does that finds no service: start one, or wait for another process that does."""

from __future__ import annotations

import logging
import math
import random
import time
from typing import Final

from livingai.config import EngineConfig, ServiceConfig
from livingai.engine.reconnect import Attempts
from livingai.errors import LivingAIError
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import ServiceWord
from livingai.queue.lock import owner_alive, owner_pid
from livingai.queue.opening import open_binary
from livingai.service.launch import launch_service, service_python
from livingai.service.report import ServiceReport, read_report
from livingai.service.succession import failure_of

_log = logging.getLogger("livingai")
#: An agent that may not start a service says so after this time without one: it may be starting.
_PATIENCE_S: Final = 2.0
#: Seconds until a successor is started again for a service that was to make room; then twice as
#: many, and so on.
_FIRST_REPLACE_S: Final = 2.0
_LAST_REPLACE_S: Final = 60.0
#: Seconds after which an attempt that has failed is repeated; up to twice as many, so that not all
#: agents do so at once.
_RETRY_S: Final = 120.0
_MAKES_ROOM: Final = "it makes room for one of the newer livingai"


class Starter:
    """Decides for one client. Used by its thread; ``trouble`` may be read by any."""

    def __init__(
        self, directory: StateDirectory, config: EngineConfig, service: ServiceConfig
    ) -> None:
        self._directory = directory
        self._config = config
        self._service = service
        #: Why no service is there; "" while one is, or is expected.
        self.trouble = ""
        self._said = ""
        #: Since when no service is there (CLOCK_MONOTONIC); 0 while one is.
        self._alone_since = 0.0
        #: When a successor of an earlier service may be started again (CLOCK_MONOTONIC), and how
        #: many seconds later the next time.
        self._replace_at = 0.0
        self._replace_s = _FIRST_REPLACE_S
        self._retry_s = _RETRY_S * random.uniform(1.0, 2.0)
        #: How the last attempt went.
        self._replacing = ""

    def check(self) -> None:
        """See, before anything is accepted, whether a service is there or can be started.

        Raises:
            ServiceStartError: neither, and this engine is not to wait for one either.
        """
        if self._config.service == "auto" and not self._somebody_starts():
            service_python(self._config.python)

    def connected(self) -> None:
        """A service has greeted."""
        if self.trouble:
            _log.info("the service is there again")
        self._alone_since = 0.0
        self.trouble = self._said = ""

    def no_service(self, attempts: Attempts) -> str:
        """No service listens: start it if that is due and up to us. The connection's new state.

        Raises:
            ServiceStartError, ServiceUnavailableError: it cannot be started.
        """
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        report = read_report(self._directory.path)
        starting = self._somebody_starts()
        if report.trouble and (starting or attempts.tried):  # else it is of long ago
            self._say(
                f"{report.trouble}; see service.log in {self._directory.path}. Nothing is lost: "
                "records wait in the journal"
            )
        if starting:
            return "starting"
        if self._config.service == "attach":
            if now - self._alone_since > _PATIENCE_S and not report.trouble:
                self._say(
                    f"no service runs in {self._directory.path}, and service=\"attach\" waits for "
                    "one: run `livingai serve`. Nothing is lost: records wait in the journal"
                )  # fmt: skip
            return "waiting"
        if self._will_return(report, now):
            return "waiting"
        if attempts.start_is_due():
            attempts.started()
            launch_service(self._service, self._config.python)
        return "starting"

    def replace_earlier(self, attempts: Attempts) -> str:
        """A service of an earlier livingai is connected. If an agent has started it, and this one
        may start services, have it end and one of ours take its place. What is done about it, or
        what its user has to do.

        The one of ours ends it, once it has seen that it can work itself. If it cannot, all agents
        hear of that, and try again after minutes (:mod:`livingai.service.succession`).
        """
        report = read_report(self._directory.path)
        pid = self._supervisor()
        if report.foreground and report.pid == pid:
            return (
                "restart `livingai serve`, or the program that holds the Service, with the newer "
                "livingai"
            )
        if not pid or report.pid not in (0, pid):
            return (
                "end it where it runs, perhaps in another container (`livingai stop` there), and "
                "have the newer livingai start the next one"
            )
        if self._config.service != "auto" or report.pid != pid:
            return "end it with `livingai stop`, and have the newer livingai start the next one"
        if why := failure_of(self._directory.path, pid, self._retry_s):
            return f"it cannot be replaced, trying again: {why}"
        if self._has_a_successor():
            attempts.replaces()
            self._replacing = _MAKES_ROOM
            return self._replacing
        now = time.monotonic()
        if now >= self._replace_at:
            long_ago = now - self._replace_at > _LAST_REPLACE_S
            self._replace_s = _FIRST_REPLACE_S if long_ago else self._replace_s
            self._replace_at = now + self._replace_s
            self._replace_s = min(self._replace_s * 2, _LAST_REPLACE_S)
            try:
                launch_service(self._service, self._config.python, follow=pid)
                attempts.replaces()
                self._replacing = _MAKES_ROOM
            except (LivingAIError, OSError) as error:
                self._replacing = f"it cannot be replaced, trying again: {error}"
        return self._replacing

    def _has_a_successor(self) -> bool:
        """Whether some agent's supervisor is about to take the place of the connected service."""
        try:
            return owner_alive(self._directory.successor_lock)
        except (OSError, LivingAIError):  # out of descriptors
            return False

    def _supervisor(self) -> int:
        """Process id of the service's supervisor; 0 if it cannot be found out."""
        try:
            return owner_pid(self._directory.supervisor_lock) or 0
        except (OSError, LivingAIError):  # out of descriptors
            return 0

    def _will_return(self, report: ServiceReport, now: float) -> bool:
        """Whether a service of ``livingai serve`` has just ended and is given time to come back."""
        grace_s = self._config.served_grace_s
        if not report.served or now - self._alone_since >= grace_s:
            return False
        if self._silent_s() >= grace_s:
            return False  # it ended long before we came
        self._say(
            f"the service of `livingai serve` has ended; waiting {grace_s:g} s for its return "
            "before another one is started. Nothing is lost: records wait in the journal"
        )
        return True

    def _silent_s(self) -> float:
        """For how many seconds no service has worked here; infinite since before the last boot. By
        the clock that does not jump."""
        try:
            with open_binary(self._directory.service_state) as page:
                page.seek(8 * ServiceWord.HEARTBEAT_NS)
                beat_s = int.from_bytes(page.read(8), "little") / 1e9
        except (OSError, LivingAIError):
            return math.inf
        silent_s = time.monotonic() - beat_s
        return silent_s if silent_s >= 0 else math.inf

    def _somebody_starts(self) -> bool:
        """Whether a supervisor lives (or we cannot look): then a start would only cost time."""
        try:
            return owner_alive(self._directory.supervisor_lock)
        except (OSError, LivingAIError) as error:  # out of descriptors
            _log.warning("cannot look whether the service is starting: %s", error)
            return True

    def _say(self, text: str) -> None:
        self.trouble = text
        if text != self._said:
            self._said = text
            _log.warning("%s", text)
