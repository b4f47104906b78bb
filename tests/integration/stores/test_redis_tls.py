"""``rediss://``: TLS, ended in front of the server, since the server of the wheel has none."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from livingai.errors import StoreUnavailableError
from livingai.stores.redis import RedisStore
from livingai.testing import make_row
from livingai.testing.rows import commit, listing, state
from tests.support.patience import patience
from tests.support.redis_servers import missing, prefix_for, shared_server
from tests.support.waiting import joined

pytestmark = pytest.mark.redis


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate and its key in one file."""
    openssl = shutil.which("openssl") or missing("openssl command")
    path = tmp_path / "both.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path, "-out",
         tmp_path / "certificate.pem", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=patience(60),
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    return path


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """A port that speaks TLS and hands on to the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    threads: list[threading.Thread] = []

    def start(target: object, *arguments: object) -> None:
        threads.append(threading.Thread(target=target, args=arguments))  # type: ignore[arg-type]
        threads[-1].start()

    def serve(plain: socket.socket) -> None:
        server = ("127.0.0.1", shared_server().port)
        with (
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as outside,
            socket.create_connection(server) as inside,
        ):
            outside.settimeout(20)
            while data := outside.recv(1 << 16):
                inside.sendall(data)
                _answer(inside, outside)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                start(serve, listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        start(accept, listener)
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        joined(thread)


def _answer(inside: socket.socket, outside: ssl.SSLSocket) -> None:
    """Hand back what the server says to what it was sent; nothing yet if the command goes on."""
    inside.settimeout(0.05)
    with suppress(TimeoutError):
        while data := inside.recv(1 << 16):
            outside.sendall(data)


def test_commit_and_read_through_tls(port: int, certificate: Path, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate.parent}/certificate.pem"
    with RedisStore(url, prefix=prefix_for(tmp_path)) as store:
        assert store.url == f"rediss://127.0.0.1:{port}/0?prefix={prefix_for(tmp_path)}"
        commit(store, [make_row(name, blob=state("x" * 100_000)) for name in "abc"])
        assert list(listing(store)) == ["a", "b", "c"]


def test_an_untrusted_certificate_is_refused(port: int, tmp_path: Path) -> None:
    store = RedisStore(f"rediss://127.0.0.1:{port}/0", prefix=prefix_for(tmp_path))
    with pytest.raises(StoreUnavailableError, match="certificate"):
        store.open()
