"""Pairs of stores to copy between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livingai.stores.base import Store
from tests.support.copies import KINDS, make_store


@pytest.fixture(params=KINDS)
def source(request: Any, tmp_path: Path) -> Iterator[Store]:
    with make_store(request.param, tmp_path, "source") as store:
        yield store


@pytest.fixture(params=KINDS)
def target(request: Any, tmp_path: Path) -> Iterator[Store]:
    with make_store(request.param, tmp_path, "target") as store:
        yield store
