"""A real PgBouncer in transaction mode in front of a test's PostgreSQL server.

No wheel has one: where none is found on PATH or in ``/usr/sbin``, tests that need it are skipped,
visibly, in CI too (``.ci/run`` tries to install it).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.ports import free_port
from tests.support.postgres_servers import PostgresServer, die_with_tests, unprivileged
from tests.support.waiting import ended, until


def binary() -> str:
    """The program; skips where there is none."""
    path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
    found = shutil.which("pgbouncer", path=path)
    if found is None:
        pytest.skip("no pgbouncer on PATH (apt-get install pgbouncer)")
    return found


class PgBouncer:
    """A process in front of ``server``; ``settings`` go into the section of its file."""

    def __init__(self, server: PostgresServer, **settings: Any) -> None:
        self._binary = binary()
        self._user = unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="livingai-pgbouncer-"))
        self.folder.chmod(0o755)
        if self._user:
            os.chown(self.folder, self._user["user"], self._user["group"])
        self.port = free_port()
        options = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "auth_type": "any",
            "unix_socket_dir": "", "pool_mode": "transaction", "default_pool_size": 3,
            "logfile": self.folder / "log", **settings,
        }  # fmt: skip
        lines = ["[databases]"]
        lines += [f"* = host={server.folder} port={server.port} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in options.items()]
        self._file = self.folder / "pgbouncer.ini"
        self._file.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PgBouncer:
        """Start it and wait until a query comes through."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVINGAI")}
        self._process = subprocess.Popen(
            [self._binary, "-q", self._file],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", env=environment, start_new_session=True, preexec_fn=die_with_tests,  # noqa: PLW1509 - one call of the kernel
            **self._user,
        )  # fmt: skip
        until(self._answers, what=f"a PgBouncer: {self.said()}", timeout=30)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PgBouncer ended: {self.said()}"
        try:
            with psycopg.connect(self.url(), connect_timeout=2, autocommit=True) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """Its address."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        ended(self._process)

    def said(self) -> str:
        """The end of its log."""
        log = self.folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def close(self) -> None:
        """End it and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PgBouncer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()
