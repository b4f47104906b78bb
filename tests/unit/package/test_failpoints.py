"""The table of failpoints, how they are armed, and that the kill matrix leaves none out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from livingai import failpoint
from livingai.failpoint import KINDS, NAMES
from tests.support.agents import ROOT, environment
from tests.support.kill_matrix import IO, ONCE, cells
from tests.support.patience import patience
from tests.support.thread_kills import POINTS


def in_code() -> Counter[str]:
    """The names that the code hits, and how often each is written there."""
    found: Counter[str] = Counter()
    for folder in ("livingai", "queue", "stores", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                    assert isinstance(node.args[0], ast.Constant), path
                    found[str(node.args[0].value)] += 1
    return found


def test_the_table_and_the_code_name_the_same_places() -> None:
    assert in_code().keys() == NAMES.keys()


def test_every_failpoint_has_its_cells() -> None:
    walked = {(cell.name, cell.kind) for cell in cells() if cell.action == "kill"}
    of_threads = {(name, "agent") for points in POINTS.values() for name, _ in points}
    assert walked | of_threads == {(name, kind) for name, kinds in NAMES.items() for kind in kinds}
    assert all(kinds and set(kinds) <= set(KINDS) for kinds in NAMES.values())
    assert NAMES.keys() >= ONCE | set(IO)


def _python(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from livingai.failpoint import *\n{program}"],
        env=environment(**env), capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip


def test_nothing_is_armed_without_the_flag_of_tests() -> None:
    armed = {"LIVINGAI_FAILPOINTS": "intake.after_read=kill*1", "LIVINGAI_TESTING": "0"}
    told = _python("failpoint('intake.after_read')", **armed)
    assert (told.returncode, "is ignored" in told.stderr) == (0, True)


def test_what_is_armed_says_so_and_kills() -> None:
    told = _python("failpoint('intake.after_read')", LIVINGAI_FAILPOINTS="intake.after_read=kill*1")
    assert (told.returncode, "FAILPOINTS ARE ARMED" in told.stderr) == (-9, True)


def test_a_token_is_taken_once(tmp_path: Path) -> None:
    armed = {
        "LIVINGAI_FAILPOINTS": "intake.after_read@agent=kill*2",
        "LIVINGAI_FAILPOINT_TOKENS": str(tmp_path),
    }
    twice = "failpoint('intake.after_read')\n" * 2
    other = f"enter_process('writer')\n{twice}"
    assert _python(other, **armed).returncode == 0
    assert os.listdir(tmp_path) == []
    assert [_python(twice, **armed).returncode for _ in range(2)] == [-9, 0]
    assert (tmp_path / "intake.after_read").read_text().startswith("agent ")


def test_what_is_not_in_the_table_is_refused() -> None:
    for wrong in ("nowhere=kill", "intake.after_read@nobody=kill", "intake.after_read=explode"):
        with pytest.raises(ValueError, match=r"no failpoint|no process|none of"):
            failpoint.arm(wrong)
    failpoint.failpoint("nowhere")
    failpoint.arm("intake.after_read=error")
    try:
        with pytest.raises(LookupError, match="nowhere"):
            failpoint.failpoint("nowhere")
        with pytest.raises(OSError, match="intake"):
            failpoint.failpoint("intake.after_read")
    finally:
        failpoint.arm("")
