"""The demo as a user runs it: what it prints, how it ends, and that it leaves nothing."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from livingai.demo.generator import make_run
from tests.support.patience import patience
from tests.support.waiting import kill, until

#: Every process of a demo carries this in its environment.
_TAG = "LIVINGAI_TEST_DEMO"


class Demo:
    """Demos of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.runs = folder / "runs.jsonl"
        lines = [json.dumps({"messages": make_run(seed, 12)}) for seed in range(5)]
        self.runs.write_text("\n".join(lines) + "\n")
        self._tag = secrets.token_hex(8)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start it in a process group of its own, as a shell does."""
        command = [sys.executable, "-u", "-m", "livingai.demo", *options]
        environment = {**os.environ, _TAG: self._tag, "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            [*command, "--agents", "8", "--processes", "3", "--runs", str(self.runs)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            cwd=self.folder, env=environment, process_group=0,
        )  # fmt: skip

    def processes(self) -> list[int]:
        """Process ids of what runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_TAG) == self._tag and process.is_running():
                    found.append(process.pid)
        return found

    def nothing_left(self) -> None:
        """No process, no temporary file."""
        assert self.processes() == []
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Demos; whatever a failed test leaves is killed."""
    demo = Demo(tmp_path)
    yield demo
    kill(*demo.processes())
    until(lambda: not demo.processes(), what="no process left")


def _read_until(output: IO[str], text: str) -> str:
    """The lines up to the one that has ``text``."""
    lines = []
    for line in output:
        lines.append(line)
        if text in line:
            return "".join(lines)
    pytest.fail(f"never said {text!r}, but: {''.join(lines)}")


def test_two_demos_in_one_place_lose_nothing(demo: Demo) -> None:
    place = str(demo.folder / "place")
    for _ in range(2):
        with demo.start("--seconds", "2", "--directory", place) as process:
            output, _ = process.communicate(timeout=patience(60))
        assert process.returncode == 0, output
        assert output.count("8 of 8 with equal bytes") == 2
        assert output.count("SIGKILL:") == 3
        assert "Nothing was lost." in output
        demo.nothing_left()
    assert (demo.folder / "place" / "demo.db").exists()


@pytest.mark.parametrize("moment", ["8 agents", "states saved", "a successor takes"])
def test_ctrl_c_ends_everything(demo: Demo, moment: str) -> None:
    with demo.start("--seconds", "6") as process:
        assert process.stdout is not None
        before = _read_until(process.stdout, moment)
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals the whole group
        output = before + process.communicate(timeout=patience(30))[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert output.endswith("stopped\n")
    demo.nothing_left()


def test_sigterm_ends_everything(demo: Demo) -> None:
    with demo.start("--seconds", "6") as process:
        assert process.stdout is not None
        _read_until(process.stdout, "states saved")
        process.terminate()
        output, _ = process.communicate(timeout=patience(30))
    assert process.returncode == 143, output
    assert "Traceback" not in output
    demo.nothing_left()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "has no runs"),
        ('{"messages": [{"role": "user", "content": "hi"}]}\n{"messages": 3}', "line 2"),
        ("not json", "line 1 is not JSON"),
    ],
)
def test_a_file_without_runs_is_reported_in_a_sentence(
    demo: Demo, content: str, complaint: str
) -> None:
    demo.runs.write_text(content)
    with demo.start() as process:
        output, _ = process.communicate(timeout=patience(30))
    assert process.returncode == 1
    assert complaint in " ".join(output.split())
    assert "Traceback" not in output
    demo.nothing_left()


def test_odd_runs_are_saved_as_they_are(demo: Demo) -> None:
    odd = [
        {"role": "user", "content": "half a pair: \ud83d"},
        {"content": None, "cost": float("nan"), "big": 2**80},
        {"role": "tool", "tool_call_id": "unknown", "content": [{"type": "text", "text": "x"}]},
        {"role": 7, "tool_calls": [{"id": 1}, "call"]},
    ]
    demo.runs.write_text(json.dumps({"messages": odd}))
    with demo.start("--seconds", "2") as process:
        output, _ = process.communicate(timeout=patience(60))
    assert process.returncode == 0, output
