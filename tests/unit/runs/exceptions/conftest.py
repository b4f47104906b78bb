"""A web server on this machine, for exceptions of web clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def http_server() -> Iterator[str]:
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": "no"}' if self.path != "/text" else b"plain"
            status = 404 if "404" in self.path or "/b/" in self.path else 429
            self.send_response(200 if self.path == "/text" else status)
            for key, value in (
                ("Content-Length", str(len(body))),
                ("Retry-After", "3"),
                ("Content-Type", "application/json"),
                ("X-RateLimit-Remaining-Tokens", "5"),
                ("Set-Cookie", "session=s3cret"),
            ):
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    with contextlib.closing(server.socket):
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
