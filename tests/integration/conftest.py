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


@pytest.fixture(scope="module")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """As ``state_dir``, shared by the tests of a module: only for tests that must not change it."""
    place = Place(tmp_path_factory.mktemp("shared"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(TAG, place.tag)
        yield place
        place.finish()


@pytest.fixture
def tries() -> int:
    """How often a test repeats what could go wrong by chance."""
    return int(os.environ.get("LIVINGAI_TRIES", "25"))
