"""The command line as a user meets it: what it prints where, and how it exits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from livingai import ExecutionNode
from tests.support import acts, peek
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sqlite import refusing
from tests.support.waiting import ended, frozen


def livingai(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, its output in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments], env=environment(),
        cwd=place.folder, capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip


def test_ids_are_printed_as_they_are(served: Place) -> None:
    """A terminal library's markup in an id is no markup, and long lines are not wrapped."""
    name = "run [/x] [bold]" + "y" * 100
    with served.engine() as engine:
        engine.save_sync(ExecutionNode(name), b"state").result(patience(60))
    told = livingai(served, "fork", "agent.db", name, f"{name} 2")
    assert (told.returncode, told.stdout) == (0, f"copied 1 nodes to {name} 2\n")
    told = livingai(served, "delete", "agent.db", name)
    assert (told.returncode, told.stdout) == (0, f"deleted 1 nodes of {name}\n")
    told = livingai(served, "delete", "agent.db", name)
    assert told.returncode == 1
    assert "nothing was deleted" in told.stderr
    told = livingai(served, "check", "agent.db")
    assert (told.returncode, told.stdout.count("\n")) == (0, 1)


MISTAKES = [
    (["status", "nope.db"], "there is no database"),
    (["status", "."], "no livingai state directory"),
    (["status", "other.db"], "no agent on this machine has used it"),
    (["copy", "nope.db", "new.db"], "there is no database"),
    (["prune", "other.db"], "--keep-last"),
    (["delete", "nope.db", "run-1"], "there is no database"),
    (["serve", "foo://x"], "no store has the scheme"),
    (["serve", "."], "is not a regular file"),
    (["serve", "agent.db"], "stop it first"),
    (["requeue", "agent.db", "x.record"], "not in quarantine: x.record"),
    (["stop"], "Missing argument"),
    (["no-such-command"], "No such command"),
]


def test_a_mistake_gets_a_message_of_one_sentence(served: Place) -> None:
    (served.folder / "other.db").touch()
    for arguments, says in MISTAKES:
        told = livingai(served, *arguments)
        expected = (3,) if "nope.db" in arguments else (1, 2, 3)
        assert told.returncode in expected, arguments
        assert says in told.stderr
        assert "Traceback" not in told.stderr
    assert not (served.folder / "nope.db").exists()
    assert not (served.folder / "new.db").exists()


@pytest.mark.parametrize("url", ["postgresql://u:secret@[::1]:1/db", "redis://u:secret@[::1]:1"])
def test_no_command_prints_a_password(
    served: Place, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(served.folder / "home"))
    for arguments in (
        ("status", url), ("stop", url), ("check", url), ("requeue", url), ("list", "-s", url),
        ("recover", "-s", url), ("state", "-s", url, "run"), ("export", "-s", url),
        ("backup", url, "saved"), ("replay", "-s", url, "run"), ("fork", url, "run", "--as", "x"),
    ):  # fmt: skip
        told = livingai(served, *arguments)
        assert told.returncode in (1, 2, 3), arguments
        assert told.stderr, arguments
        assert "secret" not in told.stderr + told.stdout, arguments


def test_a_closed_output_pipe_is_no_error(served: Place) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "livingai.cli", "status", "agent.db"], env=environment(),
        cwd=served.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert ended(process) == 141, "as a shell says it of what SIGPIPE has ended"


def test_status_requeue_and_stop(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with refusing(state_dir.database, why="[/no]"):
        agent.call(acts.save, "run-1", 1)
        agent.settled(2)
        told = livingai(state_dir, "requeue", "agent.db")
        assert told.returncode == 1
        assert "quarantined" in told.stdout
    told = livingai(state_dir, "status", "agent.db")
    assert told.returncode == 1, "something is quarantined"
    assert "running since" in told.stdout
    assert "[/no]" in told.stdout
    pids = state_dir.pids()
    with frozen([pids["dispatcher"]]):
        told = livingai(state_dir, "status", "agent.db")
        assert f"process {pids['dispatcher']} does not answer" in told.stdout
    told = livingai(state_dir, "requeue", "agent.db")
    assert told.returncode == 0
    assert ": met" in told.stdout or ": late" in told.stdout
    assert "nothing is quarantined" in livingai(state_dir, "requeue", "agent.db").stdout
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1]
    agent.leave()
    state_dir.empty()
    assert livingai(state_dir, "stop", "agent.db").stdout == "no service is running\n"
    assert "not running" in livingai(state_dir, "status", str(state_dir.directory.path)).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_serve_drains_at_its_end(state_dir: Place, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "livingai.cli", "serve", "agent.db"], env=environment(),
        cwd=state_dir.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving sqlite:///")
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    pids = state_dir.pids()
    with frozen(pids["writers"]):
        for step in range(1, 10):
            agent.call(acts.save, "run-1", step)
        agent.kill()
        os.kill(process.pid, number)
        assert process.stdout.readline().startswith("draining")
    rest = process.stdout.read()
    process.stdout.close()
    assert ended(process) == 0, rest
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(10))


def on_terminal(place: Place, typed: str, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal where ``typed`` is typed; its exit status and what it says."""
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "livingai.cli", *arguments], env=environment(),
            cwd=place.folder, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        ) as process:  # fmt: skip
            os.write(ours, typed.encode())
            said, _ = process.communicate(timeout=patience(60))
            return process.returncode, said
    finally:
        os.close(ours)
        os.close(theirs)


def test_delete_asks_on_a_terminal_and_nowhere_else(served: Place) -> None:
    def save() -> None:
        with served.engine() as engine:
            for _ in range(2):
                engine.save_sync(ExecutionNode(served.run), b"state").result(patience(60))

    name = served.run
    save()
    status, said = on_terminal(served, "n\n", "delete", "agent.db", name)
    assert status == 1
    assert f"delete 2 nodes of {name}? [y/N]" in said
    assert "Aborted" in said
    assert on_terminal(served, "", "delete", "agent.db", name, "--dry-run") == (
        0, f"would delete 2 nodes of {name}; nothing was deleted\n",
    )  # fmt: skip
    told = livingai(served, "delete", "agent.db", name, "--dry-run")
    assert told.stdout == f"would delete 2 nodes of {name}; nothing was deleted\n"
    status, said = on_terminal(served, "y\n", "delete", "agent.db", name)
    assert status == 0
    assert f"deleted 2 nodes of {name}" in said
    assert livingai(served, "delete", "agent.db", name, "--dry-run").returncode == 1
    status, said = on_terminal(served, "", "delete", "agent.db", name)
    assert status == 1
    assert "nothing was deleted" in said, "nobody is asked about nothing"
    for terminal in (True, False):
        save()
        if terminal:
            status, said = on_terminal(served, "", "delete", "agent.db", name, "--yes")
        else:
            told = livingai(served, "delete", "agent.db", name)
            status, said = told.returncode, told.stdout
        assert (status, said) == (0, f"deleted 2 nodes of {name}\n")


def test_prune_lists_what_it_would_drop(served: Place) -> None:
    name = served.run
    with served.engine() as engine:
        for step in range(4):
            engine.save_sync(ExecutionNode(name), b"state %d" % step).result(patience(60))
    arguments = ("prune", "agent.db", "--keep-last", "2", "--prefix", name)
    told = livingai(served, *arguments, "--dry-run")
    assert told.returncode == 0
    first, last = told.stdout.splitlines()
    assert first.startswith("would drop 2 checkpoints (")
    assert f"bytes) of {name}: 1." in first
    assert last.endswith("and 0 executions; nothing was dropped")
    assert livingai(served, *arguments, "--dry-run").stdout == told.stdout
    done = livingai(served, *arguments)
    assert done.stdout.startswith(last.removeprefix("would ").replace("drop", "dropped", 1)[:20])
    assert "would drop 0 checkpoints" in livingai(served, *arguments, "--dry-run").stdout
