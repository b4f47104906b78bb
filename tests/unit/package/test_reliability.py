"""docs/RELIABILITY.md names tests that exist."""

from __future__ import annotations

import re

from tests.support.agents import ROOT


def test_all_tests_that_are_named_exist() -> None:
    text = (ROOT / "docs/RELIABILITY.md").read_text()
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) > 20
    missing = [path for path in sorted(named) if not (ROOT / path).exists()]
    assert not missing


def test_all_targets_that_are_named_exist() -> None:
    text = (ROOT / "docs/RELIABILITY.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", text))
    assert named
    assert named <= targets
