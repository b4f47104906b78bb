"""One process is stopped (SIGSTOP) while a successor on another host takes an execution over, and
goes on behind that: the store refuses what it still brings, and nobody else is held up."""

from __future__ import annotations

import pytest

from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.states import LARGE, state_of
from tests.support.waiting import frozen


def victims(place: Place, agent: Agent, role: str) -> list[int]:
    """Process ids of that role."""
    if role == "agent":
        return [agent.pid]
    if role == "compressors":
        return place.compressors()
    found = place.pids()[role]
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("role", ["agent", "supervisor", "dispatcher", "writers", "compressors"])
def test_it_wakes_up_behind_its_successor(state_dir: Place, role: str) -> None:
    here = state_dir.agent()
    for step in range(3):
        here.call(acts.save, "run-1", step, size=LARGE)
    here.settled(3)
    stopped = victims(state_dir, here, role)
    there = state_dir.agent(directory=str(state_dir.folder / "another host"))
    passed_on = role == "supervisor"  # which has no part in it
    with frozen(stopped):
        if role != "agent":
            for step in range(3, 6):
                here.call(acts.save, "run-1", step, size=LARGE)
        if passed_on:
            here.settled(6)
        there.call(acts.claim, "run-1")
        for step in range(6, 9):
            there.call(acts.save, "run-1", step, size=LARGE)
            there.call(acts.save, "other", step)
        assert there.settled(6).keys() <= {"met", "late"}
        assert there.call(acts.latest, "run-1") == [{"step": 8}, state_of("run-1", 8, LARGE)]
    here.call(acts.save, "run-1", 100, size=LARGE)
    statuses = here.call(acts.statuses)
    waited = statuses[3:-1]
    assert set(waited) <= ({"met", "late"} if passed_on else {"fenced"})
    assert len(waited) == (0 if role == "agent" else 3)
    assert statuses[-1] == "fenced"
    here.settled(len(statuses))
    stored = [0, 1, 2, *([3, 4, 5] if passed_on else []), 6, 7, 8]
    assert peek.stored_steps(state_dir.database, "run-1") == stored
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 8, LARGE)
    here.call(acts.save, "run-2", 0)  # it goes on with what is its own
    here.call(acts.flush)
    assert here.call(acts.statuses)[-1] in ("met", "late")
