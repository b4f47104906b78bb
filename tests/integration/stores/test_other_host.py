"""An execution moves between hosts that share nothing but the store: namespaces of their own for
network, process ids and boot. (``test_every_store`` does this with two state directories on any
machine.) The store is reached by a Unix socket, which is a file."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from livingai.node import NodeField
from livingai.stores.opening import open_store
from tests.support import acts
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import shared_server
from tests.support.sandbox import other_host
from tests.support.states import state_of

RUN = "run-1"


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def url(request: pytest.FixtureRequest) -> str:
    """An empty store behind a Unix socket; before the place, which counts what this process has."""
    name = f"t_{secrets.token_hex(6)}"
    if request.param == "redis":
        return f"unix://{shared_server().socket}?prefix={name}"
    return f"{shared_url()}&schema={name}"


def host(place: Place, url: str, name: str) -> Agent:
    """An agent on a host of that name, which dies with it."""
    boot = Path(place.folder, f"{name}.boot")
    return place.agent(
        database=url, directory=str(place.folder / name), prefix=other_host(boot), idle_s=60.0
    )


def test_take_over_and_death_of_a_host(url: str, state_dir: Place) -> None:
    first, second = host(state_dir, url, "first"), host(state_dir, url, "second")
    for step in range(3):
        first.call(acts.save, RUN, step)
    first.settled(3)
    assert second.call(acts.latest, RUN) == [{"step": 2}, state_of(RUN, 2)]
    pids = [agent.call(acts.service_pids) for agent in (first, second)]
    assert pids[0]["supervisor"] < 100 > pids[1]["supervisor"], "process ids of their own"
    assert second.call(acts.claim, RUN) == 2
    for step in range(3, 6):
        second.call(acts.save, RUN, step)
    assert second.settled(3).keys() <= {"met", "late"}
    first.call(acts.save, RUN, 100)
    assert first.call(acts.statuses)[-1] == "fenced"
    second.kill()  # and with it all processes of its host
    third = host(state_dir, url, "third")
    assert third.call(acts.latest, RUN) == [{"step": 5}, state_of(RUN, 5)]
    assert third.call(acts.claim, RUN) == 3
    third.call(acts.save, RUN, 6)
    assert third.settled(1).keys() <= {"met", "late"}
    first.call(acts.save, RUN, 101)
    assert first.call(acts.statuses)[-1] == "fenced"
    with open_store(url) as store:
        found = [
            (c.epoch, c.wire[NodeField.OUTPUT]["step"]) for c in store.checkpoints(RUN, blobs=False)
        ]
    assert found == [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (3, 6)]
