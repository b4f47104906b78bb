"""``python -m bench.gate``: this tree against a commit of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.agents import ROOT
from tests.support.patience import patience

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gate", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=patience(220), check=False
    )


@pytest.mark.timeout(240)
def test_slower_than_it_may_be() -> None:
    """A ratio near 1 is far above this limit."""
    one = ("--against", "HEAD", "--tier", "single", "--pairs", "1", "--quick", "--limit", "0.01")
    done = gate(*one)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "single: more than 0.01 times the baseline's CPU" in done.stdout
    for role in ("agents", "dispatcher", "writers", "all"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"│ {role} ")]
        before, now = (float(part) for part in line.split("│")[2:4])
        assert before > 0
        assert now > 0


def test_a_commit_that_is_not_there() -> None:
    done = gate("--against", "0" * 40)
    assert done.returncode == 2
    assert "cannot be had here" in done.stderr
    assert "--against" in done.stderr
