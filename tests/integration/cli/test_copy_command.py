"""``livingai copy`` on databases that real agents wrote: what it says, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore
from livingai.testing.rows import contents
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.waiting import ended


def copy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "livingai.cli", "copy", *arguments], env=environment(),
        cwd=folder, capture_output=True, text=True, timeout=patience(120), check=False,
    )  # fmt: skip


def write(path: Path, run: str, states: range) -> None:
    """An agent's life: it saves and goes; everything is stored."""
    with Service(SQLiteStore(path)), CheckpointEngine(SQLiteStore(path)) as engine:
        for number in states:
            engine.save_sync(ExecutionNode(run), {"step": number, "of": path.name}).result(
                patience(30)
            )
        engine.drain_sync()


def held(path: Path) -> dict[str, Any]:
    with SQLiteStore(path) as store:
        return contents(store)


def checkpoints(path: Path) -> list[Any]:
    found: list[Any] = held(path)["checkpoints run-1"]
    return found


def test_two_runs_of_one_id_are_never_merged(tmp_path: Path) -> None:
    p, q = tmp_path / "p.db", tmp_path / "q.db"
    write(p, "a-fine", range(1))
    write(p, "run-1", range(3))
    write(q, "run-1", range(3))
    before = held(q)
    told = copy(tmp_path, "p.db", "q.db")
    assert (told.returncode, told.stdout) == (1, "")
    assert "run-1: epoch 1 belongs to" in told.stderr
    assert "Traceback" not in told.stderr
    assert held(q) == before, "nothing is written, not even the execution before it"
    told = copy(tmp_path, "p.db", "q.db", "--prefix", "a-")
    assert told.returncode == 0
    assert "1 executions, 1 nodes, 1 checkpoints" in told.stdout


def test_what_waits_in_the_targets_journal_counts(tmp_path: Path) -> None:
    """It is acknowledged, and would be stored as the newest write of what was just copied."""
    p, q = tmp_path / "p.db", tmp_path / "q.db"
    write(p, "run-1", range(3))
    child = subprocess.Popen(
        [sys.executable, "-c", _SAVE_AND_STAY, str(q)], env=environment(), stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"saved\n"
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    told = copy(tmp_path, "p.db", "q.db")
    assert told.returncode == 1, told.stdout
    assert "run-1: epoch 1 belongs to" in told.stderr
    with CheckpointEngine(SQLiteStore(q)) as engine:
        assert engine.latest_sync("run-1")[1] == "of q"


_SAVE_AND_STAY = """
import os, signal, sys, time
from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore
from livingai.protocol.verbs import STATUS
from livingai.protocol.ask import ask_service
store = SQLiteStore(sys.argv[1])
engine = CheckpointEngine(store)
engine.drain_sync()
pids = ask_service(engine.open_handle().directory, store.url, STATUS, timeout_s=10).pids
for pid in (pids.supervisor, pids.dispatcher):
    os.kill(pid, signal.SIGKILL)
engine.save_sync(ExecutionNode("run-1"), "of q")
print("saved", flush=True)
time.sleep(60)
"""


def test_copying_while_an_agent_writes(tmp_path: Path) -> None:
    """What is there is a whole earlier state of the run, and the next copy catches up."""
    p, q = tmp_path / "p.db", tmp_path / "q.db"
    write(p, "run-1", range(1))
    with (
        CheckpointEngine(SQLiteStore(p)) as engine,
        subprocess.Popen(
            [sys.executable, "-m", "livingai.cli", "copy", "p.db", "q.db"],
            env=environment(), cwd=tmp_path, stderr=subprocess.PIPE,
        ) as copying,
    ):  # fmt: skip
        number = 1
        deadline = time.monotonic() + 60
        while copying.poll() is None and time.monotonic() < deadline:
            engine.save_sync(ExecutionNode("run-1"), {"step": number}).result(patience(30))
            number += 1
        assert ended(copying) == 0, copying.stderr and copying.stderr.read()
        engine.drain_sync()
        ours, theirs = checkpoints(p), checkpoints(q)
        assert theirs == ours[: len(theirs)]
    assert copy(tmp_path, "p.db", "q.db").returncode == 0
    assert checkpoints(q) == checkpoints(p)
    assert len(checkpoints(q)) == number


def test_one_store_under_two_names(tmp_path: Path) -> None:
    write(tmp_path / "a.db", "run-1", range(2))
    os.symlink(".", tmp_path / "here")
    os.symlink("a.db", tmp_path / "b.db")
    for name in ("a.db", "here/a.db", "b.db", f"sqlite:///{tmp_path}/a.db"):
        told = copy(tmp_path, "a.db", name)
        assert (told.returncode, told.stdout) == (2, "")
        assert "source and target are the same store" in told.stderr
