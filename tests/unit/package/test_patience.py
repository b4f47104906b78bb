"""Deadlines of tests stretch with the load of the machine, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.agents import ROOT
from tests.support.patience import MOST, Deadline, Slowness, patience, slowness, spun
from tests.support.waiting import ended, until

#: Says that it runs, and then wants all of a processor until its input ends.
_SPINNER = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
print("runs", flush=True)
while True:
    pass
"""


class Machine:
    """A clock, and how slow the machine is, as a test says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slow = 1.0
        self.measured = 0

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def measure(self) -> float:
        """As :class:`Slowness`."""
        self.measured += 1
        return self.slow

    def deadline(self, seconds: float) -> Deadline:
        """That begins now."""
        return Deadline(seconds, measure=self.measure, clock=self.clock)


@pytest.fixture
def one_processor() -> Iterator[int]:
    """This process, and those that it starts, share one processor."""
    before = os.sched_getaffinity(0)
    one = min(before)
    os.sched_setaffinity(0, {one})
    yield one
    os.sched_setaffinity(0, before)


def test_an_idle_machine_has_the_seconds_that_were_said() -> None:
    machine = Machine()
    deadline = machine.deadline(10)
    machine.now += 9.0
    assert deadline.left() == pytest.approx(1.0)
    assert machine.measured == 0, "nothing is measured before its time is up"
    machine.now += 1.0
    assert deadline.left() == 0
    assert str(deadline) == "10 s"


def test_a_busy_machine_has_more_for_as_long_as_it_is_busy() -> None:
    machine = Machine()
    deadline = machine.deadline(10)
    machine.now += 10.0
    machine.slow = 3.0
    assert deadline.left() == pytest.approx(20.0)
    machine.now += 20.0
    machine.slow = 4.0  # it has become busier
    assert deadline.left() == pytest.approx(10.0)
    machine.slow = 1.0
    assert deadline.left() == pytest.approx(10.0), "never shrunk"
    machine.now += 10.0
    assert deadline.left() == 0
    assert str(deadline) == "40 s (10 s, a busy machine)"


def test_there_is_an_end_to_all_patience() -> None:
    machine = Machine()
    deadline = machine.deadline(10)
    machine.slow = 1e9
    machine.now += 10.0 * MOST - 1
    assert deadline.left() == pytest.approx(1.0)
    machine.now += 1.0
    assert deadline.left() == 0


def test_the_measurement_of_a_processor_that_others_want(one_processor: int) -> None:
    """Four others want it: a fifth of it is left. What else the machine does makes it less."""
    command = [sys.executable, "-c", _SPINNER]
    with ExitStack() as stack:
        for _ in range(4):
            other = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            assert other.stdout is not None
            assert other.stdout.readline() == b"runs\n"
        assert max(spun() for _ in range(5)) > 2
        assert Slowness()() > 1


def test_it_is_never_less_than_that_of_an_idle_machine() -> None:
    assert 1.0 <= slowness() <= MOST
    assert patience(30) >= 30


def test_a_wait_for_what_never_comes_fails() -> None:
    with pytest.raises(AssertionError, match=r"not within .*: what never comes"):
        until(lambda: False, what="what never comes", timeout=0.01)


def test_a_process_that_does_not_end_fails() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        with pytest.raises(AssertionError, match="has not ended within"):
            ended(process, timeout=0.01)
        assert process.stdin is not None
        process.stdin.close()
        assert ended(process) == 0


_LIMITED = """
import threading
from tests.support.patience import slowness

def pinned(times):
    slowness._last, slowness._measured_at = times, float("inf")

def test_longer_than_its_limit_on_a_busy_machine():
    pinned(10.0)
    threading.Event().wait(1.5)

def test_that_hangs():
    pinned(1.0)
    threading.Event().wait(600)
"""


def test_the_limit_of_a_test_is_stretched_too(tmp_path: Path) -> None:
    file = tmp_path / "test_limits.py"
    file.write_text(_LIMITED)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider",
               "-c", os.devnull, "--rootdir", str(tmp_path), "--timeout=1", "-v",
               str(file)]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=patience(60),
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert "test_longer_than_its_limit_on_a_busy_machine PASSED" in done.stdout, done
    assert "test_that_hangs FAILED" in done.stdout, done
    assert "Timeout" in done.stdout
