"""Commands as a shell has them: pipes that close, terminals, colours, completion, CPU to start."""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from livingai import ExecutionNode, Status
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import ended, until

#: CPU that a command may take to start and to look at a small store, on this machine, in seconds.
START_S = 0.150
#: So much more may be measured: other programs of the machine take caches and cores.
TOLERANCE = 1.6
COMMAND = (sys.executable, "-m", "livingai.cli")


@pytest.fixture(scope="module")
def filled(shared_dir: Place) -> Place:
    """A few thousand runs, more than a pipe holds as lines; no service."""
    with shared_dir.service(), shared_dir.engine() as engine:
        for number in range(2000):
            status = Status.FAILED if number % 2 else Status.SUCCESS
            engine.save_sync(ExecutionNode(f"run-{number:04}-{'x' * 60}", status=status))
        engine.flush_sync()
    return shared_dir


def settings(**more: str) -> dict[str, str]:
    env = {**environment(), "LIVINGAI_STORE": "agent.db", **more}
    env.pop("COLUMNS", None)
    return env


@pytest.mark.parametrize(
    "arguments", ["list --all", "list --all --json", "list --limit 1", "status agent.db", "doctor",
                  "recover", "check agent.db", "--help", "show --help"],
)  # fmt: skip
def test_a_reader_that_goes_is_no_error(filled: Place, arguments: str) -> None:
    """As in `livingai list | head -1`: nothing is said, and the status is that of SIGPIPE if there
    was something to say."""
    script = f'set -o pipefail; {" ".join(COMMAND)} {arguments} | sh -c "exec 0<&-; exec sleep 0"'
    done = subprocess.run(
        ["bash", "-c", script], env=settings(), cwd=filled.folder, capture_output=True, text=True,
        timeout=patience(60), check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode in (0, 1, 3, 141)
    if arguments.startswith("list --all"):
        assert done.returncode == 141


def test_the_first_line_of_many(filled: Place) -> None:
    script = f"{' '.join(COMMAND)} list --all | head -1"
    done = subprocess.run(
        ["bash", "-c", script], env=settings(), cwd=filled.folder, capture_output=True, text=True,
        timeout=patience(60), check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("RUN ")


@contextmanager
def on_a_terminal(place: Place, *arguments: str, **env: str) -> Iterator[tuple[int, int]]:
    """A command on a terminal of its own: its process id, and our end."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(place.folder)
        os.execve(sys.executable, [*COMMAND, *arguments], settings(TERM="xterm", **env))
    try:
        yield pid, master
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(master)


def read_all(master: int) -> str:
    """All that comes until the other end is closed."""
    found = b""
    with suppress(OSError):  # EIO: it is
        while data := os.read(master, 65536):
            found += data
    return found.decode(errors="replace")


@pytest.mark.parametrize("arguments", ["list --limit 3", "doctor", "status agent.db", "recover"])
def test_no_color_is_heard(filled: Place, arguments: str) -> None:
    with on_a_terminal(filled, *arguments.split(), NO_COLOR="1") as (_, master):
        assert "\x1b[" not in read_all(master)


def test_colours_are_for_terminals(filled: Place) -> None:
    with on_a_terminal(filled, "list", "--limit", "3") as (_, master):
        assert "\x1b[31m" in read_all(master), "what failed is red"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_leaves_the_terminal_as_it_was(state_dir: Place, number: signal.Signals) -> None:
    with state_dir.service(), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(60))
        with on_a_terminal(state_dir, "top", "0.2") as (pid, master):
            before = termios.tcgetattr(master)
            shown = ""

            def seen() -> bool:
                nonlocal shown
                if select.select([master], [], [], 0.05)[0]:
                    shown += os.read(master, 65536).decode(errors="replace")
                return all(word in shown for word in ("dispatcher", "agent", "healthy", "met "))

            until(seen, what="a screen")
            assert "\x1b[?1049h" in shown, "a screen of its own"
            os.kill(pid, number)
            rest = read_all(master)
            assert "\x1b[?1049l" in rest, "the old screen is back"
            assert "\x1b[?25h" in rest, "and the cursor"
            assert termios.tcgetattr(master) == before
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_top_without_a_terminal_says_what_to_use(filled: Place) -> None:
    done = subprocess.run(
        [*COMMAND, "top"], env=settings(), cwd=filled.folder, capture_output=True, text=True,
        timeout=patience(60), check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "livingai stat" in done.stderr


def test_bash_completes_commands_and_options(filled: Place) -> None:
    """By the script itself, in a real bash with a program of that name."""
    program = Path(sys.executable).with_name("livingai")
    if not program.exists():
        pytest.skip("livingai is not installed beside this Python")
    path = f"{program.parent}:{os.environ['PATH']}"
    script = (
        'eval "$(livingai completion bash)"; COMP_WORDS=(livingai $1); COMP_CWORD=$2; '
        '_livingai_completion livingai; printf "%s\\n" "${COMPREPLY[@]}"'
    )

    def reply(words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script, "bash", words, str(len(words.split()))], env=settings(PATH=path),
            cwd=filled.folder, capture_output=True, text=True, timeout=patience(60), check=True,
        )  # fmt: skip
        return done.stdout.split()

    assert reply("sta") == ["stat", "state", "status"]
    assert "--prefix" in reply("tail --p")
    assert reply("completion z") == ["zsh"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    done = subprocess.run(
        [*COMMAND, "completion", shell], env=settings(), capture_output=True, text=True,
        timeout=patience(60), check=True,
    )  # fmt: skip
    assert f"_LIVINGAI_COMPLETE={shell}_complete" in done.stdout
    assert "livingai" in done.stdout


def test_bench_measures_and_leaves_nothing(state_dir: Place) -> None:
    with state_dir.service(), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("mine"), b"state").result(patience(60))
        done = subprocess.run(
            [*COMMAND, "bench", "--saves", "100", "--size", "5000", "--json"], env=settings(),
            cwd=state_dir.folder, capture_output=True, text=True, timeout=patience(120), check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert 0 < found["held_p50_ms"] <= found["held_p99_ms"]
        assert 0 < found["stored_p50_ms"] <= found["stored_p99_ms"]
        assert found["cpu_per_save_ms"] > 0
        assert found["stored_per_s"] > 0
        assert [info.execution_id for info in engine.executions_sync()] == ["mine"]


def test_bench_leaves_nothing_when_it_is_stopped(state_dir: Place) -> None:
    with state_dir.service() as service, state_dir.engine() as engine:
        process = subprocess.Popen(
            [*COMMAND, "bench", "--saves", "100000", "--every", "5"], env=settings(),
            cwd=state_dir.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        until(lambda: service.status().outcomes["met"] > 40, what="saves")
        process.send_signal(signal.SIGINT)
        assert ended(process) == 1, "it has nothing to say"
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        assert list(engine.executions_sync()) == []


def cpu_s(place: Place, *arguments: str) -> float:
    """User and system time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*COMMAND, *arguments], env=settings(), cwd=place.folder, stdout=subprocess.DEVNULL,
        timeout=patience(60), check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--limit", "20"]])
def test_a_command_starts_quickly(filled: Place, arguments: list[str]) -> None:
    """CPU time, the least of several."""
    if os.environ.get("COVERAGE_PROCESS_START") or os.environ.get("COVERAGE_PROCESS_CONFIG"):
        pytest.skip("what is measured for coverage takes longer")
    cpu_s(filled, *arguments)
    assert min(cpu_s(filled, *arguments) for _ in range(8)) <= START_S * TOLERANCE
