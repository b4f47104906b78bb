"""An idle agent wakes up at most twice a second, and a save wakes it at once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

from tests.support import acts
from tests.support.agent_main import AgentSide
from tests.support.place import Place
from tests.support.waiting import until

#: An agent's threads wake up at most so often in a second when it does nothing.
_MOST_PER_S = 2.0


def wake_ups(pid: int) -> int:
    """Voluntary context switches of all threads of a process."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def unsynced(agent: AgentSide) -> int:
    """Bytes that a power loss could take."""
    return agent.engine.sla().unsynced_bytes


def test_an_idle_agent_sleeps(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1")
    agent.settled(1)
    until(lambda: agent.call(unsynced) == 0, what="all is synced")
    # Two looks at a process, with nothing in between but time.
    before, began = wake_ups(agent.pid), time.monotonic()
    time.sleep(4.0)
    rate = (wake_ups(agent.pid) - before) / (time.monotonic() - began)
    assert rate <= _MOST_PER_S, f"{rate:.1f} wake-ups a second"


def save_and_look(agent: AgentSide) -> list[float]:
    """How long each of several single saves was unsynced, in seconds."""
    found = []
    syncer = agent.engine.open_handle().syncer
    for step in range(1, 6):
        until(lambda: syncer.idle, what="the syncer sleeps")
        began = time.monotonic()
        acts.save(agent, "run-1", step)
        until(lambda: agent.engine.sla().unsynced_bytes == 0, what="synced")
        found.append(time.monotonic() - began)
    return found


def test_a_save_after_a_pause_is_synced_within_the_interval(state_dir: Place) -> None:
    """The thread that syncs sleeps meanwhile: a save wakes it, and not its next look."""
    agent = state_dir.agent(fsync_interval_ms=50.0)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    # Its own looks are 5 s apart; a busy machine may hold one of the saves, but not most of them.
    assert median(agent.call(save_and_look)) < 2.5
    assert os.path.exists(state_dir.directory.path)
