"""Fixtures of the tests with real processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.place import TAG, Place


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A database and its state directory, with nothing left behind at the end."""
    place = Place(tmp_path)
    monkeypatch.setenv(TAG, place.tag)
    yield place
    place.finish()


@pytest.fixture
def tries() -> int:
    """How often a test repeats what could go wrong by chance."""
    return int(os.environ.get("LIVINGAI_TRIES", "25"))
