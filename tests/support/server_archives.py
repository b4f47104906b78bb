"""What a server's store and its state directory held when agent and service were killed, as an
archive, and back on another server (``tests/data/formats``).

To make one with the livingai in ``PACKAGE`` (default: this one)::

    python -m tests.support.server_archives redis|postgres ARCHIVE [PACKAGE]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from livingai.stores.opening import open_store
from tests.support import acts, postgres_servers
from tests.support.agents import DEFAULTS, ROOT
from tests.support.place import Place
from tests.support.postgres_servers import PostgresServer, psql
from tests.support.processes import TAG
from tests.support.redis_servers import RedisServer

#: In an archive: the state directory, and what the server had.
STATE, COMMANDS, SCRIPT = "state", "commands.jsonl", "dump.sql"


# -- Redis: plain commands, which every server understands --


def redis_commands(client: Any) -> Iterator[list[bytes]]:
    """Commands that make all keys of an empty server what they are in this one."""
    for key in sorted(client.keys()):
        assert client.ttl(key) == -1
        kind = client.type(key)
        if kind == b"string":
            yield [b"SET", key, client.get(key)]
        elif kind == b"hash":
            fields = sorted(client.hgetall(key).items())
            yield [b"HSET", key, *(part for field in fields for part in field)]
        elif kind == b"zset":
            for member, score in client.zrange(key, 0, -1, withscores=True):
                yield [b"ZADD", key, repr(score).encode(), member]
        else:
            raise AssertionError(f"{key!r} is a {kind!r}")


def restore_redis(folder: Path, client: Any) -> None:
    """Send the archive's commands to an empty server."""
    assert client.dbsize() == 0
    pipeline = client.pipeline(transaction=False)
    for line in (folder / COMMANDS).read_text(encoding="ascii").splitlines():
        pipeline.execute_command(*(part.encode("latin-1") for part in json.loads(line)))
    pipeline.execute()


def _keep_redis(server: RedisServer, folder: Path) -> None:
    lines = [
        json.dumps([part.decode("latin-1") for part in command])
        for command in redis_commands(server.client())
    ]
    (folder / COMMANDS).write_text("\n".join(lines) + "\n", encoding="ascii")


# -- PostgreSQL: what pg_dump writes --


def restore_postgres(folder: Path, server: PostgresServer, database: str) -> None:
    """Run the archive's script in an empty database."""
    psql(server, database, (folder / SCRIPT).read_text(encoding="utf-8"))


def _keep_postgres(server: PostgresServer, folder: Path) -> None:
    command: list[str | Path] = [
        server.program("pg_dump"), "--inserts", "--no-owner", "--schema=livingai",
        "--dbname", server.url(),
    ]  # fmt: skip
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Not what only a psql of its own version knows.
    lines = [line for line in text.splitlines() if not line.startswith("\\")]
    (folder / SCRIPT).write_text("\n".join(lines) + "\n", encoding="utf-8")


# -- both --


def unpack(archive: Path, folder: Path, url: str) -> Path:
    """Unpack an archive; its state directory, which from now on is that of the store at ``url``:
    as the server would have the address that it had then."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    directory = folder / STATE
    directory.chmod(0o700)
    manifest = directory / "manifest.json"
    found = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**found, "store": open_store(url).url}), encoding="utf-8")
    return directory


def leave(place: Place, url: str, package: str) -> None:
    """As tests/data/formats/README.md says: save, and kill agent and service."""
    settings: dict[str, Any] = {"database": url, "directory": str(place.folder / STATE)}
    if package != str(ROOT):
        names = ("idle_s", "compressors", "service_timeout_s")
        settings |= {
            "env": {"PYTHONPATH": f"{package}:{ROOT}"},
            "defaults": {name: DEFAULTS[name] for name in names},
        }
    agent = place.agent(segment_bytes=1 << 18, **settings)
    for step in range(8):
        agent.call(acts.save, "steps", step, size=3000)
    for step in range(4):
        agent.call(acts.save, "newest", step, size=3000, history=False)
        agent.call(acts.drain)
    for step in range(3):
        agent.call(acts.save, "large", step, size=70_000)
    agent.call(acts.durable_run)
    agent.call(acts.drain)
    for pid in place.service_processes():
        os.kill(pid, signal.SIGSTOP)
    for step in range(8, 12):
        agent.call(acts.save, "steps", step, size=3000)
    agent.call(acts.save, "newest", 4, size=3000, history=False)
    agent.call(acts.save, "large", 3, size=70_000)
    agent.end()
    place.kill_service()


def main() -> None:
    """See above."""
    kind, archive, package = sys.argv[1], Path(sys.argv[2]), (*sys.argv[3:], str(ROOT))[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = Place(folder)
        os.environ[TAG] = place.tag
        keep: Callable[[], None]
        if kind == "redis":
            valkey = stack.enter_context(RedisServer())
            url, keep = valkey.url, lambda: _keep_redis(valkey, folder)
        else:
            stack.callback(postgres_servers.pytest_unconfigure)
            postgres = stack.enter_context(PostgresServer(16))
            url, keep = postgres.url(), lambda: _keep_postgres(postgres, folder)
        leave(place, url, package)
        keep()
        for name in ("service.sock", "service.log"):
            (folder / STATE / name).unlink(missing_ok=True)
        with tarfile.open(archive, "w:xz", preset=9) as packed:
            for name in (STATE, COMMANDS, SCRIPT):
                if (folder / name).exists():
                    packed.add(folder / name, name)


if __name__ == "__main__":
    main()
