"""The server of the exporter: what clients send, or do not send, holds nobody up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus

import pytest

from livingai.metrics import server
from livingai.metrics.server import MetricsServer, Page
from tests.support.patience import patience


async def _hello(accept: str) -> Page:
    return Page(HTTPStatus.OK, f"hello {accept}\n".encode())


async def _large(_: str) -> Page:
    return Page(HTTPStatus.OK, b"x" * (8 << 20))


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[MetricsServer, int]]:
    found = MetricsServer({"/metrics": _hello, "/large": _large})
    try:
        yield found, await found.start("127.0.0.1", 0)
    finally:
        found.close()


async def send(port: int, request: bytes) -> bytes:
    """All that is answered to some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(patience(20)):
            return await reader.read()
    finally:
        writer.close()


async def status(port: int, request: bytes) -> int:
    answer = await send(port, request)
    return int(answer.split(b" ")[1]) if answer else 0


async def test_a_page() -> None:
    async with serving() as (_, port):
        answer = await send(port, b"GET /metrics?x=1 HTTP/1.1\r\naCCept:  text/plain \r\n\r\n")
        head, body = answer.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"hello text/plain\n"
        assert f"Content-Length: {len(body)}".encode() in head
        only_head = await send(port, b"HEAD /metrics HTTP/1.1\r\nAccept: text/plain\r\n\r\n")
        assert only_head == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"POST /metrics HTTP/1.1", 405),
        (b"GET /other HTTP/1.1", 404),
        (b"GET /../../etc/passwd HTTP/1.1", 404),
        (b"GET /\xff\x00\x1b[2J HTTP/1.1", 404),
        (b"GET  /metrics HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"", 400),
        (b"GET /metrics", 400),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1", 0),
    ],
)
async def test_what_is_no_request_for_a_page(request_line: bytes, expected: int) -> None:
    async with serving() as (_, port):
        try:
            found = await status(port, request_line + b"\r\n\r\n")
        except ConnectionError:
            found = 0
        assert found == expected
        assert await status(port, b"GET /metrics HTTP/1.0\r\n\r\n") == 200


async def test_nothing_of_the_request_is_repeated() -> None:
    async with serving() as (_, port):
        for line in (b"GET /secret HTTP/1.1", b"SECRET /metrics HTTP/1.1", b"secret"):
            assert b"secret" not in (await send(port, line + b"\r\n\r\n")).lower()


async def test_who_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_S", 0.05)
    async with serving() as (found, port):
        assert await send(port, b"GET /metrics HTTP/1.1\r\n") == b""
        assert not found._open


async def test_who_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_ANSWER_S", 0.05)
    async with serving() as (found, port):
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, b"GET /large HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(patience(20)):
                while not found._open:  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0)
                while found._open:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)


async def test_a_thousand_silent_connections_keep_no_scraper_out() -> None:
    async with serving() as (found, port):
        with ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
                await asyncio.sleep(0)  # the server has its turn
            assert await status(port, b"GET /metrics HTTP/1.1\r\n\r\n") == 200
            assert 0 < len(found._open) <= server._MOST
