"""What agents rely on, on every store: durable runs resumed after SIGKILL, and two hosts of which
one was paused. A host is a state directory: two share nothing but the store."""

from __future__ import annotations

import time

import pytest

from livingai.errors import InDoubtError
from livingai.node import NodeField
from livingai.stores.opening import open_store
from livingai.stores.retention import Retention, prune
from tests.support import acts, programs
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen

RUN = "run-1"
ONCE = {f"tool {number}": 1 for number in range(programs.TOOLS)}


def host(place: Place, url: str, name: str) -> Agent:
    """An agent on a host of that name."""
    return place.agent(database=url, directory=str(place.folder / name))


def stands(place: Place, url: str, name: str) -> tuple[str, str]:
    """Status and error of the run, once all that was recorded is stored."""
    host(place, url, name).call(acts.drain)
    with open_store(url) as store:
        (info,) = store.list_executions()
    assert info.is_run
    assert (info.ended_at is None) == (info.status == "running")
    return info.status, info.error


def test_a_run_that_was_killed_is_resumed(url: str, state_dir: Place) -> None:
    """First where it ran, by the journal; then on a host that has only the store."""
    file = str(state_dir.folder / "world")
    host(state_dir, url, "here").send(programs.perform, RUN, file, "behind tool 1")
    assert state_dir.agents[0].died(60) == -9
    assert stands(state_dir, url, "here") == ("running", ""), "not what its last tool says"
    with open_store(url) as store:
        finished = Retention(expire_s=0.001, statuses=("success", "failed"))
        assert prune(store, finished, now=time.time() + 9).executions == 0
    host(state_dir, url, "here").send(programs.perform, RUN, file, "tool after effect 2")
    assert state_dir.agents[-1].died(60) == -9
    successor = host(state_dir, url, "here")
    with pytest.raises(InDoubtError, match="charge"):
        successor.call(programs.perform, RUN, file)
    status, error = stands(state_dir, url, "here")
    assert status == "failed"
    assert error.startswith(f"InDoubtError: run {RUN!r}: these tools were about to be called")
    assert successor.call(acts.look_in, RUN) == ["charge"]
    assert stands(state_dir, url, "here") == (status, error), "to look in changes nothing"
    assert successor.call(programs.perform, RUN, file, resolve=True) == programs.FINAL
    assert stands(state_dir, url, "here") == ("success", "")
    successor.call(acts.flush)
    before = programs.effects(file)
    assert {what: before[what] for what in ONCE} == ONCE
    elsewhere = host(state_dir, url, "elsewhere")
    assert elsewhere.call(programs.perform, RUN, file) == programs.FINAL
    assert programs.effects(file) == before, "a finished run did something again"


def test_a_run_is_resumed_on_a_host_that_has_only_the_store(url: str, state_dir: Place) -> None:
    file = str(state_dir.folder / "world")
    host(state_dir, url, "here").send(programs.perform, RUN, file, "behind checkpoint 1")
    assert state_dir.agents[0].died(60) == -9
    state_dir.empty(30)  # the service takes the dead one's journal over, stores it, and goes
    elsewhere = host(state_dir, url, "elsewhere")
    assert elsewhere.call(programs.perform, RUN, file, resolve=True) == programs.FINAL
    effects = programs.effects(file)
    assert {what: effects[what] for what in ONCE} == ONCE


def test_the_host_that_was_paused_is_fenced(url: str, state_dir: Place) -> None:
    """Agent and service are stopped, with writes on the way, and wake up behind their successor."""
    stale = host(state_dir, url, "stale")
    for step in range(3):
        stale.call(acts.save, RUN, step)
    stale.settled(3)
    services = state_dir.service_processes()
    with frozen(services):
        for step in range(100, 110):
            stale.call(acts.save, RUN, step)  # accepted: they lie in the journal
        stale.stop()
        fresh = host(state_dir, url, "fresh")
        assert fresh.call(acts.latest, RUN) == [{"step": 2}, state_of(RUN, 2)]
        assert fresh.call(acts.claim, RUN) == 2
        for step in range(3, 6):
            fresh.call(acts.save, RUN, step)
        assert fresh.settled(3).keys() <= {"met", "late"}
    stale.resume()
    assert stale.settled(13)["fenced"] == 10
    stale.call(acts.save, RUN, 110)
    assert stale.settled(14)["fenced"] == 11
    for agent in (stale, fresh):
        assert agent.call(acts.steps, RUN) == list(range(6))
    with open_store(url) as store:
        versions = [
            (c.epoch, c.wire[NodeField.OUTPUT]["step"]) for c in store.checkpoints(RUN, blobs=False)
        ]
        assert versions == [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4), (2, 5)]
        owners = store.owners(RUN)
        assert [epoch for epoch, _ in owners] == [1, 2]
