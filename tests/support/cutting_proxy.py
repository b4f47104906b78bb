"""A TCP proxy that loses a server's answer: what was sent has arrived, but no answer says so."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

from tests.support.waiting import joined


class CuttingProxy:
    """Forwards connections to ``port``; the first one whose server says ``cut`` is closed, and
    does not get that answer. Use as a context manager."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._cut = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        #: Set once an answer was lost.
        self.lost = threading.Event()

    def lose(self, answer: bytes) -> None:
        """From now on, lose the first data from the server that contains ``answer``."""
        self._cut = answer

    def __enter__(self) -> CuttingProxy:
        self._listener.settimeout(0.05)
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        for thread in self._threads:
            joined(thread)
        self._listener.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="proxy")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                self._start(self._forward, self._listener.accept()[0])

    def _forward(self, client: socket.socket) -> None:
        # Either side may go at any time, and a server that is killed resets its connections.
        with client, contextlib.suppress(ConnectionError):
            self._between(client, socket.create_connection(("127.0.0.1", self._target)))

    def _between(self, client: socket.socket, server: socket.socket) -> None:
        with server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._closing.is_set():
                for key, _ in selector.select(0.05):
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if key.fileobj is server and self._cut and self._cut in data:
                        self._cut = b""
                        self.lost.set()
                        return
                    if not data:
                        return
                    key.data.sendall(data)
