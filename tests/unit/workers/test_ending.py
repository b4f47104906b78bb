"""When a service ends: idle for long enough, out of grace, or not where agents look for it."""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher.ending import Ending
from livingai.workers.dispatcher.intake import Intake
from tests.support.journals import Writer, flip_in_record, records, state_directory

MET = STATUS_CODES[OutcomeStatus.MET]
IDLE_S = 10.0


class Bench:
    """A service without its turns, and a clock that is put forward by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.has_agents = False
        self.inflight = 0
        #: Done while the service looks around for the last time.
        self.meanwhile: Callable[[], object] = lambda: None
        self.looks = 0
        self.directory = state_directory(folder / "state")
        Path(self.directory.lock).touch()
        self.intake = Intake(self.directory)
        self.writers: list[Writer] = []
        store = SQLiteStore(folder / "agent.db")
        settings = EngineConfig(idle_s=IDLE_S)
        self.config = ServiceConfig.build(store, self.directory.path, settings)

    def monotonic(self) -> float:
        """As time.monotonic."""
        return self.now

    def begin(self, *, foreground: bool = False) -> Ending:
        config = dataclasses.replace(self.config, foreground=foreground)
        self.ending = Ending(self.directory, config, self.intake, self)
        return self.ending

    def look_around(self, *, now: bool = False) -> None:
        assert now
        self.looks += 1
        self.meanwhile()
        self.intake.refresh()
        for feed in self.intake.feeds.values():
            feed.check_owner()

    def writer(self) -> Writer:
        self.writers.append(Writer(self.directory))
        return self.writers[-1]

    def settle(self) -> None:
        """All that is taken is stored."""
        for item in self.intake.take(100):
            item.feed.settle(item, MET, 1)
            item.feed.advance()

    def close(self) -> None:
        self.intake.close()
        for writer in self.writers:
            writer.die()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench, mock.patch.object(time, "monotonic", bench.monotonic):
        yield bench
        bench.ending.close()


def test_it_ends_when_nothing_came_for_long_enough(bench: Bench) -> None:
    """The agent that has started it may take a moment."""
    ending = bench.begin()
    for step in (0, 2, IDLE_S - 0.1):
        bench.now += step
        assert not ending.idle()
    assert bench.looks == 0
    bench.now += 0.1
    assert ending.idle()
    assert bench.looks == 1


def test_one_in_the_foreground_stays(bench: Bench) -> None:
    ending = bench.begin(foreground=True)
    bench.now += 1e6
    assert not ending.idle()


@pytest.mark.parametrize("what", ["an agent", "records on their way", "an unreadable journal"])
def test_it_stays_while_it_is_needed_and_for_as_long_again(bench: Bench, what: str) -> None:
    ending = bench.begin()
    bench.has_agents = what == "an agent"
    bench.inflight = int(what == "records on their way")
    if what == "an unreadable journal":
        bench.intake.unreadable.note("a", OSError(errno.EMFILE, "no descriptors"))
    for _ in range(3):
        bench.now += 1e6
        assert not ending.idle()
    bench.has_agents, bench.inflight = False, 0
    bench.intake.unreadable.forget("a")
    bench.now += IDLE_S - 0.1
    assert not ending.idle()
    bench.now += 0.1
    assert ending.idle()


def test_a_record_of_the_last_moment_is_taken(bench: Bench) -> None:
    """Of a process that has not connected yet."""
    ending = bench.begin()
    bench.now += 1e6
    bench.meanwhile = lambda: bench.writer().save("run-1", b"x")
    assert not ending.idle()
    bench.meanwhile = lambda: None
    bench.settle()
    assert ending.idle(), "the living owner can start another one"


def test_a_dead_owners_damage_is_set_aside_before(bench: Bench) -> None:
    writer = bench.writer()
    for _ in range(3):
        writer.save("run-1", b"x" * 100)
    writer.die()
    journal = writer.journal.directory
    flip_in_record(journal, records(journal)[1], 8)
    ending = bench.begin()
    bench.look_around(now=True)
    bench.settle()
    (feed,) = bench.intake.feeds.values()
    assert feed.drained
    bench.now += 1e6
    assert not ending.idle()
    feed.damage.clear()
    bench.now += 1e6
    assert ending.idle()


def test_a_stopping_service_has_a_time_of_grace(bench: Bench) -> None:
    ending = bench.begin()
    bench.now += 1e6
    assert not ending.grace_over(), "it begins now"
    bench.now += 9.9
    assert not ending.grace_over()
    bench.now += 0.1
    assert ending.grace_over()


def test_where_agents_look_for_it_it_stays(bench: Bench) -> None:
    ending = bench.begin()
    for bench.has_agents in (False, True):
        assert not ending.displaced()


@pytest.mark.parametrize("how", ["removed", "another in its place"])
def test_a_removed_directory_ends_it_once_its_agents_are_gone(bench: Bench, how: str) -> None:
    ending = bench.begin()
    lock = Path(bench.directory.lock)
    if how == "another in its place":
        (lock.parent / "new").touch()
        (lock.parent / "new").replace(lock)
    else:
        lock.unlink()
    bench.has_agents = True
    assert not ending.displaced()
    bench.has_agents = False
    assert ending.displaced()


def test_a_directory_that_was_moved_ends_it_at_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its agents ask the service that is started there."""
    ending = bench.begin()
    bench.has_agents = True
    there = f"{bench.directory.path}-moved"
    os.rename(bench.directory.path, there)
    assert ending.displaced()
    assert f"moved to {there}" in caplog.text
    os.rename(there, bench.directory.path)
    assert not ending.displaced()
