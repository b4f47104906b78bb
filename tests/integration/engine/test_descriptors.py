"""Agents with very many open files, and agents that have run out of descriptors for a while."""

from __future__ import annotations

import os
import resource

from livingai.errors import LivingAIError
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import gone, kill

_held: list[int] = []


def hold(agent: AgentSide, count: int, limit: int) -> int:
    """Open files until there are ``count``, or no more can be opened; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, hard), hard))
    try:
        while len(_held) < count:
            _held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    return len(_held)


def let_go(agent: AgentSide) -> None:
    """Close what :meth:`hold` opened."""
    while _held:
        os.close(_held.pop())


def test_more_than_select_can_take(state_dir: Place) -> None:
    """Descriptors above 1023 are ordinary in a server."""
    agent = state_dir.agent()
    if agent.call(hold, 1100, 4096) < 1100:
        return  # not allowed here
    agent.call(acts.save, "run-1")
    agent.settled(1)
    service = state_dir.service_processes()
    kill(*service)
    gone(*service)
    agent.call(acts.save, "run-1", 1)
    agent.settled(2)


def try_all(agent: AgentSide, execution: str) -> list[str]:
    """Use the engine in every way; the errors, which must be typed."""
    engine, errors = agent.engine, []
    new = agent.new_engine()
    for act in (
        lambda: engine.latest_sync(execution),
        lambda: engine.cached(execution),
        lambda: acts.save(agent, execution, 1),
        lambda: acts.save(agent, f"{execution} new", 0),
        lambda: engine.claim_sync(execution),
        engine.sla,
        lambda: new.save_sync(acts.make_node(execution, 2), b"state"),
    ):
        try:
            act()
        except LivingAIError as error:
            errors.append(str(error))
    return errors


def first_save(agent: AgentSide, execution: str) -> list[str]:
    """Save for the first time, with one more descriptor at each try until it works."""
    errors = []
    while True:
        try:
            acts.save(agent, execution, 0)
        except LivingAIError as error:
            errors.append(str(error))
            os.close(_held.pop())
        else:
            return errors


def test_out_of_descriptors(state_dir: Place) -> None:
    agent = state_dir.agent(service_timeout_s=1.0)
    agent.call(acts.save, "run-1")
    agent.settled(1)
    service = state_dir.service_processes()
    agent.call(hold, 10_000, 200)
    errors = agent.call(try_all, "run-1")
    assert all("Too many open files" in error for error in errors), errors
    assert agent.call(acts.latest, "run-1")[1] == state_of("run-1", 1)
    kill(*service)
    gone(*service)
    agent.call(let_go)
    agent.call(acts.save, "run-1", 2)
    agent.settled()
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1, 2]


def test_first_save_as_descriptors_come_back(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(hold, 10_000, 200)
    errors = agent.call(first_save, "run-1")
    assert errors
    assert all("Too many open files" in error for error in errors), errors
    agent.call(let_go)
    agent.settled(1)
    assert os.listdir(state_dir.directory.journals) == [
        os.path.basename(path) for path in state_dir.journals()
    ], "what failed has left something"
