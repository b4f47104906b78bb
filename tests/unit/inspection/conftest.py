"""A directory to be checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.directory_damage import Checked


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """It is healthy."""
    found = Checked(tmp_path)
    assert found.findings() == []
    return found
