"""One life of a worker process, as the dispatcher sees it: greeting, requests and replies, end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import subprocess
from collections.abc import Callable
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import ServiceUnavailableError
from livingai.protocol.frames import LENGTH, Message, error_from_parts, frame, parse
from livingai.workers.deaths import how_it_ended

_log = logging.getLogger("livingai.service")
#: Seconds that a worker may go on without a connection: it finishes what it does.
_REAP_S = 5.0


class StoreProcess:
    """One life of a worker process. It greets once it can take requests."""

    def __init__(
        self,
        role: str,
        process: subprocess.Popen[bytes],
        sock: socket.socket,
        config: ServiceConfig,
        answered: Callable[[], None],
        died: Callable[[str], None],
    ) -> None:
        self._role = role
        self._process = process
        self._answered = answered
        self._died = died
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._up = asyncio.get_running_loop().create_future()
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False
        self._last_words = ""
        #: Takes no more requests; those under way fail once the process is gone.
        self.ended = False
        self._life = asyncio.create_task(self._live(sock, frame(Message.HELLO, config.to_dict())))

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return None if self._process.returncode is not None else self._process.pid

    async def up(self) -> None:
        """Wait until it has greeted.

        Raises:
            ServiceUnavailableError: it ended before that.
        """
        await asyncio.shield(self._up)

    async def gone(self) -> None:
        """Wait until the process is gone and every request has failed or been answered."""
        await asyncio.shield(self._life)

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """Its answer. Raises: see :meth:`StoreLink.call`."""
        if self.ended or self._writer is None:
            raise self._gone_error()
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            # uvloop raises this where the connection has ended a moment ago: _live() sees it, too.
            with contextlib.suppress(RuntimeError):
                self._writer.write(frame(Message.REQUEST, number, verb, arguments))
            return await future
        finally:
            self._replies.pop(number, None)

    async def _live(self, sock: socket.socket, greeting: bytes) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=sock)
            self._writer.write(greeting)
            if self._closed:
                self._writer.close()
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                self._take(parse(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception:
            _log.exception("the %s says what makes no sense and is ended", self._role)
            self._process.kill()
        await self._end()

    def _take(self, message: list[Any]) -> None:
        if message[0] == Message.HELLO:
            if not self._up.done():
                self._up.set_result(None)
            return
        if message[0] == Message.GOODBYE:
            self._last_words = ": ".join(message[1])
            return
        _, number, ok, value = message
        self._answered()
        future = self._replies.get(number)
        if future is None or future.done():
            return  # the caller was cancelled
        if ok:
            future.set_result(value)
        else:
            future.set_exception(error_from_parts(*value))

    async def _end(self) -> None:
        self.ended = True
        if self._writer is not None:
            self._writer.close()
        code = await asyncio.get_running_loop().run_in_executor(None, _reap, self._process)
        reason = how_it_ended(code, self._last_words)
        if not self._closed:
            _log.warning("%s worker ended (%s)", self._role, reason)
        for future in [self._up, *self._replies.values()]:
            if not future.done():
                future.set_exception(self._gone_error(f" ({reason})"))
        self._up.exception()  # retrieved: there may be no waiter
        self._died(reason)

    def _gone_error(self, why: str = "") -> ServiceUnavailableError:
        return ServiceUnavailableError(f"the {self._role} died{why}; the request was not answered")

    async def close(self) -> None:
        """End it in order, and wait for its end."""
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        await self.gone()


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process whose connection is gone; kill it if it does not go."""
    try:
        return process.wait(timeout=_REAP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
