"""Places for the tests of frameworks: on SQLite, and on servers where they can be started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from livingai import CheckpointEngine
from livingai.errors import ConfigurationError
from tests.support.agents import Agent
from tests.support.place import Place, _descriptors
from tests.support.postgres_servers import shared_url
from tests.support.processes import TAG
from tests.support.redis_servers import prefix_for, shared_server

#: Importing a framework warns, in these processes, too, and what is warned of is in their logs.
QUIET = {"PYTHONWARNINGS": "ignore"}

KINDS = (
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
)


class FrameworkPlace(Place):
    """A place of a test whose process runs a framework. Those keep event loops and connections for
    the life of the process, so of its descriptors only those count that lead into the place."""

    def engine(self, **settings: Any) -> CheckpointEngine:
        """An engine in the test's own process, on the state directory of the other ones."""
        return super().engine(**{"directory": self.directory.path, **settings})

    def _check_own_process(self) -> None:
        inside = str(self.folder)
        foreign = {fd: what for fd, what in _descriptors().items() if inside not in what}
        self._descriptors.update(foreign)
        super()._check_own_process()


def store_url(kind: str, folder: Path) -> str:
    """The URL of a store of that kind for a folder; empty: a file in it."""
    name = prefix_for(folder)
    match kind:
        case "redis":
            return f"{shared_server().url}?prefix={name}"
        case "postgres":
            url = shared_url()
            return f"{url}{'&' if '?' in url else '?'}schema={name.replace('-', '_')}"
        case _:
            return ""


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A store of each kind with a state directory, and nothing left behind at the end."""
    made = FrameworkPlace(tmp_path, store_url(request.param, tmp_path))
    monkeypatch.setenv(TAG, made.tag)
    yield made
    made.finish()


def refuses_odd_places(
    make: Callable[..., object],
    engine: CheckpointEngine,
    odd_engines: Sequence[object] = ("agent.db", None, 7),
) -> None:
    """See that a class of an adapter takes an engine, and a level of durability, and nothing else
    in their places. ``make`` gets the engine and the keyword ``durability``."""
    for odd in odd_engines:
        with pytest.raises(ConfigurationError, match="engine must be a CheckpointEngine"):
            make(odd)
    for level in ("fsync", 1):
        with pytest.raises(ConfigurationError, match=r"durability must be a .*Durability"):
            make(engine, durability=level)


def other_process(place: Place, **settings: Any) -> Agent:
    """Another process of the place, which may import frameworks."""
    return place.agent(env=QUIET, **settings)


@pytest.fixture
def file_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """As ``place``, on SQLite alone: for tests of what does not depend on the store."""
    made = FrameworkPlace(tmp_path)
    monkeypatch.setenv(TAG, made.tag)
    yield made
    made.finish()
