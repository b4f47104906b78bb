"""The engine that records a program, and replays it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from livingai import CheckpointEngine
from tests.support.place import Place


@pytest.fixture
def engine(state_dir: Place) -> Iterator[CheckpointEngine]:
    """An engine in the test's own process, with a service of its own."""
    with state_dir.engine() as engine:
        yield engine
