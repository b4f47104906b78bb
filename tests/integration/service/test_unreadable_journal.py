"""A journal that the service cannot open for a while: a flush waits for the records in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest

from livingai.errors import JournalError
from livingai.queue.journal import JournalLimits
from tests.support import acts, peek
from tests.support.journals import Writer
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import until


@contextmanager
def no_descriptors(place: Place) -> Iterator[None]:
    """The dispatcher can open nothing more."""
    dispatcher = psutil.Process(place.pids()["dispatcher"])
    limits = dispatcher.rlimit(psutil.RLIMIT_NOFILE)
    dispatcher.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))  # the numbers below are in use
    try:
        yield
    finally:
        dispatcher.rlimit(psutil.RLIMIT_NOFILE, limits)


def test_barriers_wait_until_it_can_be_read(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "warm up")
    agent.settled(1)
    with pytest.raises(LookupError):
        agent.call(acts.steps, "run-1")  # the reader is up now
    with closing(Writer(state_dir.directory, JournalLimits())) as writer:
        with no_descriptors(state_dir):
            for step in range(30):
                writer.save("run-1", b"state", output={"step": step})
            for act, arguments in ((acts.drain, ()), (acts.steps, ("run-1",))):
                with pytest.raises(JournalError, match=r"cannot be read.*Too many open files"):
                    agent.call(act, *arguments)
            assert "cannot be read" in agent.call(acts.sla)["trouble"]
        agent.call(acts.drain)
        assert agent.call(acts.steps, "run-1") == list(range(30))
        until(lambda: not agent.call(acts.sla)["trouble"], what="the end of the trouble")


def test_a_successor_of_its_owner_waits(state_dir: Place) -> None:
    """A take-over is stored after the records that it follows; other executions are not held up."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-2", 0)
    agent.settled(1)
    state_dir.pids()
    with closing(Writer(state_dir.directory, JournalLimits())) as writer:
        with no_descriptors(state_dir):
            writer.save("run-1", b"state", output={"step": 0})
            until(lambda: agent.call(acts.sla)["trouble"], what="trouble")
            for step in range(1, 4):
                agent.call(acts.save, "run-1", step)
                agent.call(acts.save, "run-2", step)
            assert agent.call(acts.outcomes, 4)["known"] == 4
            assert agent.call(acts.sla)["pending"] == 3
            assert peek.stored_steps(state_dir.database, "run-2") == [0, 1, 2, 3]
        assert agent.settled(7).keys() <= {"met", "late"}
        assert peek.stored_steps(state_dir.database, "run-1") == [0, 1, 2, 3]
        assert agent.call(acts.latest, "run-1") == [{"step": 3}, state_of("run-1", 3)]
