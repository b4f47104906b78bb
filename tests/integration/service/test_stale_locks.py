"""Locks are the kernel's: what their files say is for people. A process that got the number of a
dead owner does not count as that, and an owner whose file says nothing is alive."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from livingai.queue.lock import boot_id
from tests.support import acts, peek
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, gone, kill


def test_a_number_that_another_process_got(state_dir: Place) -> None:
    """Agent and service are dead, and this very process has their numbers."""
    first = state_dir.agent()
    first.call(acts.save, "run-1", 0)
    first.settled(1)
    services = state_dir.service_processes()
    with frozen(services):
        first.call(acts.save_many, "run-2", 5)
        first.kill()
        kill(*services)
    gone(*services)
    state_dir.service_killed = True
    started = psutil.Process().create_time()
    me = json.dumps({"pid": os.getpid(), "started": started, "boot": boot_id().hex()})
    (journal,) = state_dir.journals()
    locks = [f"{journal}/owner.lock", state_dir.directory.lock, state_dir.directory.supervisor_lock]
    for lock in map(Path, locks):
        assert lock.exists(), "nothing is stale"
        lock.write_text(me)
    second = state_dir.agent()
    assert second.call(acts.latest, "run-2") == [{"step": 4}, state_of("run-2", 4)]
    second.call(acts.save, "run-2", 5)
    second.call(acts.drain)
    assert second.settled(1).keys() <= {"met", "late"}
    assert peek.stored_steps(state_dir.database, "run-2") == list(range(6))


def test_an_owner_whose_lock_says_nothing(state_dir: Place) -> None:
    agent, other = state_dir.agent(), state_dir.agent()
    for each in (agent, other):
        each.call(acts.save, "run-1", 0)
        each.settled(1)
    pids = state_dir.pids()
    journals = set(state_dir.journals())
    dead = json.dumps({"pid": 1, "started": 0.0, "boot": "0" * 32})
    for number, path in enumerate(sorted(journals)):
        Path(path, "owner.lock").write_text(("", dead)[number])
    Path(state_dir.directory.lock).write_text("")
    for step in range(1, 4):
        agent.call(acts.save, "run-2", step)
        other.call(acts.save, "run-3", step)
    for each in (agent, other):
        each.call(acts.drain)
        each.settled(4)
    assert set(state_dir.journals()) == journals
    assert state_dir.pids() == pids
    third = state_dir.agent()
    third.call(acts.save, "run-4", 0)
    third.settled(1)
    assert state_dir.pids() == pids, "no second service"
