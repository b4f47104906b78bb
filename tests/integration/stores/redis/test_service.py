"""What one Redis server does to single executions, or to all data, under a service that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.errors import StoreUnavailableError
from livingai.node import NodeField
from livingai.stores.base import IDENTITY
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import Keys
from tests.support import acts
from tests.support.agents import Agent
from tests.support.journals import state_directory
from tests.support.place import Place
from tests.support.redis_servers import RedisServer, prefix_for
from tests.support.roles import Asked
from tests.support.states import state_of
from tests.support.waiting import frozen

pytestmark = pytest.mark.redis


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """One that has to lose its data; before the place, which counts what this process has."""
    with RedisServer() as server:
        yield server


def agent_on(place: Place, url: str) -> Agent:
    return place.agent(database=url, directory=str(place.folder / "here"))


def stored_steps(url: str, execution: str) -> list[int]:
    """The steps that the server has."""
    with RedisStore(url) as store:
        return [node.wire[NodeField.OUTPUT]["step"] for node in store.nodes(execution)]


@pytest.mark.parametrize(("size", "kept"), [(5_000, 4), (100_000, 0)])
def test_everything_flushed(
    own_server: RedisServer, state_dir: Place, size: int, kept: int
) -> None:
    """FLUSHALL: what it took is gone; what waited then, and what is saved from then on, is stored,
    and claims count as before. ``kept``: so many steps waited."""
    agents = {name: agent_on(state_dir, own_server.url) for name in ("run-1", "run-2")}
    for name, agent in agents.items():
        for step in range(4):
            agent.call(acts.save, name, step, size=size)
        agent.settled(4)
    with frozen(state_dir.service_processes()):
        for name, agent in agents.items():
            for step in range(4, 4 + kept):
                agent.call(acts.save, name, step, size=size)
        own_server.client().flushall()
    for name, agent in agents.items():
        for step in range(8, 12):
            agent.call(acts.save, name, step, size=size)
        assert agent.settled(8 + kept).keys() <= {"met", "late"}
    for name in agents:
        assert stored_steps(own_server.url, name) == [*range(4, 4 + kept), 8, 9, 10, 11]
        for agent in agents.values():
            assert agent.call(acts.latest, name) == [{"step": 11}, state_of(name, 11, size)]
    first, second = agents.values()
    second.call(acts.claim, "run-1")
    second.call(acts.save, "run-1", 12, size=size)
    second.call(acts.flush)
    first.call(acts.save, "run-1", 100, size=size)
    assert first.call(acts.statuses)[-1] == "fenced"
    assert stored_steps(own_server.url, "run-1")[-1] == 12


def test_a_command_fails_in_the_midst_of_a_pipeline(
    server: RedisServer, state_dir: Place, tmp_path: Path
) -> None:
    """Another program has a key of one execution: that one is set aside, the others are stored."""
    prefix = prefix_for(tmp_path)
    url = f"{server.url}?prefix={prefix}"
    server.client().set(Keys(prefix).of("run-2").run, "another program's")
    agent = agent_on(state_dir, url)
    agent.call(acts.save, "warm up")
    agent.settled(1)
    runs = ["run-1", "run-2", "run-3"]
    with frozen(state_dir.service_processes()):  # so that they come in one batch
        for step in range(3):
            for name in runs:
                agent.call(acts.save, name, step)
    statuses = agent.call(acts.statuses)[1:]
    assert {statuses[n] for n in range(9) if n % 3 == 1} == {"quarantined"}
    assert {statuses[n] for n in range(9) if n % 3 != 1} <= {"met", "late"}
    assert any("WRONGTYPE" in reason for reason in agent.call(acts.outcomes)["reasons"])
    for name in ("run-1", "run-3"):
        assert stored_steps(url, name) == [0, 1, 2]
    server.client().delete(Keys(prefix).of("run-2").run)
    agent.call(acts.claim, "run-2")
    agent.call(acts.save, "run-2", 3)
    agent.call(acts.flush)
    assert agent.call(acts.statuses)[-1] in ("met", "late")


def test_a_server_that_comes_back_without_its_data(own_server: RedisServer, tmp_path: Path) -> None:
    """It is another database then, which gets an identity of its own as soon as it is used; else
    the directory would be refused for it, the next time that a service begins."""
    directory = state_directory(tmp_path / "here")
    store = RedisStore(own_server.url, timeout_s=2, wait_timeout_ms=500)
    role = Asked(store, directory)
    role.handle("open", [])
    before = directory.manifest()[IDENTITY]
    own_server.kill()
    with pytest.raises(StoreUnavailableError):
        role.handle("marks", [])
    own_server.start()
    role.handle("marks", [])
    now = directory.manifest()[IDENTITY]
    assert now != before
    role.close()
    with RedisStore(own_server.url) as store:
        assert (store.marks() or {})[IDENTITY] == now
