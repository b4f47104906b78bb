"""One engine for the tests of a module; each test has runs of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from livingai import CheckpointEngine
from tests.support.runs import engine_in


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointEngine]:
    """An engine on a database of its own."""
    yield from engine_in(tmp_path_factory.mktemp("runs"))
