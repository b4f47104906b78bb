"""What is stopped, and that it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import psutil
import pytest

from bench.outage import hold, write_locked
from bench.servers import Server


def test_nobody_writes_while_the_lock_is_held(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    other = apsw.Connection(path)
    other.execute("CREATE TABLE t (a)")
    with write_locked(path), pytest.raises(apsw.BusyError):
        other.execute("INSERT INTO t VALUES (1)")
    other.execute("INSERT INTO t VALUES (2)")
    assert other.execute("SELECT a FROM t").fetchall() == [(2,)]
    other.close()


def test_a_server_and_its_children_are_stopped() -> None:
    child = "print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        server = Server("", process.pid)
        pids = server.pids()
        assert len(pids) == 2
        assert server.cpu_seconds() > 0

        def look() -> None:
            assert {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED}

        with server.frozen():
            look()
        assert psutil.STATUS_STOPPED not in {psutil.Process(pid).status() for pid in pids}
        began_ns, ended_ns = hold(server.frozen, 0, 0.0)
        assert began_ns <= ended_ns
        process.stdin.write(b"\n")
