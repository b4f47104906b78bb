"""Several processes append to one log, on every store and from several machines, and nothing that
was accepted is lost. A machine is a state directory: two share nothing but the store."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from livingai.errors import RecordRefusedError
from tests.support import log_acts
from tests.support.agent_main import AgentSide
from tests.support.agents import Agent
from tests.support.log_acts import LOG
from tests.support.place import Place
from tests.support.sqlite import refuse
from tests.support.waiting import frozen, until

WRITERS = range(4)
SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or random.SystemRandom().getrandbits(32)
#: Stores that several machines can use.
on_servers = pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("cluster", marks=[pytest.mark.redis, pytest.mark.cluster]),
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("tiered", marks=[pytest.mark.redis, pytest.mark.postgres]),
    ],
    indirect=True,
)


def machine(place: Place, url: str, name: str) -> Agent:
    """An agent on a machine of that name."""
    return place.agent(database=url, directory=str(place.folder / name))


def names(prefix: str, count: int) -> list[str]:
    """Of ``append_many``."""
    return [f"{prefix}-{number:04}" for number in range(count)]


def services(place: Place, name: str) -> list[int]:
    """The service's processes of one machine."""
    path = str(place.folder / name)
    found = [
        process.pid
        for process in place.processes()
        if any(path in word for word in [*process.cmdline(), *map(str, open_files(process.pid))])
    ]
    return [pid for pid in found if pid not in {agent.pid for agent in place.agents}]


def open_files(pid: int) -> Iterable[Path]:
    """What a process has open."""
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            yield link.readlink()
        except FileNotFoundError:  # closed meanwhile
            continue


# -- one machine --


def test_four_processes_append_at_once(url: str, state_dir: Place) -> None:
    agents = [machine(state_dir, url, "here") for _ in WRITERS]
    for number, agent in enumerate(agents):
        agent.send(log_acts.append_many, f"w{number}", 40)
    for agent in agents:
        agent.receive()
    for number in WRITERS:
        found = [
            name for name in agents[0].call(log_acts.in_order) if name.startswith(f"w{number}")
        ]
        assert found == names(f"w{number}", 40), "lost, or not in the order of its process"
    assert agents[3].call(log_acts.read) == sorted(agents[0].call(log_acts.in_order))


@pytest.mark.parametrize("level", ["FSYNC", "STORE"])
def test_waiting_for_a_higher_level_does_not_keep_others_from_it(
    state_dir: Place, level: str
) -> None:
    """While one waits, the others take the execution over again and again."""
    agents = [state_dir.agent() for _ in WRITERS]
    for number, agent in enumerate(agents):
        agent.send(log_acts.append_many, f"w{number}", 6, level=level)
    for agent in agents:
        agent.receive()
    assert len(agents[0].call(log_acts.read)) == 6 * len(WRITERS)


@pytest.mark.parametrize("act", [log_acts.append_in_tasks, log_acts.append_in_threads])
def test_tasks_and_threads_of_two_processes(state_dir: Place, act: object) -> None:
    agents = [state_dir.agent() for _ in range(2)]
    for number, agent in enumerate(agents):
        agent.send(act, f"w{number}-", 25)  # type: ignore[arg-type]
    for agent in agents:
        agent.receive()
    writers = 1 if act is log_acts.append_in_tasks else 4
    assert len(agents[0].call(log_acts.read)) == 2 * 25 * writers


def test_what_one_has_appended_another_reads(state_dir: Place) -> None:
    first, second = state_dir.agent(), state_dir.agent()
    expected = []
    for turn in range(10):
        for name, writer, reader in (("a", first, second), ("b", second, first)):
            writer.call(log_acts.append, f"{turn:02}{name}")
            expected.append(f"{turn:02}{name}")
            assert reader.call(log_acts.read) == expected


def test_a_read_does_not_wait_for_its_own_process(state_dir: Place) -> None:
    """Nothing is stored meanwhile: the service's writers stand still."""
    agent = state_dir.agent()
    agent.call(log_acts.append_many, "a", 3)
    assert agent.call(log_acts.read) == names("a", 3)
    with frozen(state_dir.pids()["writers"]):
        agent.call(log_acts.append_many, "b", 7)
        assert agent.call(log_acts.read_soon) == [*names("a", 3), *names("b", 7)]
    agent.call(log_acts.flush)
    assert agent.call(log_acts.read_soon) == [*names("a", 3), *names("b", 7)]


@pytest.mark.parametrize("through_log", [True, False])
def test_a_read_that_does_not_wait_sees_other_engines_of_its_process(
    state_dir: Place, *, through_log: bool
) -> None:
    """They share its claim. What they append is not in its memory, so it has to wait."""
    agent, asked = state_dir.agent(), state_dir.folder / "asked"
    agent.call(log_acts.append, "a")
    assert agent.call(log_acts.read) == ["a"]
    with frozen(state_dir.pids()["writers"]):
        agent.send(log_acts.read_beside, str(asked), through_log=through_log)
        until(asked.exists, what="a question")
    assert agent.receive() == ["a", "b"]


@pytest.mark.parametrize("count", [2, 3])
def test_a_read_that_does_not_wait_sees_what_others_were_told(state_dir: Place, count: int) -> None:
    """Whoever has been told that its entry is accepted has said so in a file, which is read first.
    In the midst of it the service's dispatcher is killed."""
    said = str(state_dir.folder / "said")
    agents = [state_dir.agent() for _ in range(count)]
    for number, agent in enumerate(agents):
        agent.send(log_acts.append_and_read, f"w{number}", 60, said)
    for killed in range(2):
        until(partial(has_lines, said, 30 * (killed + 1)), what="entries")
        os.kill(state_dir.pids()["dispatcher"], signal.SIGKILL)
    quick = [agent.receive() for agent in agents]
    assert sum(quick) > 0, "every read has waited"
    everything = [name for number in range(count) for name in names(f"w{number}", 60)]
    for agent in agents:
        assert agent.call(log_acts.read_soon) == everything


def has_lines(path: str, least: int) -> bool:
    """Whether a file is there and has so many."""
    return os.path.exists(path) and Path(path).read_text("utf-8").count("\n") >= least


def test_processes_in_turn_see_each_other_without_waiting(url: str, state_dir: Place) -> None:
    print(f"seed {SEED} (repeat with LIVINGAI_SEED={SEED})")
    turns = random.Random(SEED)
    agents = [machine(state_dir, url, "here") for _ in range(3)]
    expected: list[str] = []
    for turn in range(60):
        agents[turns.choice((0, 0, 0, 1, 2))].call(log_acts.append, f"{turn:02}")
        expected.append(f"{turn:02}")
        for _ in range(turns.randrange(3)):
            assert agents[turns.choice((0, 0, 0, 1, 2))].call(log_acts.read_soon) == expected


def test_an_entry_that_another_process_came_before_is_saved_again(state_dir: Place) -> None:
    """The other one takes the execution over between the look at the claim and the save, and what
    is saved under the old claim is fenced. Its writer dies as soon as it was accepted, so nobody is
    there to hear of that."""
    ready, go = state_dir.folder / "ready", state_dir.folder / "go"
    first, second = state_dir.agent(), state_dir.agent()
    first.call(log_acts.append, "a")
    first.send(log_acts.append_behind, "b", str(ready), str(go), die=True)
    until(ready.exists, what="the look at the claim")
    second.call(log_acts.append, "c")
    go.touch()
    assert first.died(60) == -9
    assert second.call(log_acts.read) == ["a", "b", "c"]


@pytest.mark.parametrize("after", [1, 17, 60])
def test_what_a_killed_writer_was_told_is_there(state_dir: Place, after: int) -> None:
    """Two append; one is killed in the midst of it."""
    said = state_dir.folder / "said"
    doomed, other = state_dir.agent(), state_dir.agent()
    doomed.send(log_acts.append_many, "w0", 5000, said=str(said))
    other.send(log_acts.append_many, "w1", 200)
    until(lambda: said.exists() and said.read_text().count("\n") >= after, what="entries")
    doomed.kill()
    other.receive()
    told = said.read_text().splitlines()
    assert len(told) < 5000
    found = other.call(log_acts.read)
    assert set(told) <= set(found)
    assert [name for name in found if name.startswith("w1")] == names("w1", 200)
    assert len([name for name in found if name.startswith("w0")]) <= len(told) + 1


def test_a_deleted_log_stays_deleted(state_dir: Place) -> None:
    first, second = state_dir.agent(), state_dir.agent()
    for agent, name in ((first, "a"), (second, "b"), (first, "c")):
        agent.call(log_acts.append, name)
    second.call(log_acts.delete)
    assert first.call(log_acts.read) == []
    first.call(log_acts.append, "d")
    second.call(log_acts.append, "e")
    assert first.call(log_acts.read) == ["d", "e"]


def test_a_read_that_does_not_wait_beside_a_delete(state_dir: Place) -> None:
    """What it would put in was stored, and deleted, while its question was on its way."""
    first, second = state_dir.agent(), state_dir.agent()
    first.call(log_acts.append, "a")
    assert first.call(log_acts.read) == second.call(log_acts.read) == ["a"]
    asked, pids = state_dir.folder / "asked", state_dir.pids()
    with frozen([pids["reader"]]):
        with frozen(pids["writers"]):
            first.call(log_acts.append, "b")
            first.send(log_acts.read_soon_saying, str(asked))
            until(asked.exists, what="the question")
        second.call(log_acts.delete)
    assert first.receive() == []


# -- several machines --


@on_servers
def test_machines_in_turn(url: str, state_dir: Place) -> None:
    """Each reads what the other one has stored, and its own at once."""
    here, there = machine(state_dir, url, "here"), machine(state_dir, url, "there")
    for turn in range(3):
        here.call(log_acts.append, f"{turn}h")
        assert f"{turn}h" in here.call(log_acts.read)
        there.call(log_acts.append, f"{turn}t")
        assert f"{turn}t" in there.call(log_acts.read)
    expected = sorted(f"{turn}{name}" for turn in range(3) for name in "ht")
    for agent in (here, there):
        agent.call(log_acts.flush)
    assert here.call(log_acts.read) == there.call(log_acts.read) == expected


def taken_over(
    place: Place, url: str, count: int, then: Callable[[AgentSide], object]
) -> tuple[Agent, Agent]:
    """Two machines; the first one's service stands still with entries on their way, and the second
    one takes the log over. The first one's agent does ``then``, which is asked for before the
    service goes on, so that entries are put out in the midst of it. Both agents."""
    here, there = machine(place, url, "here"), machine(place, url, "there")
    here.call(log_acts.append, "before")
    here.call(log_acts.flush)
    here.call(log_acts.count_outcomes)
    here.call(log_acts.delay_saver, 0.5)
    stopped = services(place, "here")
    assert len(stopped) >= 3, stopped
    with frozen(stopped):
        here.call(log_acts.append_many, "h", count)
        there.call(log_acts.append_many, "t", 3)
        there.call(log_acts.flush)
        here.send(then)
    return here, there


def expected(count: int) -> list[str]:
    """What ``taken_over`` has appended."""
    return sorted(["before", *names("h", count), *names("t", 3)])


@on_servers
@pytest.mark.parametrize("end", ["flush", "read", "close"])
def test_what_another_machine_puts_out_is_saved_again(url: str, state_dir: Place, end: str) -> None:
    acts: dict[str, Callable[[AgentSide], object]] = {
        "flush": log_acts.flush, "read": log_acts.read, "close": log_acts.close,
    }  # fmt: skip
    here, there = taken_over(state_dir, url, 20, acts[end])
    found = here.receive()
    assert here.call(log_acts.outcomes, "fenced") >= 20, "nothing was put out"
    if end == "read":
        assert found == expected(20)
        here.call(log_acts.flush)
    assert there.call(log_acts.read) == expected(20)


@pytest.mark.redis
def test_a_waiting_append_is_stored_whoever_comes_before(state_dir: Place, redis_url: str) -> None:
    """At STORE, on two machines at once: each append takes the log over in the store."""
    here, there = machine(state_dir, redis_url, "here"), machine(state_dir, redis_url, "there")
    for agent, prefix in ((here, "h"), (there, "t")):
        agent.send(log_acts.append_many, prefix, 15, level="STORE")
    for agent in (here, there):
        agent.receive()
    assert here.call(log_acts.read) == [*names("h", 15), *names("t", 15)]


@pytest.mark.redis
def test_many_entries_are_saved_again_into_a_journal_that_is_full(
    state_dir: Place, redis_url: str
) -> None:
    """The thread that saves again waits for room, which comes once the store has what is before."""
    small = {"segment_bytes": 1 << 16, "journal_bytes": 1 << 18, "on_full": "raise"}
    here = state_dir.agent(database=redis_url, directory=str(state_dir.folder / "here"), **small)
    there = machine(state_dir, redis_url, "there")
    here.call(log_acts.append, "before")
    here.call(log_acts.flush)
    with frozen(services(state_dir, "here")):
        accepted = here.call(log_acts.fill, "h")
        there.call(log_acts.append, "t")
        there.call(log_acts.flush)
    assert accepted > 50
    here.call(log_acts.flush)
    assert there.call(log_acts.read) == sorted(["before", *names("h", accepted), "t"])


# -- forks --


def test_a_forked_child_has_entries_of_its_own(state_dir: Place, redis_url: str) -> None:
    """Forked while its parent has entries to be saved again."""
    here, _ = taken_over(state_dir, redis_url, 5, log_acts.wait_for_fences)
    here.receive()
    here.call(log_acts.append_in_child, "child")
    here.call(log_acts.flush)
    assert here.call(log_acts.read) == sorted([*expected(5), "child"])


# -- what the store refuses --


def test_a_refused_entry_is_told_once(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(log_acts.count_outcomes)
    agent.call(log_acts.append, "good")
    agent.call(log_acts.flush)
    refuse(state_dir.database, "NEW.node_id LIKE '%/bad%'")
    agent.call(log_acts.append, "bad1")
    with pytest.raises(RecordRefusedError, match=f"{LOG}/bad1.*livingai requeue"):
        agent.call(log_acts.flush)
    agent.call(log_acts.flush)
    agent.call(log_acts.append, "bad2")
    agent.call(log_acts.append, "elsewhere", log="log:two")
    until(lambda: agent.call(log_acts.outcomes, "quarantined") == 2, what="what became of it")
    agent.call(log_acts.append, "other", log="log:two")
    with pytest.raises(RecordRefusedError, match=f"{LOG}/bad2"):
        agent.call(log_acts.append, "not saved")
    agent.call(log_acts.append, "later")
    with pytest.raises(RecordRefusedError, match=f"{LOG}/bad3"):
        agent.call(log_acts.append, "bad3", level="STORE")
    agent.call(log_acts.append, "last")
    assert agent.call(log_acts.read) == ["good", "last", "later"]
