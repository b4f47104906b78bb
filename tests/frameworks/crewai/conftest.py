"""The stores that CrewAI's tests run on."""

from pathlib import Path

import pytest

from tests.support.framework_places import file_place, place

__all__ = ["file_place", "place"]


@pytest.fixture(autouse=True)
def no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CrewAI makes a folder for each program in the user's data folder; here in the test's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
