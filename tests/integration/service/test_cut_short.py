"""Files of a state directory that another program cuts short (``> file``, a clean-up, a rotation
of logs) while an agent, another agent that reads and the service have them mapped: no process ends
of it, what was in there and not stored is reported, and all goes on."""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.layout import offset_of
from livingai.queue.tail import JournalTail
from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, gone, kill, until

SEGMENT = "0000000001.seg"
#: Large enough for patches whose base is read from the mapped journal.
SIZE = 100_000


def journal_of(place: Place, agent: Agent) -> Path:
    """The folder of an agent's journal."""
    for folder in map(Path, place.journals()):
        if json.loads((folder / "owner.lock").read_text())["pid"] == agent.pid:
            return folder
    raise AssertionError("it has none")


def pair(place: Place) -> tuple[Agent, Agent]:
    """An agent with four stored steps of run-1, and one that has read them."""
    place.service_killed = True  # a journal stays whose page says nothing
    owner, other = place.agent(), place.agent()
    other.call(acts.save, "other", 0)
    for step in range(4):
        owner.call(acts.save, "run-1", step, size=SIZE)
    owner.settled(4)
    other.settled(1)
    assert other.call(acts.latest, "run-1") == [{"step": 3}, state_of("run-1", 3, SIZE)]
    return owner, other


def check_both_go_on(place: Place, owner: Agent, other: Agent, first: int) -> None:
    """The owner saves and both read; the other one takes over, and the owner is a zombie."""
    for step in range(first, first + 3):
        owner.call(acts.save, "run-1", step, size=SIZE)
        other.call(acts.save, "other", step)
    for agent in (owner, other):
        assert agent.call(acts.latest, "run-1")[1] == state_of("run-1", first + 2, SIZE)
    owner.call(acts.drain)
    other.call(acts.claim, "run-1")
    other.call(acts.save, "run-1", first + 3, size=SIZE)
    other.call(acts.drain)
    for agent in (owner, other):
        assert agent.call(acts.latest, "run-1")[1] == state_of("run-1", first + 3, SIZE)
    owner.call(acts.save, "run-1", 99, size=SIZE)
    assert owner.call(acts.statuses)[-1] == "fenced"
    assert peek.stored_state(place.database, "run-1") == state_of("run-1", first + 3, SIZE)
    owner.call(acts.claim, "run-1")


def test_everything_was_stored(state_dir: Place) -> None:
    """Nothing is lost and nobody is restarted, whichever file it is."""
    owner, other = pair(state_dir)
    folder, top, pids = journal_of(state_dir, owner), state_dir.directory, state_dir.pids()
    cut = [Path(top.service_state), *(folder / name for name in ("cursor", SEGMENT, "control"))]
    cut.append(folder / "index")
    for number, path in enumerate(cut):
        os.truncate(path, 0)
        check_both_go_on(state_dir, owner, other, 10 * number + 4)
        now = state_dir.pids()
        for role in ("supervisor", "dispatcher", "writers"):
            assert now[role] == pids[role], f"{path.name}: the {role} was restarted"
    assert owner.settled(4 + 4 * len(cut)).keys() <= {"met", "late", "fenced"}
    assert other.settled().keys() <= {"met", "late"}
    said = Path(top.log).read_text() + owner.said() + other.said()
    for name in ("service.state", "control", "index"):
        assert re.search(rf"{name}.*: cut short by another program", said), name
    until(lambda: os.path.getsize(top.service_state), what="the service's page")


@pytest.mark.parametrize(("kept", "stopped"), [(0, False), (6, False), (0, True), (6, True)])
def test_something_waited(state_dir: Place, kept: int, stopped: bool) -> None:
    """What was cut off before it was stored is lost and reported as that, record by record; what
    was saved before and behind it is stored. ``kept``: the last record that stays."""
    owner, other = pair(state_dir)
    state_dir.tracebacks_allowed = True  # of a service that is killed as it starts
    folder, service = journal_of(state_dir, owner), state_dir.service_processes()
    with frozen(service):
        for step in range(4, 8):
            owner.call(acts.save, "run-1", step, size=SIZE)
            other.call(acts.save, "other", step)
        with closing(JournalTail(str(folder))) as tail:
            found = {each.header.lsn: each for each in tail.read(alive=False)}
        end = offset_of(found[kept].position) + found[kept].header.length if kept else 0
        os.truncate(folder / SEGMENT, end + 100 if kept else 0)
        if stopped:
            kill(*service)
    if stopped:
        gone(*service)
    for step in range(8, 11):
        owner.call(acts.save, "run-1", step, size=SIZE)
    statuses = owner.call(acts.statuses)
    assert len(statuses) == 11
    lost = {step for step, status in enumerate(statuses) if status == "quarantined"}
    assert lost == set(range(max(4, kept), 8))
    assert set(statuses) <= {"met", "late", "quarantined"}
    owner.call(acts.drain)
    stored = [step for step in range(11) if step not in lost]
    assert peek.stored_steps(state_dir.database, "run-1") == stored
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 10, SIZE)
    assert other.settled(5).keys() <= {"met", "late"}
    assert re.search("records [57] to 8 are damaged", Path(state_dir.directory.log).read_text())
