"""The lock of a manifest among real processes: none of them keeps it for long, and what one that
does costs the others has an end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livingai import CheckpointEngine
from livingai.errors import DirectoryError
from livingai.queue.directory import StateDirectory
from livingai.queue.manifest import manifest_lock
from livingai.stores.base import IDENTITY
from livingai.stores.sqlite import SQLiteStore
from tests.support.agents import ROOT, environment
from tests.support.patience import patience
from tests.support.waiting import ended, joined, until

_OPEN = """
import sys
from livingai.queue.directory import StateDirectory
from livingai.stores.sqlite import SQLiteStore
from tests.support.roles import Asked

store = SQLiteStore(sys.argv[1])
Asked(store, StateDirectory(store.default_directory())).handle("open", [])
"""
_HOLD = """
import sys
from livingai.queue.manifest import manifest_lock

with manifest_lock(sys.argv[1]):
    print("holds", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def program(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process; killed at the end of the block if it still runs."""
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment(), cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go_on(process: subprocess.Popen[str]) -> None:
    """Send it a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    """The state directory of ``agent.db``."""
    store = SQLiteStore(tmp_path / "agent.db")
    directory = StateDirectory(store.default_directory())
    directory.ensure(store.url)
    return directory


def test_a_store_that_hangs_holds_up_no_other_process(
    tmp_path: Path, directory: StateDirectory
) -> None:
    database = tmp_path / "agent.db"
    with program("-m", "tests.support.stuck_role", database) as stuck:
        assert said(stuck) == "hangs"
        subprocess.run(
            [sys.executable, "-c", _OPEN, database], env=environment(), cwd=ROOT, check=True,
            timeout=patience(20),
        )  # fmt: skip
        with SQLiteStore(database) as store:
            identity = (store.marks() or {})[IDENTITY]
        assert directory.manifest()[IDENTITY] == identity
        let_go_on(stuck)
        assert said(stuck) == "open"
        assert ended(stuck) == 0
    assert directory.manifest()[IDENTITY] == identity


def test_a_process_that_keeps_the_lock_is_reported(directory: StateDirectory) -> None:
    with program("-c", _HOLD, directory.path) as holder:
        assert said(holder) == "holds"
        expected = rf"held the lock on {re.escape(directory.path)} for 0\.2 s.*lslocks.*try again"
        with pytest.raises(DirectoryError, match=expected), manifest_lock(directory.path, 0.2):
            pytest.fail("two processes hold the lock")
        changed = threading.Thread(target=directory.change_manifest, args=({"store": "new"},))
        changed.start()
        let_go_on(holder)
        joined(changed)
        assert not changed.is_alive()
    assert directory.manifest()["store"] == "new"


def test_a_killed_process_keeps_no_lock(directory: StateDirectory) -> None:
    with program("-c", _HOLD, directory.path) as holder:
        assert said(holder) == "holds"
        holder.send_signal(signal.SIGKILL)
        ended(holder)
        assert directory.change_manifest({"store": "new"})


def test_a_forked_child_does_not_keep_the_lock(directory: StateDirectory) -> None:
    """As another thread of an agent forks while one changes the manifest."""
    reading, writing = os.pipe()
    with manifest_lock(directory.path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent closes its end
            os._exit(0)
    try:
        with manifest_lock(directory.path, 0.0):
            pass
        assert directory.change_manifest({"store": "new"})
    finally:
        os.close(reading)
        os.close(writing)
        os.waitpid(child, 0)


def test_a_change_is_made_only_over_the_manifest_that_it_is_based_on(
    directory: StateDirectory,
) -> None:
    seen = directory.manifest()
    assert directory.change_manifest({IDENTITY: "first"}, over=seen)
    assert not directory.change_manifest({IDENTITY: "second"}, over=seen)
    assert directory.manifest()[IDENTITY] == "first"


def test_an_engine_that_waits_for_the_lock_holds_up_none_of_another_directory(
    tmp_path: Path,
) -> None:
    """It has moved with its database, and writes that into its manifest."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    before = SQLiteStore(old / "agent.db")
    StateDirectory(before.default_directory()).ensure(before.url)
    old.rename(new)
    moved = CheckpointEngine(SQLiteStore(new / "agent.db"), service="attach")
    other = CheckpointEngine(SQLiteStore(tmp_path / "other.db"), service="attach")
    threads = [threading.Thread(target=engine.open_handle) for engine in (moved, other)]
    with program("-c", _HOLD, moved.directory.path) as holder:
        assert said(holder) == "holds"
        threads[0].start()
        until(lambda: "_take" in functions_of(threads[0]), what="waiting for the lock")
        threads[1].start()
        joined(threads[1], timeout=20)
        assert [thread.is_alive() for thread in threads] == [True, False]
        let_go_on(holder)
        joined(threads[0])
        assert not threads[0].is_alive()
    for engine in (moved, other):
        engine.close_sync()
    assert moved.directory.manifest()["store"] == moved.store.url


def functions_of(thread: threading.Thread) -> list[str]:
    """The names of the functions that a thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    return [found.f_code.co_name for found, _ in traceback.walk_stack(frame)] if frame else []
