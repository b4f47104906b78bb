"""Files of a state directory that another program cuts short (``> file``, a clean-up, a rotation
of logs) while an agent, another agent that reads and the service have them mapped: nobody but the
owner of what was cut ends of it, what was in there and not stored is reported, and all goes on."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.layout import offset_of
from livingai.queue.tail import JournalTail
from tests.support import acts, peek
from tests.support.agents import Agent, AgentDied
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, gone, kill

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
    check_take_over(place, other, first + 3)
    assert owner.call(acts.latest, "run-1")[1] == state_of("run-1", first + 3, SIZE)
    owner.call(acts.save, "run-1", 99, size=SIZE)
    assert owner.call(acts.statuses)[-1] == "fenced"
    owner.call(acts.claim, "run-1")


def check_take_over(place: Place, other: Agent, step: int) -> None:
    other.call(acts.claim, "run-1")
    other.call(acts.save, "run-1", step, size=SIZE)
    other.call(acts.drain)
    assert other.call(acts.latest, "run-1")[1] == state_of("run-1", step, SIZE)
    assert peek.stored_state(place.database, "run-1") == state_of("run-1", step, SIZE)


def test_files_that_others_write_or_only_the_store_needs(state_dir: Place) -> None:
    """No agent ends, nothing is lost, and the service serves on (for its page, as a new one)."""
    owner, other = pair(state_dir)
    folder, top, pids = journal_of(state_dir, owner), state_dir.directory, state_dir.pids()
    cut = [*(folder / name for name in ("cursor", SEGMENT)), Path(top.service_state)]
    for number, path in enumerate(cut):
        os.truncate(path, 0)
        check_both_go_on(state_dir, owner, other, 10 * number + 4)
        if path.parent == folder:
            assert state_dir.pids()["dispatcher"] == pids["dispatcher"], path.name
    assert owner.settled(4 + 4 * len(cut)).keys() <= {"met", "late", "fenced"}
    assert other.settled().keys() <= {"met", "late"}
    assert os.path.getsize(top.service_state), "the service's page is not made anew"


@pytest.mark.parametrize("name", ["control", "index"])
def test_files_in_which_the_owner_speaks_to_others(state_dir: Place, name: str) -> None:
    """The owner ends, for what it would say nobody could see; all others go on, and nothing that it
    acknowledged is lost."""
    owner, other = pair(state_dir)
    folder, pids = journal_of(state_dir, owner), state_dir.pids()
    os.truncate(folder / name, 0)
    other.call(acts.save, "other", 1)
    assert other.call(acts.latest, "run-1")[1] == state_of("run-1", 3, SIZE)
    with pytest.raises(AgentDied):
        owner.call(acts.save, "run-1", 4, size=SIZE)
    assert owner.died() == -signal.SIGBUS
    other.call(acts.drain)
    stored = peek.stored_steps(state_dir.database, "run-1")
    assert stored in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    check_take_over(state_dir, other, 10)
    assert other.settled().keys() <= {"met", "late"}
    now = state_dir.pids()
    assert [now[role] for role in ("supervisor", "dispatcher", "writers")] == [
        pids[role] for role in ("supervisor", "dispatcher", "writers")
    ]


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
