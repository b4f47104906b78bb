"""The examples: each runs in an empty folder, without key or network, and shows what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agents import ROOT, environment
from tests.support.patience import patience
from tests.support.waiting import is_running, until

EXAMPLES = ROOT / "examples"

#: What each example has to print, in order.
SHOWN = {
    "crash_recovery.py": [
        "first life", "resumed=False", "researching Lisbon", "researching Oslo", "killed",
        "exit code -9", "second life", "resumed=True", "found 2 notes",
        "researching Rome", "researching Quito",
        "done: 4 notes, the first is 'Lisbon is worth a visit'", "exit code 0",
        "shown: killed once, and each of 4 cities was researched once",
    ],
    "card_not_charged_twice.py": [
        "the card is charged 42", "killed by signal 9", "InDoubtError: 1 call in doubt",
        "the provider says: it was charged", "receipt for order",
        "shown: killed once, started three times, charged 1 time",
    ],
    "mock_tools_debugging.py": [
        "searching flights", "booking LA 101", "no tool is called", "same: True",
        "no tool is called", "changed prompt choose (run)", "'LA 101' -> 'LA 205'",
        "changed tool   book (served)", "input.args[0]: 'LA 101' -> 'LA 205'",
        "shown: the corrected agent would have booked LA 205",
    ],
    "counterfactual.py": [
        "asking for the weather", "looking for a hotel", "-> museum by day",
        "and if the sun had shone?", "thinking about the day", "writing the plan",
        "-> boat trip by day, Hotel Aurora by night", "weather (replaced)",
        "shown: one result replaced, plan_day and write_plan thought over, no tool called",
    ],
    "cost_tracking.py": [
        "by execution:", "/long", "280 tokens", "/short", "122 tokens", "by name:", "answer",
        "by day:", "402 tokens",
        "shown: the replay ran 1 of 4 calls again: 142 tokens instead of 280",
    ],
}  # fmt: skip
#: What must be printed once, for it is done once.
ONCE = {
    "crash_recovery.py": ["researching Lisbon"],
    "card_not_charged_twice.py": ["the card is charged"],
    "mock_tools_debugging.py": ["searching flights", "booking"],
    "counterfactual.py": ["asking for the weather", "looking for a hotel"],
}


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_example(name: str, tmp_path: Path) -> None:
    source = (EXAMPLES / name).read_text()
    assert len(source.splitlines()) < 80
    assert f"python examples/{name}" in source
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=folder, env=environment(HOME=str(tmp_path)),
        capture_output=True, text=True, timeout=patience(90), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    at = 0
    for shown in SHOWN[name]:
        found = done.stdout.find(shown, at)
        assert found >= 0, f"{shown!r} is not there, or not in its place, in\n{done.stdout}"
        at = found + len(shown)
    for once in ONCE.get(name, ()):
        assert done.stdout.count(once) == 1
    _goes_away(folder)


def _goes_away(folder: Path) -> None:
    """The service ends by itself once no agent needs it."""
    pids = [
        int(pid)
        for log in folder.glob("*-livingai/service.lock")
        for pid in re.findall(r'"pid": (\d+)', log.read_text())
    ]
    until(lambda: not any(map(is_running, pids)), what="end of the service", timeout=30)
