"""The wall clock jumps, forward and back, under agents and service. Time is measured on the
monotonic clock, and nothing is put in order by the wall clock."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support import acts, peek
from tests.support.agents import ROOT, Agent
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, kill

HOUR, YEAR = 3600, 365 * 24 * 3600
#: Long enough for any machine, and short against each jump.
BUDGET_MS = 900_000.0
CLOCK = ROOT / "tests" / "support" / "clock"


class Clock:
    """A wall clock that processes look at."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on it is so many seconds ahead."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.file)

    def agent(self, place: Place, **settings: object) -> Agent:
        """An agent with this clock; the service that it starts has it, too."""
        paths = {"PYTHONPATH": f"{CLOCK}:{ROOT}", "LIVINGAI_TEST_CLOCK": str(self.file)}
        return place.agent(env=paths, budget_ms=BUDGET_MS, **settings)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def test_under_one_service(state_dir: Place, clock: Clock) -> None:
    """Between acceptance and commit, too: all is met, in order, and read in its newest version."""
    first, second = clock.agent(state_dir), clock.agent(state_dir)
    first.call(acts.save, "run-1", 0)
    first.settled(1)
    dispatcher = psutil.Process(state_dir.pids()["dispatcher"])
    assert str(CLOCK) in dispatcher.environ()["PYTHONPATH"], "it would have another clock"
    step = 0
    for seconds in (YEAR, 0, -HOUR, YEAR, -YEAR, -HOUR):
        with frozen(state_dir.service_processes()):
            first.call(acts.save, "run-1", step := step + 1)
            clock.jump(seconds)
            first.call(acts.save, "run-1", step := step + 1)
            second.call(acts.save, "other", step)
        for agent in (first, second):  # of what seems to be older than an hour the store is asked
            assert agent.call(acts.latest, "run-1") == [{"step": step}, state_of("run-1", step)]
    assert first.settled(step + 1) == {"met": step + 1}
    assert second.settled(6) == {"met": 6}
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(step + 1))


@pytest.mark.parametrize("seconds", [-HOUR, YEAR])
def test_a_successor_with_another_clock(
    state_dir: Place, clock: Clock, tmp_path: Path, seconds: int
) -> None:
    """Who takes over wins, whatever its clock says; on the same machine, and on another one."""
    first = clock.agent(state_dir)
    first.call(acts.save, "run-1", 0)
    first.settled(1)
    other = Clock(tmp_path / "other clock")
    other.jump(seconds)
    second = other.agent(state_dir)
    with frozen(state_dir.service_processes()):
        first.call(acts.save, "run-1", 1)
        second.call(acts.save, "run-1", 2)
        first.call(acts.save, "run-1", 100)
    for agent in (first, second):
        assert agent.call(acts.latest, "run-1") == [{"step": 2}, state_of("run-1", 2)]
    assert first.call(acts.statuses) == ["met", "met", "fenced"]
    assert second.settled(1) == {"met": 1}
    third = clock.agent(state_dir, directory=str(state_dir.folder / "another machine"))
    third.call(acts.claim, "run-1")
    third.call(acts.save, "run-1", 3)
    third.settled(1)
    second.call(acts.save, "run-1", 100)
    assert second.call(acts.statuses)[-1] == "fenced"
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1, 2, 3]
    # What the first one leaves is stored by a service that starts with another clock.
    state_dir.service_killed = True
    clock.jump(-seconds)
    with frozen(state_dir.service_processes()):
        first.call(acts.save, "run-2", 0)
        first.kill()
        kill(*state_dir.service_processes())
    assert clock.agent(state_dir).call(acts.latest, "run-2")[0] == {"step": 0}
