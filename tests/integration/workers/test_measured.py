"""``make coverage`` knows what each process of the service has run, a killed compressor too."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import coverage

from tests.support.agents import ROOT, environment
from tests.support.place import Place
from tests.support.waiting import ended, until

_SAVE = """
import sys
from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from tests.support.states import LARGE, state_of
with CheckpointEngine(SQLiteStore({database!r}), idle_s=0.2, compressors=1) as engine:
    for line in sys.stdin:
        engine.save_sync(ExecutionNode("run-1"), state_of("run-1", 0, LARGE))
        engine.flush_sync()
        print("saved", flush=True)
"""
_ENCODER = "workers/compressor.py"
_OTHERS = ("supervisor.py", "dispatcher/dispatcher.py", "dispatcher/compressor_pool.py",
           "store/writer.py")  # fmt: skip


def line_of(path: str, text: str) -> int:
    """The number of the one line that holds a text."""
    (number,) = (n for n, line in enumerate((ROOT / path).read_text().splitlines(), 1)
                 if text in line)  # fmt: skip
    return number


def lines_run(folder: Path, path: str) -> set[int]:
    """The lines of a module that some process has run."""
    found: set[int] = set()
    for file in folder.glob("data.*"):
        data = coverage.CoverageData(str(file))
        with suppress(coverage.CoverageException):  # it is just being written
            data.read()
            found |= set(data.lines(str(ROOT / path)) or ())
        data.close()
    return found


def test_each_kind_of_process_is_measured(state_dir: Place) -> None:
    folder = state_dir.folder / "measured"
    folder.mkdir()
    script = state_dir.folder / "save.py"
    script.write_text(_SAVE.format(database=str(state_dir.database)))
    own = environment(COVERAGE_FILE=str(folder / "data"))
    own.pop("COVERAGE_PROCESS_CONFIG", None)  # of a run that is measured itself
    with (
        open(state_dir.folder / "agent-0.log", "wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "coverage", "run", "--rcfile", ROOT / "pyproject.toml", script],
            cwd=ROOT, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        ) as agent,
    ):  # fmt: skip
        assert agent.stdin is not None
        assert agent.stdout is not None
        encoded = line_of(_ENCODER, "encoded.blob,")

        def a_compressor_has_encoded() -> bool:
            assert agent.stdin is not None
            assert agent.stdout is not None
            os.write(agent.stdin.fileno(), b"\n")
            assert agent.stdout.readline() == b"saved\n"
            return encoded in lines_run(folder, _ENCODER)

        until(a_compressor_has_encoded, what="a compressor that says what it has run", timeout=60)
        agent.stdin.close()
        assert ended(agent) == 0
    state_dir.empty()
    for name in _OTHERS:
        assert len(lines_run(folder, f"workers/{name}")) > 50, name
