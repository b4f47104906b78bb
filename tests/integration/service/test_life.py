"""The service comes on demand, is shared, survives the death of its parts, and goes."""

from __future__ import annotations

import functools
import os
import sys

import pytest

from livingai.queue.lock import owner_alive
from tests.support import acts, peek
from tests.support.place import Place
from tests.support.states import LARGE, state_of
from tests.support.waiting import gone, is_running, kill, until

ROLES = ("writer", "compressor", "reader", "dispatcher", "supervisor")


def worker(place: Place, role: str) -> int:
    """The process id of one of the service's processes."""
    if role == "compressor":
        return place.compressors()[0]
    pids = place.pids()
    if role == "writer":
        return int(pids["writers"][0])
    if pids[role] is None:  # the reader is started by the first question
        place.ask("size")
        pids = place.pids()
    return int(pids[role])


# -- coming and going --


def test_started_on_demand_and_joined(state_dir: Place) -> None:
    assert state_dir.service_processes() == []
    first, second = state_dir.agent(), state_dir.agent()
    first.call(acts.save, "run-1")
    first.settled(1)
    pids = state_dir.pids()
    second.call(acts.save, "run-2")
    second.settled(1)
    assert state_dir.pids() == pids
    assert state_dir.ask("status").agents >= 2
    assert second.call(acts.latest, "run-1")[1] == state_of("run-1", 0)


def test_first_save_does_not_wait_for_the_service(state_dir: Place) -> None:
    """It has returned before the service's Python has begun to run; ``make bench`` says how long
    that takes."""
    held = state_dir.folder / "held"
    os.mkfifo(held)
    python = state_dir.folder / "python"
    python.write_text(f'#!/bin/sh\nread go < "{held}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    agent = state_dir.agent(python=str(python))
    agent.call(acts.sla)  # the agent itself is up
    agent.send(acts.save, "run-1", 0, size=100_000)
    agent.receive(timeout=5)
    assert not state_dir.socket_left(), "there is a service"
    go = os.open(held, os.O_RDWR)  # which waits for no reader
    try:
        os.write(go, b"go\n")
        agent.settled(1)
    finally:
        os.close(go)


def test_many_agents_start_one_service(state_dir: Place) -> None:
    agents = [state_dir.agent() for _ in range(5)]
    for number, agent in enumerate(agents):
        agent.send(acts.save, f"run-{number}")
    for agent in agents:
        agent.receive()
        agent.settled(1)
    pids = state_dir.pids()
    expected = {pids["supervisor"], pids["dispatcher"], *pids["writers"], *pids["compressors"]}

    def others() -> set[int]:
        names = ("workers.supervisor", "workers.dispatcher", "workers.store", "spawn_main")
        return {
            process.pid
            for process in state_dir.processes()
            if any(name in " ".join(process.cmdline()) for name in names)
        } - expected

    until(lambda: not others(), what="only one service, the losers of the race are gone")


def test_the_names_that_a_person_sees(state_dir: Place) -> None:
    """`livingai status` names the processes, and so does `ps`."""
    agent = state_dir.agent(compressors=2)
    agent.call(acts.save, "run-1", 0, size=LARGE)
    agent.settled(1)
    assert len(state_dir.compressors()) == 2
    state_dir.ask("size")  # the first question starts the reader
    pids = state_dir.pids()
    assert {"supervisor", "dispatcher", "reader", "writers", "compressors"} <= set(pids)
    assert pids["writers"]
    commands = {process.pid: " ".join(process.cmdline()) for process in state_dir.processes()}
    for pid, words in (
        (pids["supervisor"], ("livingai", "supervisor")),
        (pids["dispatcher"], ("livingai", "dispatcher")),
        (pids["reader"], ("livingai", "store.main reader")),
        *((pid, ("livingai", "store.main writer")) for pid in pids["writers"]),
    ):
        assert all(word in commands[pid] for word in words), commands[pid]


def test_goes_when_idle(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save_many, "run-1", 10)
    agent.call(acts.close)
    assert agent.leave() == 0
    state_dir.empty()
    assert not os.path.exists(f"{state_dir.directory.path}/service.sock")
    assert not owner_alive(state_dir.directory.lock)
    assert state_dir.journals() == []
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(10))


def test_stays_as_long_as_an_agent_lives(state_dir: Place) -> None:
    """An agent that saves nothing for longer than ``idle_s`` finds the same service."""
    agent = state_dir.agent(idle_s=0.0)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    pids = state_dir.pids()
    for step in range(1, 4):
        state_dir.ask("drain")  # a turn of the dispatcher with nothing to do
        agent.call(acts.save, "run-1", step)
        agent.settled(step + 1)
    assert state_dir.pids() == pids


def test_comes_back_for_the_next_agent(state_dir: Place) -> None:
    for step in range(3):
        agent = state_dir.agent(idle_s=0.0)
        agent.call(acts.save, "run-1", step)
        assert agent.leave() == 0
        state_dir.empty()
        assert peek.stored_steps(state_dir.database, "run-1") == list(range(step + 1))


# -- the death of its parts --


def _is_replaced(place: Place, role: str, pid: int) -> bool:
    return worker(place, role) != pid


@pytest.mark.parametrize("role", ROLES)
def test_killed_while_agents_save(state_dir: Place, role: str) -> None:
    agents = [state_dir.agent(compressors=2) for _ in range(2)]
    for number, agent in enumerate(agents):
        agent.call(acts.start, [f"run-{number}-{i}" for i in range(3)], size=20_000)
    for _ in range(2):
        for agent in agents:
            agent.call(acts.saved, 15)
        victim = worker(state_dir, role)
        kill(victim)
        gone(victim)
        for agent in agents:
            agent.call(acts.saved, 15)
        replaced = functools.partial(_is_replaced, state_dir, role, victim)
        until(replaced, what=f"another {role}", timeout=60)
    for number, agent in enumerate(agents):
        rounds = agent.call(acts.halt)["rounds"]
        statuses = agent.settled(3 * rounds)
        assert statuses.keys() <= {"met", "late"}
        for i in range(3):
            execution = f"run-{number}-{i}"
            assert peek.stored_steps(state_dir.database, execution) == list(range(rounds))
            last = state_of(execution, rounds - 1, 20_000)
            assert peek.stored_state(state_dir.database, execution) == last


def test_all_of_it_killed_while_an_agent_saves(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.start, ["run-1"])
    for _ in range(3):
        agent.call(acts.saved, 10)
        state_dir.pids()
        kill(*state_dir.service_processes())
    agent.call(acts.saved, 10)  # else nothing would wait, and nothing start the service again
    rounds = agent.call(acts.halt)["rounds"]
    agent.settled(rounds)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(rounds))


def test_killed_supervisor_leaves_no_orphans(state_dir: Place) -> None:
    service = state_dir.service()
    service.start()
    state_dir.ask("size")
    pids = state_dir.pids()
    everyone = [pids["dispatcher"], pids["reader"], *pids["writers"], *pids["compressors"]]
    assert all(map(is_running, everyone))
    kill(pids["supervisor"])
    gone(*everyone)
    state_dir.empty()
    service.stop()
    state_dir.service_killed = True


def test_killed_dispatcher_leaves_no_orphans(state_dir: Place) -> None:
    with state_dir.service():
        before = state_dir.pids()
        kill(before["dispatcher"])
        gone(before["dispatcher"], *before["writers"], *before["compressors"])
        after = state_dir.pids()
        assert after["supervisor"] == before["supervisor"]
        assert after["dispatcher"] != before["dispatcher"]
