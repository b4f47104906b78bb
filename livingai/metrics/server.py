"""A small HTTP server for scrapers: three pages, GET only, and nothing that a client does holds it.

Rules:

1. One request a connection, which then ends. A request has ``_REQUEST_S`` to arrive, its answer
   ``_ANSWER_S`` to be taken.
2. At most ``_MOST`` connections are open. A new one takes the place of the oldest, so whoever
   connects and says nothing, however often, does not keep a scraper out.
3. What a client sends is not repeated, and not logged.

It runs in the exporter's process (:mod:`livingai.metrics.exporter`), so even if it were held, the
service would not be. ``prometheus_client``'s own server starts a thread for each connection and
waits for a request without end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

_MOST: Final = 128
_REQUEST_S: Final = 5.0
_ANSWER_S: Final = 10.0
_HEAD_BYTES: Final = 8192
_TEXT: Final = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


#: Makes a page from the value of the request's ``Accept`` header.
PageMaker = Callable[[str], Awaitable[Page]]


class MetricsServer:
    """Serves pages by path; see the rules above."""

    def __init__(self, pages: Mapping[str, PageMaker]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        #: Open connections, the oldest first.
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def start(self, host: str, port: int) -> int:
        """Listen; the port (another one where that was 0).

        Raises:
            OSError: that address cannot be listened on.
        """
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=_HEAD_BYTES, backlog=_MOST
        )
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= _MOST:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(_REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
            method, page = await self._answer(head)
            writer.transport.set_write_buffer_limits(0)  # drain() waits until all is taken
            writer.write(_packed(page, with_body=method != b"HEAD"))
            async with asyncio.timeout(_ANSWER_S):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, head: bytes) -> tuple[bytes, Page]:
        line, _, rest = head.partition(b"\r\n")
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return b"", Page(HTTPStatus.BAD_REQUEST, b"this is no request\n")
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return method, Page(HTTPStatus.METHOD_NOT_ALLOWED, b"GET it\n")
        path = target.partition(b"?")[0].decode("latin-1")
        maker = self._pages.get(path)
        if maker is None:
            known = "\n".join(sorted(self._pages))
            return method, Page(HTTPStatus.NOT_FOUND, f"there are:\n{known}\n".encode())
        return method, await maker(_header(rest, b"accept"))


def _header(head: bytes, name: bytes) -> str:
    """The value of the first header line of this name; "" if there is none."""
    for line in head.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if colon and key.strip().lower() == name:
            return value.strip().decode("latin-1")
    return ""


def _packed(page: Page, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    ).encode("latin-1")
    return head + page.body if with_body else head
