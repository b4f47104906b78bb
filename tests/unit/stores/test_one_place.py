"""What several stores need is written in one file: it cannot come to differ."""

from __future__ import annotations

import re

import pytest

from tests.support.agents import ROOT


@pytest.mark.parametrize(
    ("words", "home"),
    [
        (r'environ\S*"XDG_STATE_HOME"', "livingai/places.py"),
        ("this write has", "stores/shared/refusals.py"),
        ("its base is not stored", "stores/shared/refusals.py"),
        (r"\w >> 32\b", "queue/layout.py"),
        (r"016x\}-\{\S*claim:x", "queue/layout.py"),
    ],
)
def test_is_written_in_one_file(words: str, home: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("livingai", "queue", "stores", "workers")
        for path in (ROOT / folder).rglob("*.py")
        if not {"queue", "stores", "workers"} & set(path.relative_to(ROOT).parts[1:2])
        and re.search(words, path.read_text())
    }
    assert found == {home}
