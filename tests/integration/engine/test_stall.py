"""SIGSTOP of the writer, or of the whole service, while agents go on saving.

A save waits for no other process, so the stall does not hold it. How long the stall lasts is
counted in paced saves, not on a clock: 10 ms apart, so 150 of them are at least 1.5 s.
"""

from __future__ import annotations

import pytest

from tests.support import acts, peek
from tests.support.place import Place
from tests.support.states import LARGE, state_of
from tests.support.waiting import frozen

#: Of a save in the middle: one that waits for a stopped process waits for seconds, and load holds
#: some saves, but not half of them. The tier ``outage`` of the benchmark has the real figures.
HELD_MS = 250.0


def stall(place: Place, roles: str, saves: int, agents: int = 2) -> None:
    """Agents save ``saves`` times each while processes are stopped."""
    crew = [place.agent(budget_ms=200.0) for _ in range(agents)]
    for number, agent in enumerate(crew):
        agent.call(acts.start, [f"run-{number}"], size=10_000, interval_s=0.01)
        agent.call(acts.saved, 20)
    stopped = place.pids()["writers"] if roles == "writer" else place.service_processes()
    with frozen(stopped):
        for agent in crew:
            agent.call(acts.saved, 5)  # outcomes that had left the writer before have arrived
        known = [agent.call(acts.outcomes, 0)["known"] for agent in crew]
        for agent in crew:
            agent.send(acts.saved, saves, timeout=60.0)
        waiting = [agent.receive() for agent in crew]
        assert [agent.call(acts.outcomes, 0)["known"] for agent in crew] == known
        for number, agent in enumerate(crew):
            output, state = agent.call(acts.latest, f"run-{number}")
            assert state == state_of(f"run-{number}", output["step"], 10_000)
            assert agent.call(acts.sla)["pending"] >= waiting[number] - known[number]
    for number, agent in enumerate(crew):
        halted = agent.call(acts.halt)
        statuses = agent.settled(halted["rounds"])
        assert statuses.keys() <= {"met", "late"}
        assert statuses["late"] >= saves / 2, "the stall was no stall"
        assert halted["held_ms"] < HELD_MS
        execution = f"run-{number}"
        assert peek.stored_steps(place.database, execution) == list(range(halted["rounds"]))
        last = state_of(execution, halted["rounds"] - 1, 10_000)
        assert peek.stored_state(place.database, execution) == last


@pytest.mark.parametrize("roles", ["writer", "everyone"])
def test_saves_go_on_while_the_service_is_stopped(state_dir: Place, roles: str) -> None:
    stall(state_dir, roles, saves=150)


@pytest.mark.faults
@pytest.mark.parametrize("roles", ["writer", "everyone"])
def test_saves_go_on_while_the_service_is_stopped_for_10_seconds(
    state_dir: Place, roles: str
) -> None:
    stall(state_dir, roles, saves=1000)


def test_first_save_of_an_agent_that_comes_during_the_stall(state_dir: Place) -> None:
    """It cannot greet anybody, and saves all the same."""
    first = state_dir.agent()
    first.call(acts.save, "run-1")
    first.settled(1)
    with frozen(state_dir.service_processes()):
        late = state_dir.agent()
        late.call(acts.save, "run-2")
        late.call(acts.save_many, "run-3", 20)
        assert late.call(acts.latest, "run-1")[1] == state_of("run-1", 0)
        assert first.call(acts.latest, "run-3")[1] == state_of("run-3", 19)
    late.settled(21)
    assert peek.stored_steps(state_dir.database, "run-3") == list(range(20))


def test_a_stopped_compressor_does_not_stop_the_service(state_dir: Place) -> None:
    agent = state_dir.agent(compressors=2)
    agent.call(acts.start, ["run-1", "run-2"], size=LARGE, interval_s=0.01)
    agent.call(acts.saved, 20)
    with frozen(state_dir.compressors()):
        agent.call(acts.saved, 100)
    halted = agent.call(acts.halt)
    agent.settled(2 * halted["rounds"])
    assert halted["held_ms"] < HELD_MS
    for execution in ("run-1", "run-2"):
        assert peek.stored_steps(state_dir.database, execution) == list(range(halted["rounds"]))


@pytest.mark.parametrize("how", ["close", "exit"])
def test_leaving_during_the_stall(state_dir: Place, how: str) -> None:
    """An agent that goes while the service is stopped is not held up by it either."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1")
    agent.settled(1)
    with frozen(state_dir.service_processes()):
        agent.call(acts.save_many, "run-2", 5)
        if how == "close":
            agent.call(acts.close, 0.2)
        assert agent.leave(timeout=10.0) == 0
    state_dir.empty()
    assert peek.stored_steps(state_dir.database, "run-2") == list(range(5))
    assert state_dir.journals() == []
