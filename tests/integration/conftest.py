"""Fixtures of the tests with real processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checking import judge
from tests.support.place import Place
from tests.support.processes import TAG


@pytest.fixture(autouse=True)
def checked_at_the_end(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Once the test's processes have ended, `livingai check` looks at each state directory that it
    has left, with its database; ``@pytest.mark.damaged(...)`` names what may be found."""
    yield
    marks = request.node.iter_markers("damaged")
    judge(tmp_path, {str(code) for mark in marks for code in mark.args})


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
    judge(place.folder, set())


@pytest.fixture(scope="module")
def served_dir(shared_dir: Place) -> Iterator[Place]:
    """A shared place with a service that stays."""
    with shared_dir.service():
        yield shared_dir


@pytest.fixture
def served(served_dir: Place, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place whose service is up and is shared by the tests of a module, for tests that leave it
    in peace. Each has its own agents and its own ``run``."""
    served_dir.run = request.node.name
    served_dir.mark()
    yield served_dir
    served_dir.end_agents()


@pytest.fixture
def tries() -> int:
    """How often a test repeats what could go wrong by chance."""
    return int(os.environ.get("LIVINGAI_TRIES", "25"))
