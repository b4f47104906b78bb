"""The stores that the tests of ADK run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.checking import judge
from tests.support.framework_places import KINDS, FrameworkPlace, place, store_url
from tests.support.place import Place
from tests.support.processes import TAG

__all__ = ["place"]


@pytest.fixture(scope="module", params=KINDS)
def shared_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """As ``place``, shared by the tests of a module, with a service that stays."""
    folder = tmp_path_factory.mktemp("shared")
    made = FrameworkPlace(folder, store_url(request.param, folder))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(TAG, made.tag)
        with made.service():
            yield made
        made.finish()
    judge(folder, set())
