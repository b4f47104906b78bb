"""Whose owner is alive: the service holds the locks of dead owners' journals."""

from __future__ import annotations

import os

from livingai.inspection.check import check_directory
from livingai.queue.lock import OwnerLock, owner_alive
from livingai.queue.new_journal import OWNER_LOCK
from livingai.queue.owners import agents_alive
from livingai.queue.waiting import waiting_records
from tests.support import acts
from tests.support.place import Place
from tests.support.waiting import until


def test_a_dead_owner_whose_lock_the_service_holds(state_dir: Place) -> None:
    keeper = state_dir.agent()
    keeper.call(acts.save, "run-1", 0)
    (living,) = state_dir.journals()
    agent = state_dir.agent()
    agent.call(acts.save, "run-2", 0)
    agent.settled(1)
    agent.kill()
    (dead,) = set(state_dir.journals()) - {living}
    lock = os.path.join(dead, OWNER_LOCK)
    until(lambda: owner_alive(lock), what="the service holds the dead owner's lock", timeout=60)
    assert agents_alive(state_dir.directory) == [living]
    report = check_directory(state_dir.directory.path)
    assert (report.counts["journals"], report.counts["alive"]) == (2, 1)
    assert report.ok, report.errors
    assert waiting_records(state_dir.directory, of_dead_owners=True) == 0


def test_a_process_that_is_no_service_is_an_agent(state_dir: Place) -> None:
    """It lives while a service runs, and while none does."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    assert agents_alive(state_dir.directory) == state_dir.journals()
    assert agent.leave() == 0
    state_dir.empty()
    made = state_dir.directory.journals + "/" + "f" * 16
    os.mkdir(made)
    owner = OwnerLock.acquire(os.path.join(made, OWNER_LOCK))
    assert owner is not None
    try:
        assert agents_alive(state_dir.directory) == [made]
    finally:
        owner.release()
    assert agents_alive(state_dir.directory) == []
    os.unlink(os.path.join(made, OWNER_LOCK))
    os.rmdir(made)
