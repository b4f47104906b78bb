"""Processes that contend for one run while they are stopped, woken and killed at random.

Whatever happens: no tool is called twice, and the last process goes on where the record ends.
"""

from __future__ import annotations

import os
import random
from threading import Event

import pytest

from tests.support import acts, programs
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.waiting import kill

RUN = "run-1"
SEED = os.environ.get("LIVINGAI_SEED", "0")
PROCESSES = 4
#: Where a process pauses as it writes its first record.
PLACES = ["journal.before_append", "journal.after_append", "journal.before_publish",
          "journal.after_publish"]  # fmt: skip


#: How a contender may end: it has not begun, it was overtaken, its service was killed.
ALLOWED = ("", "FencedError", "ServiceUnavailableError")


class Contest:
    """Processes that all try to run the same execution."""

    def __init__(self, place: Place, seed: str) -> None:
        print("seed", seed)
        self.rng = random.Random(seed)
        self.place = place
        self.file = str(place.folder / "world")
        self.agents = [place.agent() for _ in range(PROCESSES)]
        self.stopped: set[Agent] = set()
        self.agents[0].call(acts.save, "warm up")
        place.pids()

    def step(self, *, kill_service: bool) -> None:
        """Something happens to one of the processes."""
        agent = self.rng.choice(self.agents)
        what = self.rng.random()
        if agent in self.stopped:
            self.resume(agent)
        elif what < 0.3:
            agent.stop()
            self.stopped.add(agent)
        elif what < 0.4:
            agent.kill()
            self.agents[self.agents.index(agent)] = self.place.agent()
        elif kill_service and what < 0.45:
            self.place.service_killed = True
            kill(*self.place.service_processes())
        elif agent.call(programs.ended):
            self.begin(agent)
        Event().wait(self.rng.random() * 0.04)  # the place in the program is random

    def begin(self, agent: Agent) -> None:
        assert agent.call(programs.finish, False) in ALLOWED
        if self.rng.random() < 0.5:
            agent.call(programs.begin, RUN, self.file)
            return
        pause_s = self.rng.random() * 0.1
        agent.call(programs.begin_slowly, RUN, self.file, self.rng.choice(PLACES), pause_s)

    def resume(self, agent: Agent) -> None:
        self.stopped.discard(agent)
        agent.resume()

    def finish(self) -> int:
        """One more comes, and gets through; how many tools were called."""
        for agent in list(self.stopped):
            self.resume(agent)
        for agent in self.agents:  # one that still enters would come after the last
            agent.kill()
        last = self.place.agent()
        last.call(programs.begin, RUN, self.file)
        last.call(programs.reached, len(programs.effects(self.file)) + PROCESSES)
        assert last.call(programs.finish) == ""
        found = programs.effects(self.file)
        twice = {what: count for what, count in found.items() if count > 1}
        assert not twice, f"called twice: {twice}"
        return len(found)


def contend(place: Place, seed: str, steps: int, *, kill_service: bool) -> None:
    contest = Contest(place, seed)
    for _ in range(steps):
        contest.step(kill_service=kill_service)
    assert contest.finish() > PROCESSES


@pytest.mark.timeout(180)
def test_contenders(state_dir: Place) -> None:
    contend(state_dir, f"contenders/{SEED}", 60, kill_service=False)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(int(os.environ.get("LIVINGAI_FAULT_SEEDS", "3"))))
@pytest.mark.parametrize("kill_service", [False, True])
def test_contenders_campaign(state_dir: Place, number: int, kill_service: bool) -> None:
    state_dir.tracebacks_allowed = kill_service
    contend(state_dir, f"contenders/{SEED}/{number}", 200, kill_service=kill_service)
