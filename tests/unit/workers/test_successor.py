"""The supervisor that takes an earlier one's place, beside real holders of the locks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.protocol.exit_codes import ExitCode
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive
from livingai.service.succession import NAME, failure_of, forget_failure, note_failure
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.successor import Successor
from tests.support.agents import ROOT
from tests.support.waiting import ended

#: Holds a lock until its input ends or a signal ends it; with "stays" no SIGQUIT does.
_HOLDER = """
import signal, sys
from livingai.queue.lock import OwnerLock
if sys.argv[2] == "stays":
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
lock = OwnerLock.acquire(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


#: In place of the database driver: the first writers that import it are killed.
_DIES = """
import importlib, os, signal, sys
kept = sys.path[:]
if sys.argv[0].endswith("main.py"):
    born = len([name for name in os.listdir({folder!r}) if name.startswith("born-")])
    open(os.path.join({folder!r}, f"born-{{os.getpid()}}"), "w").close()
    if born < {deaths}:
        os.kill(os.getpid(), signal.SIGKILL)
sys.path[:] = [path for path in sys.path if path != {folder!r}]
del sys.modules["apsw"]
sys.modules["apsw"] = importlib.import_module("apsw")
sys.path[:] = kept
"""


@contextmanager
def holder(path: str, how: str = "goes") -> Iterator[subprocess.Popen[str]]:
    """In the block another process holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path, how], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def config(tmp_path: Path) -> ServiceConfig:
    store = SQLiteStore(tmp_path / "a.db")
    path = str(tmp_path / "state")
    StateDirectory(path).ensure(store.url)
    return ServiceConfig.build(store, path, EngineConfig())


def test_it_takes_the_place(config: ServiceConfig) -> None:
    directory = StateDirectory(config.directory)
    with holder(directory.supervisor_lock) as earlier:
        note_failure(directory.path, earlier.pid, "of before")
        successor = Successor(config.to_dict(), earlier.pid)
        assert successor.make_room() == ExitCode.DONE
        assert ended(earlier) == -3
    assert failure_of(directory.path, earlier.pid, 1e9) == ""
    assert owner_alive(directory.successor_lock)
    successor.settled()
    assert not owner_alive(directory.successor_lock)


def test_one_that_does_not_end(config: ServiceConfig) -> None:
    directory = StateDirectory(config.directory)
    with holder(directory.supervisor_lock, "stays") as earlier:
        assert Successor(config.to_dict(), earlier.pid).make_room(leave_s=0.1) == ExitCode.FAILED
        said = failure_of(directory.path, earlier.pid, 1e9)
        assert f"it does not end within 0.1 s; kill process {earlier.pid}" in said
        assert not owner_alive(directory.successor_lock)
        assert earlier.poll() is None


def test_one_that_cannot_open_the_store_asks_nobody_to_go(
    config: ServiceConfig, tmp_path: Path
) -> None:
    (tmp_path / "a.db").write_bytes(b"no database" * 1000)
    directory = StateDirectory(config.directory)
    with holder(directory.supervisor_lock) as earlier:
        assert Successor(config.to_dict(), earlier.pid).make_room() == ExitCode.FAILED
        assert "cannot open the store" in failure_of(directory.path, earlier.pid, 1e9)
        assert earlier.poll() is None
        assert owner_alive(directory.supervisor_lock)


@pytest.mark.parametrize("deaths", [2, 3])
def test_what_a_signal_kills_is_tried_again(
    config: ServiceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """A few times. Each process counts itself in a file, and the first ones kill themselves."""
    (tmp_path / "apsw.py").write_text(_DIES.format(folder=str(tmp_path), deaths=deaths))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    directory = StateDirectory(config.directory)
    with holder(directory.supervisor_lock) as earlier:
        successor = Successor(config.to_dict(), earlier.pid)
        expected = ExitCode.DONE if deaths == 2 else ExitCode.FAILED
        assert successor.make_room() == expected
        successor.settled()
        if deaths == 2:
            assert ended(earlier) == -3
        assert owner_alive(directory.supervisor_lock) == (deaths == 3)
        said = failure_of(directory.path, earlier.pid, 1e9)
    assert ("its successor's writer cannot start" in said) == (deaths == 3)


def test_one_tries_at_a_time(config: ServiceConfig) -> None:
    directory = StateDirectory(config.directory)
    with ExitStack() as held:
        earlier = held.enter_context(holder(directory.supervisor_lock))
        held.enter_context(holder(directory.successor_lock))
        assert Successor(config.to_dict(), earlier.pid).make_room() == ExitCode.RUNNING
        assert earlier.poll() is None
        assert owner_alive(directory.supervisor_lock)


def test_another_one_has_followed(config: ServiceConfig) -> None:
    """The supervisor is not the one that was to go: it stays."""
    directory = StateDirectory(config.directory)
    with ExitStack() as held:
        other = held.enter_context(holder(str(Path(config.directory) / "other.lock")))
        now = held.enter_context(holder(directory.supervisor_lock))
        assert Successor(config.to_dict(), other.pid).make_room() == ExitCode.RUNNING
        assert now.poll() is other.poll() is None
        assert owner_alive(directory.supervisor_lock)
        assert not owner_alive(directory.successor_lock)


def test_a_failure_is_of_one_service_one_boot_and_a_time(tmp_path: Path) -> None:
    place = str(tmp_path)
    assert failure_of(place, 7, 1e9) == ""
    note_failure(place, 7, "why")
    assert failure_of(place, 7, 1e9) == "why"
    assert failure_of(place, 8, 1e9) == ""
    assert failure_of(place, 7, 0.0) == ""
    noted = json.loads((tmp_path / NAME).read_text())
    damaged: list[object] = [
        [],
        {**noted, "boot": "0" * 32},
        {**noted, "at": noted["at"] + 1e6},
        {**noted, "at": "x"},
    ]
    for changed in damaged:
        (tmp_path / NAME).write_text(json.dumps(changed))
        assert failure_of(place, 7, 1e9) == ""
    (tmp_path / NAME).write_bytes(b"{")
    assert failure_of(place, 7, 1e9) == ""
    forget_failure(place)
    forget_failure(place)
    assert not (tmp_path / NAME).exists()
