"""The place of a campaign."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import TAG, tagged
from tests.support.waiting import until


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder; at the end no process of its service is left."""
    tag = secrets.token_hex(8)
    monkeypatch.setenv(TAG, tag)
    yield tmp_path
    until(lambda: not tagged(tag), what="the end of the service")
