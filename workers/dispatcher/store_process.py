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
from livingai.protocol.error_parts import error_from_parts
from livingai.protocol.frames import REVISION, FrameBuffer, Message, frame, revision_of
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
        self._transport: asyncio.WriteTransport | None = None
        self._closed = False
        self._last_words = ""
        #: What it can read (``protocol/frames.py``), once it is up. It may have been started from
        #: another livingai than ours, which was installed meanwhile.
        self.revision = 0
        #: Takes no more requests; those under way fail once the process is gone.
        self.ended = False
        self._life = asyncio.create_task(
            self._live(sock, frame(Message.HELLO, config.for_workers(), REVISION))
        )

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
        if self.ended or self._transport is None:
            raise self._gone_error()
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            # uvloop raises this where the connection has ended a moment ago: _live() sees it, too.
            with contextlib.suppress(RuntimeError):
                self._transport.write(frame(Message.REQUEST, number, verb, arguments))
            return await future
        finally:
            self._replies.pop(number, None)

    async def _live(self, sock: socket.socket, greeting: bytes) -> None:
        try:
            loop = asyncio.get_running_loop()
            transport, replies = await loop.create_unix_connection(
                lambda: _Replies(self._take), sock=sock
            )
            self._transport = transport
            transport.write(greeting)
            if self._closed:
                transport.close()
            await replies.end
        except OSError as error:
            _log.debug("the connection to the %s has ended: %s", self._role, error)
        except Exception:
            _log.exception("the %s has sent nonsense and is ended", self._role)
            self._process.kill()
        await self._end()

    def _take(self, message: list[Any]) -> None:
        if message[0] == Message.HELLO:
            self.revision = revision_of(message[2:])
            if not self._up.done():
                self._up.set_result(None)
            return
        if message[0] == Message.GOODBYE:
            self._last_words = ": ".join(message[1][:2])
            return
        _, number, ok, value = message
        self._answered()
        future = self._replies.get(number)
        if future is None or future.done():
            return  # the caller was cancelled
        if ok:
            future.set_result(value)
        else:
            future.set_exception(error_from_parts(value))

    async def _end(self) -> None:
        self.ended = True
        if self._transport is not None:
            self._transport.close()
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
        if self._transport is not None:
            self._transport.close()
        await self.gone()


class _Replies(asyncio.Protocol):
    """What the process sends. A stream with a task that reads it costs twice as much of the event
    loop, which a lone save passes through for each of its steps."""

    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take
        self._buffer = FrameBuffer()
        #: Done when the connection has ended; it raises what was wrong with what came.
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.end.done():  # what came was wrong
            return
        try:
            for message in self._buffer.feed(data):
                self._take(message)
        except Exception as error:
            if not self.end.done():
                self.end.set_exception(error)

    def eof_received(self) -> bool:
        """It sends no more. The connection is closed by who waits for its end."""
        self.connection_lost(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.end.done():
            self.end.set_result(None)


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process whose connection is gone; kill it if it does not go."""
    try:
        return process.wait(timeout=_REAP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
