"""Whole programs in the documentation: each is copied into an empty folder and run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agents import ROOT, environment
from tests.support.patience import patience
from tests.support.waiting import is_running, until

RECOVERED = "done: {'plan': ['win', 'celebrate'], 'ticket': 'ticket-1'}"


def program(document: str) -> str:
    """The one block of a document that imports what it needs and uses it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    found: list[str] = [
        block for block in blocks
        if block.startswith(("import", "from")) and "SQLiteStore(" in block
        and ("asyncio.run(" in block or "with CheckpointEngine" in block.split("def ")[-1])
        and "\nasync with" not in block
    ]  # fmt: skip
    (only,) = found
    return only


def run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines printed; nothing is said on standard error."""
    done = subprocess.run(
        [sys.executable, "agent.py", *arguments], cwd=folder, env=environment(HOME=str(folder)),
        capture_output=True, text=True, timeout=patience(90), check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def gone(folder: Path) -> None:
    """The service ends by itself."""
    pids = re.findall(r'"pid": (\d+)', (folder / "agent.db-livingai/service.lock").read_text())
    until(lambda: not any(is_running(int(pid)) for pid in pids), what="its end", timeout=30)


def test_recovery(folder: Path) -> None:
    (folder / "agent.py").write_text(program("docs/RECOVERY.md"))
    assert run(folder, "--die") == (-9, ["planning", "charging 5"])
    assert run(folder) == (0, [RECOVERED])
    assert " ".join(RECOVERED.split()) in " ".join((ROOT / "docs/RECOVERY.md").read_text().split())
    gone(folder)


def test_replay(folder: Path) -> None:
    (folder / "agent.py").write_text(program("docs/REPLAY.md"))
    code, lines = run(folder)
    assert code == 0
    assert lines[:2] == [
        "recorded: 1040", "corrected: 980 though the shop was not asked again",
    ]  # fmt: skip
    assert any("'1040' -> '980'" in line for line in lines)
    gone(folder)


def test_readme_durable_run(folder: Path) -> None:
    """The first example of all; run again, it serves what is recorded."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder / "agent.py").write_text(blocks[0])
    for _ in range(2):
        state = "{'plan': ['win', 'celebrate'], 'ticket': 'ticket for 5'}"
        assert run(folder) == (0, [state])
    gone(folder)


def test_readme(folder: Path) -> None:
    (folder / "agent.py").write_text(program("README.md"))
    code, lines = run(folder)
    assert (code, lines[-1].split()[-1]) == (0, "True")
    gone(folder)
