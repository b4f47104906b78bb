"""Copies of livingai itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.agents import ROOT


def copied_package(to: Path) -> Path:
    """A copy of livingai of another version, in a folder of its own."""
    shutil.copytree(ROOT / "livingai", to / "livingai", ignore=shutil.ignore_patterns("__pyc*"))
    version = to / "livingai" / "_version.py"
    version.write_text(version.read_text().replace('"0.', '"9.'))
    return to
