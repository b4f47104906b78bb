"""Counters are what the history shows, whoever was killed in between, and never go back."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from livingai import Service
from livingai.inspection.figures import look_at
from livingai.queue.counters import StoreCounter
from livingai.queue.tally import STORE_TALLY, read_tally
from tests.support import acts, peek
from tests.support.place import Place
from tests.support.scraping import Scrape, address_of, get, scrape, scrape_until
from tests.support.waiting import elsewhere_locked, joined, kill, until

RUNS = ("run-a", "run-b", "run-c")


@contextmanager
def metered(place: Place) -> Iterator[Service]:
    """A service with metrics on a free port."""
    service = Service(place.store(), place.directory.path, metrics="127.0.0.1:0")
    with service:
        yield service


class Watcher(threading.Thread):
    """Scrapes all the time; counters that go back are noted."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.place = place
        self.over = threading.Event()
        self.scrapes = 0
        self.went_back: list[str] = []
        self._last: dict[str, float] = {}

    def run(self) -> None:
        while not self.over.wait(0.05):
            with suppress(OSError):
                self._look(scrape(address_of(self.place)))

    def _look(self, found: Scrape) -> None:
        self.scrapes += 1
        for series, value in found.counters().items():
            if value < self._last.get(series, 0.0):
                self.went_back.append(f"{series}: {self._last[series]} -> {value}")
            self._last[series] = value


def outcomes(place: Place) -> Counter[str]:
    """Records by outcome, as the files say."""
    return Counter({each.outcome: each.records for each in look_at(place.directory).outcomes()})


def drained(place: Place) -> bool:
    """Whether the service has stored all; False while it is being started again."""
    with suppress(ConnectionError):
        place.ask("drain")
        return True
    return False


def test_counters_are_true_when_agents_and_dispatchers_are_killed(state_dir: Place) -> None:
    with metered(state_dir):
        watcher = Watcher(state_dir)
        watcher.start()
        for life in range(3):
            agents = [state_dir.agent() for _ in RUNS]
            for agent, run in zip(agents, RUNS, strict=True):
                agent.call(acts.start, [f"{run}-{life}"], interval_s=0.001)
            for agent in agents:
                agent.call(acts.saved, 30)
            kill(state_dir.pids()["dispatcher"])
            agents[0].call(acts.saved, 30)
            kill(*filter(None, state_dir.pids()["writers"]))
            agents[0].call(acts.saved, 30)
            for agent in agents:
                agent.kill()
            kill(state_dir.pids()["dispatcher"])
        until(lambda: drained(state_dir), what="all stored")
        stored = sum(
            len(peek.stored_steps(state_dir.database, f"{run}-{life}"))
            for run in RUNS for life in range(3)
        )  # fmt: skip

        def counted() -> bool:
            found = outcomes(state_dir)
            return found["met"] + found["late"] >= stored

        until(counted, what=f"{stored} counted")
        page = scrape_until(
            address_of(state_dir),
            lambda found: found.saves() == outcomes(state_dir),
            what="a page of what the files say",
        )
        watcher.over.set()
        joined(watcher)
    saves = page.saves()
    assert saves["met"] + saves["late"] == stored, (saves, stored)
    assert saves["fenced"] == saves["quarantined"] == saves["superseded"] == 0
    assert page["livingai_save_duration_seconds_count"] == stored
    assert page["livingai_queue_records"] == 0
    assert watcher.scrapes > 10
    assert watcher.went_back == []
    assert stored > 3 * 60


def test_every_outcome_is_counted_as_its_agent_was_told(state_dir: Place) -> None:
    with metered(state_dir):
        one, other = state_dir.agent(history=False), state_dir.agent()
        told: Counter[str] = Counter()
        one.call(acts.save_many, "run-1", 200)
        one.call(acts.save, "run-2", 0)
        one.call(acts.displace, "run-2")
        other.call(acts.save_many, "run-2", 30)
        other.settled(30)
        one.call(acts.save, "run-2", 1)
        for agent in (one, other):
            told.update(agent.settled())
        assert told["fenced"]
        assert told["superseded"]
        until(lambda: outcomes(state_dir).total() == told.total(), what="all counted")
        assert {k: v for k, v in outcomes(state_dir).items() if v} == dict(told)
        for agent in (one, other):
            agent.call(acts.close)
            agent.end()


def test_counters_outlive_services(state_dir: Place) -> None:
    for life in range(1, 4):
        agent = state_dir.agent()
        agent.call(acts.save_many, f"run-{life}", 10)
        agent.settled(10)
        agent.call(acts.close)
        agent.end()
        state_dir.empty()  # the service has ended, too
        found = outcomes(state_dir)
        assert found["met"] + found["late"] == 10 * life
        assert look_at(state_dir.directory).commits.records.sum == 10 * life


def test_a_killed_exporter_comes_again(state_dir: Place) -> None:
    with metered(state_dir):
        first = hint(state_dir)["pid"]
        kill(first)
        until(lambda: hint(state_dir).get("pid", first) != first, what="another exporter")
        assert get(address_of(state_dir), "/livez").status == 200


def hint(place: Place) -> dict[str, int]:
    """What the exporter says of itself; {} while there is none."""
    address_of(place)
    with suppress(OSError), open(os.path.join(place.directory.path, "service.metrics")) as file:
        found: dict[str, int] = json.load(file)
        return found
    return {}


def test_a_locked_tally_stops_no_save_and_costs_no_count(state_dir: Place) -> None:
    """Whoever has its lock: saves are stored, and counted once they can be."""
    path = os.path.join(state_dir.directory.path, STORE_TALLY)

    def rows() -> int:
        return read_tally(path).counters[StoreCounter.ROWS]

    with metered(state_dir):
        agent = state_dir.agent()
        agent.call(acts.save_many, "run-1", 5)
        agent.settled(5)
        until(lambda: rows() == 5, what="5 rows counted")
        with elsewhere_locked(path):
            agent.call(acts.save_many, "run-1", 20)
            agent.settled(25)
            assert len(peek.stored_nodes(state_dir.database, "run-1")) == 25
            assert rows() == 5
        # No commit comes any more: writers count it when they are idle, or when they end.
        until(lambda: rows() == 25, what="25 rows counted")
        with elsewhere_locked(path):
            agent.call(acts.save_many, "run-2", 5)
            agent.settled(30)
        agent.call(acts.close)
        agent.end()
    assert rows() == 30
