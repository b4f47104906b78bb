"""The writer service, started from Python; ``livingai serve`` is the same from a shell."""

from __future__ import annotations

import livingai._linux  # noqa: F401  # isort: skip

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from typing import Unpack

from livingai.config import EngineConfig, ServiceConfig, ServiceKeywords
from livingai.errors import (
    ConfigurationError,
    LivingAIError,
    ServiceError,
    ServiceRunningError,
    ServiceUnavailableError,
)
from livingai.protocol.ask import ask_service
from livingai.protocol.exit_codes import ExitCode
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import READY, STATUS
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive, owner_identity
from livingai.queue.waiting import waiting_records
from livingai.service.launch import start_supervisor
from livingai.service.logfile import open_log
from livingai.service.report import read_report
from livingai.stores.base import Store
from livingai.stores.belonging import enter

_log = logging.getLogger("livingai")
#: Seconds that a service which hands over may take.
_HAND_OVER_S = 60.0
#: Seconds that the processes of a service may take to end after they have drained.
_END_S = 20.0


class Service:
    """A writer service that lives as long as this object (or this process).

    Use it where the service should not come and go with the agents: ``with Service(store):`` around
    them, or in a process of its own. Keywords are those of
    :class:`~livingai.config.EngineConfig` that concern the service.

    Raises:
        ServiceRunningError: at :meth:`start`, another service owns the directory.
    """

    def __init__(
        self,
        store: Store,
        directory: str | None = None,
        config: EngineConfig | None = None,
        *,
        verbose: bool = False,
        served: bool = False,
        **settings: Unpack[ServiceKeywords],
    ) -> None:
        if not isinstance(store, Store):
            raise ConfigurationError(
                f"Service takes a store such as SQLiteStore('agent.db'), not {store!r:.200}"
            )
        self.store = store
        self.config = EngineConfig.build(config, settings, "Service")
        self.directory = StateDirectory(
            directory or self.config.directory or store.default_directory()
        )
        #: Log to this process's standard error instead of service.log.
        self._verbose = verbose
        #: This is ``livingai serve``: agents wait for its return when it ends, and it takes over
        #: from a service that an agent has started.
        self._served = served
        #: Exit status of the last process; see :mod:`livingai.protocol.exit_codes`.
        self._code = 0
        #: Supervisors that were asked to hand over.
        self._told_to_go: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 30.0) -> Service:
        """Start the processes and wait until compressors and writers are up.

        Raises:
            ServiceRunningError: another service owns the directory.
            ServiceUnavailableError: it is not up within ``timeout`` seconds.
            ServiceError: it ended; the message says where its log is.
        """
        if self._process is not None:
            return self
        self.store.validate()
        enter(self.store, self.directory)
        if owner_alive(self.directory.lock):
            self._refuse_unless_on_demand()
        config = ServiceConfig.build(
            self.store, self.directory.path, self.config, foreground=True, served=self._served
        )
        options = ["--take-over"] if self._served else []
        with open_log(self.directory.log) as log:
            self._process = process = start_supervisor(
                config,
                self.config.python,
                *options,
                stdout=None,
                stderr=None if self._verbose else log,
            )
        try:
            if self._served:
                timeout = max(timeout, _HAND_OVER_S)
            self._wait_ready(process, time.monotonic() + timeout)
        except BaseException:
            self.stop(drain=False)
            raise
        return self

    def _refuse_unless_on_demand(self) -> None:
        """Raise ServiceRunningError unless the running service is one that an agent has started and
        this one may replace."""
        report = read_report(self.directory.path)
        if self._served and report.pid and not report.foreground:
            return
        pid = owner_identity(self.directory.lock).get("pid")
        raise ServiceRunningError(
            f"a writer service (process {pid}) already owns {self.directory.path}; stop it "
            "first, or just use it: engines join it by themselves"
        )

    def _ask_for_hand_over(self) -> None:
        """Have the service that an agent has started drain and go; agents then come to ours."""
        report = read_report(self.directory.path)
        if report.foreground or not report.pid or report.pid in self._told_to_go:
            return
        if not report.ended_at and owner_alive(self.directory.supervisor_lock):
            self._told_to_go.add(report.pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(report.pid, signal.SIGTERM)

    def _wait_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        delay = 0.005
        while True:
            if self._served:
                self._ask_for_hand_over()
            if process.poll() is not None:
                raise self._ended(process.returncode)
            try:
                ask_service(self.directory, self.store.url, READY)
                if self.status().pids.supervisor == process.pid:
                    return
            except ServiceUnavailableError:
                pass
            else:
                if not self._served:
                    raise self._ended(0)  # another process's service, which was faster
            if time.monotonic() > deadline:
                raise self._not_up()
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                delay = min(delay * 1.5, 0.1)

    def _not_up(self) -> ServiceUnavailableError:
        trouble = read_report(self.directory.path).trouble
        return ServiceUnavailableError(
            f"the service in {self.directory.path} is not up in time"
            + (f": {trouble}" if trouble else "; see service.log there")
        )

    def _ended(self, code: int) -> LivingAIError:
        if code == ExitCode.RUNNING or owner_alive(self.directory.lock):
            return ServiceRunningError(
                f"another writer service has just taken {self.directory.path}; use that one"
            )
        trouble = read_report(self.directory.path).trouble
        return ServiceError(
            f"the writer service ended at its start (exit status {code}"
            + (f"; {trouble}" if trouble else "")
            + f"); see service.log there, nothing in {self.directory.path} was lost"
        )

    def stop(self, drain: bool = True, timeout: float | None = None) -> None:
        """End the service. With ``drain`` what is queued is stored first, for ``drain_s`` seconds
        at most; in any case what is not stored stays in the journals. After ``timeout`` seconds
        (None: 20 more than it may drain) its processes are killed. Idempotent, and where it was
        interrupted it can be called again, to end at once for example."""
        process = self._process
        if process is None:
            return
        if timeout is None:
            timeout = self.config.drain_s + _END_S
        assert process.stdin is not None
        process.send_signal(signal.SIGTERM if drain else signal.SIGQUIT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None
        self._code = process.returncode
        if self._code == ExitCode.RECORDS_LEFT:
            _log.warning(
                "stopped with %d records unstored; they wait in %s, the next service stores them",
                self.unstored(), self.directory.path,
            )  # fmt: skip
        process.stdin.close()

    @property
    def exit_code(self) -> int:
        """How the service ended at :meth:`stop`: 0 everything was stored, 4 it was asked to end
        before the store had everything (:meth:`unstored` records wait)."""
        return self._code

    def unstored(self) -> int:
        """How many accepted records wait in the journals now."""
        return waiting_records(self.directory)

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor, a child of this process; 0: it is not started."""
        return self._process.pid if self._process is not None else 0

    def wait(self) -> int:
        """Wait until the service ends by itself or is stopped from outside; its exit status."""
        return self._process.wait() if self._process is not None else 0

    def status(self, timeout_s: float = 30.0) -> ServiceStatus:
        """What the service is doing; ``livingai status`` prints it.

        Raises:
            ServiceUnavailableError: none is running, or it does not answer.
        """
        return ask_service(self.directory, self.store.url, STATUS, timeout_s=timeout_s)

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Service:
        return await asyncio.get_running_loop().run_in_executor(None, self.start)

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.stop)
