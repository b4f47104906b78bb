"""The writer service, started from Python; ``livingai serve`` is the same from a shell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import (
    ConfigurationError,
    LivingAIError,
    ServiceError,
    ServiceRunningError,
    ServiceUnavailableError,
)
from livingai.launch import service_environment
from livingai.logfile import open_log
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive, owner_identity
from livingai.stores.base import Store
from livingai.stores.belonging import enter
from livingai.workers.protocol import (
    PROTOCOL_VERSION,
    FrameBuffer,
    Message,
    error_from_parts,
    frame,
)

#: Exit status of a supervisor that found another one.
_EXIT_RUNNING = 3


def ask_service(
    directory: StateDirectory, store_url: str, verb: str, *arguments: Any, timeout_s: float = 30.0
) -> Any:
    """Ask the service of a directory one thing over a connection of its own.

    Raises:
        ServiceUnavailableError: none is running, or it says nothing for ``timeout_s`` seconds.
        LivingAIError: what it answers.
    """
    try:
        with directory.connect(timeout_s) as sock:
            sock.sendall(frame(Message.HELLO, PROTOCOL_VERSION, store_url, os.getpid()))
            sock.sendall(frame(Message.REQUEST, 1, verb, list(arguments)))
            buffer = FrameBuffer()
            while data := sock.recv(1 << 16):
                for message in buffer.feed(data):
                    if message[0] == Message.RESPONSE:
                        if message[2]:
                            return message[3]
                        raise error_from_parts(*message[3])
                    if message[0] == Message.GOODBYE and message[1][0]:
                        raise error_from_parts(*message[1])
    except OSError as error:
        if isinstance(error, LivingAIError):
            raise
        raise ServiceUnavailableError(
            f"no service answers in {directory.path} ({error}); start one with `livingai serve`"
        ) from error
    raise ServiceUnavailableError(f"the service in {directory.path} ended before it answered")


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
        **settings: Any,
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
            pid = owner_identity(self.directory.lock).get("pid")
            raise ServiceRunningError(
                f"a writer service (process {pid}) already owns {self.directory.path}; stop it "
                "first, or just use it: engines join it by themselves"
            )
        config = ServiceConfig.build(self.store, self.directory.path, self.config, foreground=True)
        with open_log(self.directory.log) as log:
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", "-m", "livingai.workers.supervisor"],
                stdin=subprocess.PIPE,
                stderr=None if self._verbose else log,
                cwd="/",
                env=service_environment(),
                start_new_session=True,  # Ctrl-C is for us; we then stop the service in order
            )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: _wait_ready() says so
                os.write(process.stdin.fileno(), json.dumps(config.to_dict()).encode() + b"\n")
            self._wait_ready(process, time.monotonic() + timeout)
        except BaseException:
            self.stop(drain=False)
            raise
        return self

    def _wait_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        delay = 0.005
        while True:
            try:
                ask_service(self.directory, self.store.url, "ready")
            except ServiceUnavailableError:
                if process.poll() is not None:
                    raise self._ended(process.returncode) from None
                if time.monotonic() > deadline:
                    raise
                try:
                    process.wait(delay)
                except subprocess.TimeoutExpired:
                    delay = min(delay * 1.5, 0.1)
            else:
                if self.status()["pids"]["supervisor"] == process.pid:
                    return
                raise self._ended(0)  # somebody else's, which was quicker

    def _ended(self, code: int) -> LivingAIError:
        if code == _EXIT_RUNNING or owner_alive(self.directory.lock):
            return ServiceRunningError(
                f"another writer service has just taken {self.directory.path}; use that one"
            )
        return ServiceError(
            f"the writer service ended at its start (exit status {code}); see service.log there, "
            f"nothing in {self.directory.path} was lost"
        )

    def stop(self, drain: bool = True, timeout: float = 30.0) -> None:
        """End the service. With ``drain`` what is queued is stored first (as far as the store
        takes it); in any case what is not stored stays in the journals. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.send_signal(signal.SIGTERM if drain else signal.SIGQUIT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()

    def wait(self) -> int:
        """Wait until the service ends by itself or is stopped from outside; its exit status."""
        return self._process.wait() if self._process is not None else 0

    def status(self) -> dict[str, Any]:
        """What the service is doing; see ``livingai status``."""
        answer: dict[str, Any] = ask_service(self.directory, self.store.url, "status")
        return answer

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Service:
        return await asyncio.get_running_loop().run_in_executor(None, self.start)

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.stop)
