"""Servers that the benchmark starts, the same ones that the tests start, and what they take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import psutil
import redis

from bench.cpu import cpu_seconds
from bench.processes import written_bytes

#: Settings of servers; the first of each is the server's usual setting.
REDIS: Final = {
    "valkey": ("--appendonly", "yes", "--appendfsync", "everysec"),
    "valkey:always": ("--appendonly", "yes", "--appendfsync", "always"),
    "redis": ("--appendonly", "yes", "--appendfsync", "everysec"),
    "redis:always": ("--appendonly", "yes", "--appendfsync", "always"),
}
POSTGRES: Final[dict[str, dict[str, Any]]] = {"postgres": {"fsync": "on"}}
NAMES: Final = (*REDIS, *POSTGRES)


class ServerMissingError(ValueError):
    """There is no such server here; the message says what would bring it."""


class Server:
    """A server that runs; :attr:`url` is its address."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._main = psutil.Process(pid)

    def pids(self) -> list[int]:
        """Its processes now, the first one before those that it has started."""
        return [self._main.pid, *(child.pid for child in self._main.children(recursive=True))]

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far; of those that have ended, in ticks of
        10 ms."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # one that has just ended is among those that have
                total += cpu_seconds(pid)
        ended = self._main.cpu_times()
        return total + float(ended.children_user) + float(ended.children_system)

    def network_bytes(self) -> int | None:
        """Bytes that it has received and sent so far, protocol included; None if it does not count
        them (PostgreSQL)."""
        if not self.url.startswith("redis"):
            return None
        with redis.Redis.from_url(self.url) as client:
            stats = client.info("stats")
        return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])

    def written_bytes(self) -> int:
        """As :func:`bench.processes.written_bytes`, of the processes that run now."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # one that has just ended
                total += written_bytes([pid])
        return total

    def memory_bytes(self) -> int:
        """What its processes keep in memory, shared memory included (PSS)."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_full_info().pss
        return total

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped (SIGSTOP) inside the block: it takes connections, the kernel does, and answers
        nothing."""
        from tests.support.waiting import frozen

        with frozen([self._main.pid]), frozen(self.pids()[1:]):
            yield


@contextlib.contextmanager
def started(name: str) -> Iterator[Server]:
    """One of :data:`NAMES`, for as long.

    Raises:
        ServerMissingError: it is not here.
    """
    import pytest

    from tests.support import postgres_servers

    try:
        server = _redis(name) if name in REDIS else _postgres(name)
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        raise ServerMissingError(f"{name}: {missing}") from None
    with server:
        yield Server(server.url() if callable(server.url) else server.url, server.pid)
    postgres_servers.pytest_unconfigure()  # what servers of a session share


def _redis(name: str) -> Any:
    from tests.support.redis_servers import RedisServer, binary_on_path, missing

    if not name.startswith("redis"):
        return RedisServer(*REDIS[name])
    return RedisServer(*REDIS[name], binary=binary_on_path() or missing("redis-server on PATH"))


def _postgres(name: str) -> Any:
    from tests.support.postgres_servers import PostgresServer

    return PostgresServer(**POSTGRES[name])
