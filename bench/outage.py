"""Stopping what stores, for a while, under load: the tier ``outage``.

* store: another connection holds SQLite's write lock; the processes of a server that the benchmark
  started are stopped (SIGSTOP).
* writer: the service's writers are stopped.
* service: every process of the service is stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Literal

import apsw

from bench.processes import roles_of
from bench.servers import Server
from livingai import Service

Stop = Literal["store", "writer", "service"]
STOPS: Final[tuple[Stop, ...]] = ("store", "writer", "service")

Stopped = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def write_locked(path: str) -> Iterator[None]:
    """The write lock of an SQLite database is held inside the block. Raises apsw.BusyError if it
    cannot be had within a minute."""
    connection = apsw.Connection(path)
    try:
        connection.set_busy_timeout(60_000)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def stop_of(what: Stop, service: Service, database: str, server: Server | None) -> Stopped:
    """What to enter for the time of the outage. ``database`` is the path of the SQLite store, where
    there is no ``server``."""
    from tests.support.waiting import frozen

    if what == "store":
        return server.frozen if server else lambda: write_locked(database)
    roles = roles_of(service)
    if what == "writer":
        return lambda: frozen(roles["writers"])
    # The supervisor first: it would take the others for dead.
    pids = [*roles["others"], *roles["dispatcher"], *roles["writers"], *roles["compressors"]]
    return lambda: frozen(pids)


def hold(stopped: Stopped, begin_ns: int, seconds: float) -> tuple[int, int]:
    """Stop it at ``begin_ns`` for ``seconds``; when it was stopped, and when it went on
    (CLOCK_MONOTONIC)."""
    time.sleep(max(0.0, (begin_ns - time.monotonic_ns()) / 1e9))
    with stopped():
        began_ns = time.monotonic_ns()
        time.sleep(seconds)
        ended_ns = time.monotonic_ns()
    return began_ns, ended_ns
