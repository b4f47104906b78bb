"""A database file, and a store on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.stores.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database file is; no test has made it yet."""
    return tmp_path / "agent.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    """An open store on ``path``; a write waits 100 ms for a lock that another connection holds."""
    with SQLiteStore(path, busy_timeout_ms=100) as store:
        yield store
