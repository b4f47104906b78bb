"""Agents and services of earlier versions, as real processes (``tests/data/packages``)."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.agents import DEFAULTS, ROOT, Agent, environment
from tests.support.place import Place

_ARCHIVE = ROOT / "tests" / "data" / "packages" / "earlier.tar.xz"
#: Settings that every version has.
_DEFAULTS = {name: DEFAULTS[name] for name in ("idle_s", "compressors", "service_timeout_s")}
_SERVICE = """
import sys
from livingai import Service
from livingai.stores.opening import open_store
with Service(open_store(sys.argv[1]), sys.argv[2]):
    print("up", flush=True)
    sys.stdin.read()
"""


class Earlier:
    """The package of an earlier version, unpacked into a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        with tarfile.open(_ARCHIVE) as archive:
            of_it = [each for each in archive if each.name.startswith(f"{name}/")]
            archive.extractall(folder, members=of_it, filter="data")
        self.folder = folder / name
        assert (self.folder / "livingai" / "__init__.py").exists()

    def environment(self, **more: str) -> dict[str, str]:
        """That of a process which imports this livingai, and the tests' modules."""
        return environment(PYTHONPATH=f"{self.folder}:{ROOT}", **more)

    def agent(self, place: Place, env: dict[str, str] | None = None, **settings: Any) -> Agent:
        """An agent of this version."""
        return place.agent(env=self.environment(**env or {}), defaults=_DEFAULTS, **settings)

    @contextmanager
    def service(self, store_url: str, directory: str) -> Iterator[subprocess.Popen[str]]:
        """A service of this version that a user's program holds; in the block it is up. It drains
        at the block's end, if it is still there."""
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVICE, store_url, directory], text=True, cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment(),
        )  # fmt: skip
        with process:  # closes the pipes, and waits
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process

    def runs(self, pid: int) -> bool:
        """Whether a process of a service is of this version."""
        with suppress(psutil.Error):
            return str(self.folder) in psutil.Process(pid).environ().get("PYTHONPATH", "")
        return False
