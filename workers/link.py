"""A link to a worker process: started, spoken to, and started again when it dies."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import ServiceUnavailableError
from livingai.workers.protocol import LENGTH, Message, error_from_parts, frame, parse

_log = logging.getLogger("livingai.service")


class Backoff:
    """Exponential delays with full jitter, in seconds; :meth:`reset` after a success."""

    def __init__(self, first_s: float = 0.01, last_s: float = 2.0) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._delay_s = 0.0

    def next_s(self) -> float:
        """The next delay; the first one is zero."""
        delay_s = self._delay_s
        self._delay_s = min(self._last_s, max(self._first_s, delay_s * 2))
        return random.uniform(delay_s / 2, delay_s)

    def reset(self) -> None:
        """Start again from zero."""
        self._delay_s = 0.0


class WorkerLink:
    """A worker process with a request and reply connection, in the dispatcher's event loop.

    ``died()`` is called when the process is gone; requests under way then raise
    ServiceUnavailableError, and the next request starts it again.
    """

    def __init__(self, config: ServiceConfig, role: str, died: Callable[[], None]) -> None:
        self._config = config
        self._role = role
        self._died = died
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._backoff = Backoff()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the worker that runs now."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process unless it runs, after a delay if it died lately."""
        async with self._starting:
            if self._writer is not None or self._closed:
                return
            await asyncio.sleep(self._backoff.next_s())
            ours, theirs = socket.socketpair()
            try:
                command = [sys.executable, "-P", "-m", "livingai.workers.store_worker"]
                self._process = subprocess.Popen(  # noqa: ASYNC220 - a few ms, once per worker
                    [*command, self._role, str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            finally:
                theirs.close()
            reader, self._writer = await asyncio.open_unix_connection(sock=ours)
            self._writer.write(frame(Message.HELLO, self._config.to_dict()))
            self._reading = asyncio.create_task(self._read(reader, self._process))

    async def call(self, verb: str, *arguments: Any) -> Any:
        """Ask the worker.

        Raises:
            ServiceUnavailableError: it died before it answered.
            LivingAIError: what it answered.
        """
        await self.start()
        if self._writer is None:
            raise ServiceUnavailableError("the service is stopping")
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            self._writer.write(frame(Message.REQUEST, number, verb, arguments))
            return await future
        finally:
            self._replies.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader, process: subprocess.Popen[bytes]) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                _, number, ok, value = parse(await reader.readexactly(length))
                self._backoff.reset()
                future = self._replies.get(number)
                if future is None or future.done():
                    continue
                if ok:
                    future.set_result(value)
                else:
                    future.set_exception(error_from_parts(*value))
        except (asyncio.IncompleteReadError, OSError):
            await self._lost(process)

    async def _lost(self, process: subprocess.Popen[bytes]) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        code = await asyncio.get_running_loop().run_in_executor(None, _reap, process)
        self._process = None
        if not self._closed:
            _log.warning("%s worker ended (%s)", self._role, _reason(code))
        error = ServiceUnavailableError(f"the {self._role} died; the request was not answered")
        for future in list(self._replies.values()):
            if not future.done():
                future.set_exception(error)
        if not self._closed:
            self._died()

    async def close(self) -> None:
        """End the process: it finishes what it does, then sees the end of the connection."""
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            await self._reading


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process whose connection is gone; kill it if it does not go."""
    deadline = time.monotonic() + 5.0
    try:
        return process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _reason(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"
