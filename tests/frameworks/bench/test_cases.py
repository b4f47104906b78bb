"""Each case of ``make bench-frameworks`` can be measured, with the real frameworks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.frameworks.__main__ import _installed
from bench.frameworks.cases import CASES, OURS, Case
from bench.frameworks.measure import run_case
from bench.frameworks.side import Side, SideError


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.framework}, {case.name}")
def test_a_case_is_measured(case: Case, tmp_path: Path) -> None:
    if not _installed(case):
        pytest.skip(f"{case.distribution} is not installed here")
    if "SQLAlchemySession" in case.others or "DatabaseSessionService" in case.others:
        pytest.importorskip("sqlalchemy")
    if case.name == "copy":
        pytest.skip("it prepares 10,000 checkpoints")
    short = dataclasses.replace(case, steps=8, turn=3, warm_up=2)
    run = run_case(short, str(tmp_path), backwards=True)
    assert list(run) == [OURS, *case.others]
    for name, figures in run.items():
        assert figures["held_p50_us"] > 0
        assert figures["cpu_us"] > 0
        assert bool(figures["stored_bytes"]) != name.startswith("InMemory")
    assert list(tmp_path.iterdir()) == []


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    pytest.importorskip("langgraph.checkpoint.sqlite")
    case = dataclasses.replace(CASES[0], name="nothing")
    with pytest.raises(SideError, match="KeyError"):
        Side(case, "AsyncSqliteSaver", tmp_path)
