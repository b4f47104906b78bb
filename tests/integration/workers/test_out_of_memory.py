"""A process of the service that gets no more memory: killed by the kernel, or refused it. It is
replaced, or goes on once there is some, and nothing is lost."""

from __future__ import annotations

import psutil
import pytest

from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.cgroup import memory_group
from tests.support.place import Place
from tests.support.states import LARGE, state_of

#: More than any process has left over.
SIZE = 6_000_000
ROLES = ["dispatcher", "writers", "compressors"]


def busy(place: Place) -> Agent:
    """An agent whose states have kept all roles busy."""
    agent = place.agent()
    for step in range(3):
        agent.call(acts.save, "run-1", step, size=LARGE)
    agent.settled(3)
    return agent


def pid_of(place: Place, role: str) -> int:
    """The process with a role."""
    if role == "compressors":
        return place.compressors()[0]
    found = place.pids()[role]
    return int(found[0] if isinstance(found, list) else found)


def check_all_stored(place: Place, agent: Agent, steps: int, size: int) -> None:
    """One outcome for each, all of them stored, in order, and the newest state is right."""
    assert agent.settled(steps, timeout=60).keys() <= {"met", "late"}
    assert peek.stored_steps(place.database, "run-1") == list(range(steps))
    assert peek.stored_state(place.database, "run-1") == state_of("run-1", steps - 1, size)


@pytest.mark.parametrize("role", ROLES)
def test_killed_by_the_kernel(state_dir: Place, role: str) -> None:
    state_dir.tracebacks_allowed = True
    agent, steps = busy(state_dir), 3
    pid = pid_of(state_dir, role)
    with memory_group() as group:
        group.add(pid)
        group.limit(256 * 1024)
        while not group.killed():
            agent.call(acts.save, "run-1", steps, size=SIZE)
            steps += 1
            agent.call(acts.outcomes, steps, timeout=1.0)
            assert steps < 60, "it does with the memory that it has"
        check_all_stored(state_dir, agent, steps, SIZE)
        assert pid_of(state_dir, role) != pid


@pytest.mark.parametrize("role", ROLES)
def test_refused_by_the_kernel(state_dir: Place, role: str) -> None:
    """RLIMIT_AS: what it asks for fails, and it lives on."""
    state_dir.tracebacks_allowed = True
    agent = busy(state_dir)
    process = psutil.Process(pid_of(state_dir, role))
    before = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms, before[1]))
    for step in range(3, 8):
        agent.call(acts.save, "run-1", step, size=SIZE)
    agent.call(acts.outcomes, 4, timeout=3.0)
    if process.is_running():
        process.rlimit(psutil.RLIMIT_AS, before)
    check_all_stored(state_dir, agent, 8, SIZE)
