"""Any processes of the service are killed or stopped, one or several at once, while agents save.

Checked against the invariants: every write has one outcome, nothing is lost, order is kept; and at
the end of the place nothing is left behind.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from random import Random

import pytest

from livingai.errors import LivingAIError
from tests.support import acts, peek
from tests.support.place import Place
from tests.support.states import LARGE, state_of
from tests.support.waiting import kill

SEEDS = int(os.environ.get("LIVINGAI_FAULT_SEEDS", "3"))
#: Things that happen to the service in one run.
EVENTS = 12


def strike(place: Place, random: Random) -> str:
    """Do something bad to some of the service's processes; what it was."""
    there = place.service_processes()
    victims = random.sample(there, min(len(there), random.choice((1, 1, 2, 3, 99))))
    if random.random() < 0.6:
        kill(*victims)
        return f"killed {len(victims)} of {len(there)}"
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return f"stopped {len(victims)} of {len(there)}"


def resume(place: Place) -> None:
    """SIGCONT for all."""
    for pid in place.service_processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(SEEDS))
def test_service_campaign(state_dir: Place, seed: int) -> None:
    random = Random(seed)
    print("seed", seed)
    # What is killed while it starts may say so.
    state_dir.tracebacks_allowed = state_dir.service_killed = True
    sizes = (8_000, 8_000, LARGE)  # encoded by the writer, and by the compressors
    agents = [state_dir.agent(compressors=2, history=number != 1) for number in range(3)]
    for number, agent in enumerate(agents):
        agent.call(acts.start, [f"run-{number}-{i}" for i in range(3)], size=sizes[number])
    for _ in range(EVENTS):
        agents[0].call(acts.saved, random.randrange(3, 60))
        print(strike(state_dir, random))
        for agent in agents:
            agent.call(acts.saved, random.randrange(1, 40))
        resume(state_dir)
        if random.random() < 0.5:
            with suppress(LivingAIError):  # the service is away: that is what it says
                agents[1].call(acts.load, "no such node")
    resume(state_dir)
    for number, agent in enumerate(agents):
        rounds = agent.call(acts.halt)["rounds"]
        statuses = agent.settled(3 * rounds, timeout=60)
        for i in range(3):
            execution = f"run-{number}-{i}"
            last = state_of(execution, rounds - 1, sizes[number])
            assert peek.stored_state(state_dir.database, execution) == last
            if number != 1:
                assert statuses.keys() <= {"met", "late"}
                assert peek.stored_steps(state_dir.database, execution) == list(range(rounds))
