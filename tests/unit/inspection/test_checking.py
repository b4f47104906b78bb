"""What each integration test is judged by at its end, and that a marker too many is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checking import UNREADABLE, judge
from tests.support.directory_damage import STORED, Checked


def test_what_a_test_has_left_is_judged(tmp_path: Path) -> None:
    checked = Checked(tmp_path / "deep" / "down")
    judge(tmp_path, set())
    with pytest.raises(AssertionError, match=r"not found.*record-missing"):
        judge(tmp_path, {"record-missing"})
    checked.damage(STORED + 3)
    with pytest.raises(AssertionError, match=rf"finds damage:\n.*record {STORED + 3} is damaged"):
        judge(tmp_path, set())
    judge(tmp_path, {"record-missing"})
    with pytest.raises(AssertionError, match="no finding has such a code"):
        judge(tmp_path, {"record-mising"})
    checked.path("manifest.json").write_text("no json")
    judge(tmp_path, {UNREADABLE})
