"""Stores for the tests with the OpenAI Agents SDK."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stores.conftest import URLS
from tests.support.checking import judge
from tests.support.place import Place
from tests.support.processes import TAG

STORES = [
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


def _place(kind: str, folder: Path) -> Place:
    url = URLS[kind](f"t_{secrets.token_hex(6)}", folder)  # first: the place counts what is there
    return Place(folder, url)


@pytest.fixture(scope="module", params=STORES)
def shared_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A store of each kind with a service that stays, for tests with sessions of their own."""
    place = _place(request.param, tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(TAG, place.tag)
        with place.service():
            yield place
        place.finish()
    judge(place.folder, set())


@pytest.fixture(params=STORES)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A store of each kind, for the test alone, with nothing left behind at the end."""
    place = _place(request.param, tmp_path)
    monkeypatch.setenv(TAG, place.tag)
    yield place
    place.finish()
