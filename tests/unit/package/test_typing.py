"""Type checkers know what recorded calls take and give."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.agents import ROOT

TYPED = ROOT / "tests" / "typed"


def wrong_lines() -> set[int]:
    text = (TYPED / "bad.py").read_text().splitlines()
    return {number for number, line in enumerate(text, 1) if line.endswith("# wrong")}


@pytest.mark.timeout(600)
def test_mypy() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typed/good.py", "tests/typed/bad.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert [each for each in found if not each[0].endswith("bad.py")] == [], done.stderr
    assert {int(line) for _, line, _ in found} == wrong_lines(), done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_pyright() -> None:
    pytest.importorskip("pyright")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable,
         "tests/typed/good.py", "tests/typed/bad.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(r"(\w+)\.py:(\d+):\d+ - error: (.*)$", done.stdout, re.MULTILINE)
    assert [each for each in found if each[0] != "bad"] == []
    assert {int(line) for _, line, _ in found} == wrong_lines(), done.stdout + done.stderr
