"""kill -9 as soon as ``save`` has returned: the state is in the hot cache, and later in the store.

The agent kills itself in the very next call, so nothing of its process can run in between.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.support import acts, peek
from tests.support.agents import Agent, AgentDied
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, kill, until

#: No age is young enough for this cache, so every read comes from the store.
NO_CACHE = {"cache_ttl_s": 1e-9}


def ahead(place: Place, count: int) -> Callable[[], Agent]:
    """Agents one after the other, the next one starting up already."""
    waiting = [place.agent()]

    def take() -> Agent:
        nonlocal count
        count -= 1
        if count > 0:
            waiting.append(place.agent())
        return waiting.pop(0)

    return take


def save_and_die(agent: Agent, execution: str, step: int = 0, **how: object) -> None:
    """Save, then SIGKILL in the next instruction."""
    agent.send(acts.save, execution, step, die=True, **how)
    with pytest.raises(AgentDied):
        agent.receive(30)
    assert agent.died() == -9


def cache_alone(place: Place, tries: int) -> None:
    """The service is stopped all the time, so that only the cache can answer."""
    reader = place.agent(service_timeout_s=1.0)
    reader.call(acts.save, "reader")
    reader.call(acts.flush)
    next_agent = ahead(place, tries)
    with frozen(place.service_processes()):
        for number in range(tries):
            execution = f"run-{number}"
            save_and_die(next_agent(), execution, number)
            expected = [{"step": number}, state_of(execution, number)]
            assert reader.call(acts.latest, execution) == expected, execution
    from_store = place.agent(**NO_CACHE)
    for number in range(tries):
        execution = f"run-{number}"
        expected = [{"step": number}, state_of(execution, number)]
        assert from_store.call(acts.latest, execution) == expected, execution
        assert peek.stored_state(place.database, execution) == expected[1]


def all_killed(place: Place, tries: int) -> None:
    """Every process of livingai dies at once, at various ages of the service."""
    next_agent = ahead(place, tries)
    for number in range(tries):
        execution = f"run-{number}"
        agent = next_agent()
        if number % 3:  # else the service is still booting
            agent.call(acts.save, "warm up", number)
            if number % 3 == 2:
                agent.call(acts.flush)
        spared = {other.pid for other in place.agents if other is not agent}
        doomed = [p.pid for p in place.processes() if p.pid not in {*spared, agent.pid}]
        save_and_die(agent, execution, number, kill=doomed)
        until(partial(_none_but, place, spared), what="all are dead")
        assert peek.cached_state(place.directory, execution) == state_of(execution, number)
    reader, from_store = place.agent(), place.agent(**NO_CACHE)
    for number in range(tries):
        execution = f"run-{number}"
        expected = [{"step": number}, state_of(execution, number)]
        assert reader.call(acts.latest, execution) == expected, execution
        assert from_store.call(acts.latest, execution) == expected, execution
        assert peek.stored_state(place.database, execution) == expected[1]


def _none_but(place: Place, spared: set[int]) -> bool:
    """Whether no other process is left; what had escaped (it was being born) is killed now."""
    left = [process.pid for process in place.processes() if process.pid not in spared]
    kill(*left)
    return not left


def test_cache_alone(state_dir: Place, tries: int) -> None:
    cache_alone(state_dir, tries)


def test_all_killed_at_once(state_dir: Place, tries: int) -> None:
    all_killed(state_dir, max(1, tries // 3))


@pytest.mark.faults
def test_cache_alone_200_times(state_dir: Place) -> None:
    cache_alone(state_dir, 200)


@pytest.mark.faults
def test_all_killed_at_once_200_times(state_dir: Place) -> None:
    all_killed(state_dir, 200)


def test_killed_by_another_process(state_dir: Place) -> None:
    """The parent kills as soon as it hears of the save; everything before it is there, too."""
    agent = state_dir.agent()
    for step in range(20):
        agent.call(acts.save, "run-1", step, size=20_000)
    agent.kill()
    other = state_dir.agent()
    assert other.call(acts.latest, "run-1") == [{"step": 19}, state_of("run-1", 19, 20_000)]
    assert other.call(acts.steps, "run-1") == list(range(20))


def test_killed_in_the_middle_of_saving(state_dir: Place) -> None:
    """At a random moment: whatever is read is one whole state, at least the last acknowledged."""
    reader = state_dir.agent()
    for number in range(5):
        execution = f"run-{number}"
        agent = state_dir.agent()
        agent.call(acts.start, [execution], size=100_000, interval_s=0.0)
        acknowledged = agent.call(acts.saved, 10 + number)
        agent.kill()
        output, state = reader.call(acts.latest, execution)
        assert output["step"] >= acknowledged - 1
        assert state == state_of(execution, output["step"], 100_000)
        # One more may have been complete, but not published: it is found when the owner's death is.
        steps = reader.call(acts.steps, execution)
        assert steps == list(range(len(steps)))
        assert len(steps) in (output["step"] + 1, output["step"] + 2)
        newest = state_of(execution, steps[-1], 100_000)
        assert reader.call(acts.latest, execution) == [{"step": steps[-1]}, newest]
        assert peek.stored_state(state_dir.database, execution) == newest


def test_its_journal_goes_once_stored(state_dir: Place) -> None:
    keeper = state_dir.agent()
    keeper.call(acts.save, "keeper")
    agent = state_dir.agent()
    save_and_die(agent, "run-1", size=100_000)
    keeper.call(acts.flush)
    assert keeper.call(acts.latest, "run-1") == [{"step": 0}, state_of("run-1", 0, 100_000)]
    assert len(state_dir.journals()) == 2, "the cache of the dead agent was thrown away"
    assert keeper.leave() == 0
    state_dir.empty()
    assert state_dir.journals() == []
