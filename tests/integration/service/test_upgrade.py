"""Agents and services of earlier versions beside those of today: a rolling upgrade."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random, SystemRandom

import pytest

from livingai.errors import (
    JournalError,
    ServiceUnavailableError,
    StoreFormatError,
    VersionMismatchError,
)
from livingai.protocol.frames import PROTOCOL_VERSION, REVISION, Message, frame
from livingai.queue.lock import owner_pid
from livingai.queue.waiting import waiting_records
from tests.support import acts, peek
from tests.support.agents import ROOT, Agent, environment
from tests.support.earlier import Earlier
from tests.support.place import Place
from tests.support.places import command
from tests.support.states import LARGE, state_of
from tests.support.waiting import gone, kill, until

pytestmark = pytest.mark.timeout(240)
SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or SystemRandom().getrandbits(32)
#: Things that happen in the random test.
EVENTS = 24


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    """See tests/data/packages/README.md."""
    return Earlier("first", tmp_path_factory.mktemp("earlier"))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    """See tests/data/packages/README.md."""
    return Earlier("second", tmp_path_factory.mktemp("earlier"))


@pytest.fixture(params=["first", "second"])
def earlier(request: pytest.FixtureRequest) -> Earlier:
    """Each of the earlier versions."""
    found: Earlier = request.getfixturevalue(request.param)
    return found


def supervisor(place: Place) -> int:
    """Process id of the supervisor; 0: none is there."""
    return owner_pid(place.directory.supervisor_lock) or 0


def replaced(place: Place, earlier: Earlier) -> None:
    """Wait until the service is of today."""
    until(
        lambda: (pid := supervisor(place)) and not earlier.runs(pid) and bool(place.pids()),
        what="a service of today",
        timeout=90,
    )


def trouble(agent: Agent) -> str:
    """What the agent's engine reports."""
    said: str = agent.call(acts.sla)["trouble"]
    return said


@contextmanager
def service_killed(place: Place, *agents: Agent) -> Iterator[None]:
    """In the block the agents are stopped and no process of the service is left."""
    for agent in agents:
        agent.stop()

    place.kill_service()
    try:
        yield
    finally:
        for agent in agents:
            agent.resume()


def test_they_take_turns(state_dir: Place, second: Earlier) -> None:
    """On one service of today, which both may find, read and overtake; each sees what the other
    has written last, patches included."""
    with state_dir.service():
        old, new = second.agent(state_dir), state_dir.agent()
        for step in range(0, 12, 2):
            run = f"run-{step}"
            for agent, each in ((old, step), (new, step + 1)):
                agent.call(acts.save, run, each, size=3000)
                for reader in (old, new):
                    assert reader.call(acts.latest, run)[1] == state_of(run, each, 3000)
        for step in range(5):
            new.call(acts.save, "patched", step, size=20_000)
        assert old.call(acts.latest, "patched")[1] == state_of("patched", 4, 20_000)
        old.call(acts.save, "patched", 5, size=20_000)
        assert new.call(acts.latest, "patched")[1] == state_of("patched", 5, 20_000)
        for step in range(3):
            old.call(acts.save, "large", step, size=LARGE)
        assert new.call(acts.latest, "large")[1] == state_of("large", 2, LARGE)
        assert set(old.settled(10)) | set(new.settled(11)) <= {"met", "late"}
        assert trouble(old) == trouble(new) == ""
        for step in range(0, 12, 2):
            assert peek.stored_steps(state_dir.database, f"run-{step}") == [step, step + 1]
        assert peek.stored_steps(state_dir.database, "patched") == list(range(6))
        assert new.leave() == old.leave() == 0


def test_the_service_is_upgraded_under_its_agents(state_dir: Place, earlier: Earlier) -> None:
    """The earlier service is killed with accepted writes; the one of today brings the database up
    to date, stores what is in the journals of the living and dead earlier agents, and serves them
    as before. Then one after the other is restarted."""
    old, dying = earlier.agent(state_dir), earlier.agent(state_dir)
    for agent, run in ((old, "run-1"), (dying, "run-2")):
        agent.call(acts.save, run, 0)
        agent.settled(1)
    for pid in state_dir.service_processes():
        os.kill(pid, signal.SIGSTOP)
    for step in range(1, 5):
        old.call(acts.save, "run-1", step)
        dying.call(acts.save, "run-2", step)
    dying.kill()
    state_dir.agents.remove(dying)
    dying.end()
    with service_killed(state_dir, old):
        service = state_dir.service().start()
    try:
        old.settled(5)
        for step in range(5, 8):
            old.call(acts.save, "run-1", step)
        old.settled(8)
        assert old.call(acts.steps, "run-2") == list(range(5))
        new = state_dir.agent()
        assert new.call(acts.latest, "run-1")[1] == state_of("run-1", 7)
        assert new.call(acts.claim, "run-1") == 2
        new.call(acts.save, "run-1", 8)
        assert old.call(acts.latest, "run-1")[1] == state_of("run-1", 8)
        assert old.call(acts.claim, "run-1") == 3
        old.call(acts.save, "run-1", 9)
        assert new.call(acts.latest, "run-1")[1] == state_of("run-1", 9)
        assert old.call(acts.look_in, "a-run") == []
        assert old.call(acts.plan, "run-1")["state"] == state_of("run-1", 9)
        old.call(acts.drain)
        assert peek.stored_steps(state_dir.database, "run-1") == list(range(10))
        assert peek.stored_steps(state_dir.database, "run-2") == list(range(5))
        assert old.leave() == new.leave() == 0
    finally:
        service.stop()


def test_an_agent_that_does_not_know_the_database_is_refused(
    state_dir: Place, first: Earlier
) -> None:
    """It says so before it accepts anything; the agents of today notice nothing."""
    with state_dir.service():
        new = state_dir.agent()
        new.call(acts.save, "run-1", 0)
        old = first.agent(state_dir)
        for act in (acts.save, acts.latest):
            with pytest.raises(StoreFormatError, match="upgrade livingai to use it"):
                old.call(act, "run-1")
        new.call(acts.save, "run-1", 1)
        new.call(acts.drain)
        assert set(new.settled(2)) <= {"met", "late"}
        assert len(state_dir.journals()) == 1
        assert trouble(new) == ""
        assert old.leave() == new.leave() == 0


def test_a_newer_agent_has_the_service_replaced(state_dir: Place, second: Earlier) -> None:
    """One that an earlier agent has started, under load: no write is lost, each has one outcome."""
    old = [second.agent(state_dir) for _ in range(2)]
    for number, agent in enumerate(old):
        agent.call(acts.save, f"first-{number}", 0)
    old[0].settled(1)
    before = supervisor(state_dir)
    assert second.runs(before)
    for number, agent in enumerate(old):
        agent.call(acts.start, [f"old-{number}"], size=3000)
        agent.call(acts.saved, 5)
    new = [state_dir.agent() for _ in range(3)]
    for number, agent in enumerate(new):
        agent.call(acts.start, [f"new-{number}"], size=3000)
    replaced(state_dir, second)
    gone(before)
    for agent in (*old, *new):
        agent.call(acts.saved, 5)
    rounds = {}
    for kind, agents in (("old", old), ("new", new)):
        for number, agent in enumerate(agents):
            rounds[f"{kind}-{number}"] = agent.call(acts.halt)["rounds"]
            assert set(agent.settled(timeout=90)) <= {"met", "late"}
    for agent in (*old, *new):
        assert trouble(agent) == ""
        agent.call(acts.drain)
    for run, count in rounds.items():
        assert peek.stored_steps(state_dir.database, run) == list(range(count))
    after = supervisor(state_dir)
    supervisors = [p for p in state_dir.processes() if "livingai.workers.supervisor" in p.cmdline()]
    until(lambda: [p.pid for p in supervisors if p.is_running()] == [after], what="one supervisor")
    assert "makes room" in "".join(agent.said() for agent in new)
    for agent in (*old, *new):
        assert agent.leave() == 0


def test_the_earlier_service_comes_back(state_dir: Place, second: Earlier) -> None:
    """An earlier agent starts it when the one of today has been killed; it is replaced again."""
    old, new = second.agent(state_dir), state_dir.agent()
    for step in range(2):
        old.call(acts.save, "old", 2 * step)
        old.settled(2 * step + 1)
        new.call(acts.save, "new", step)
        replaced(state_dir, second)
        new.settled(step + 1, timeout=60)
        old.call(acts.save, "old", 2 * step + 1)
        old.settled(2 * step + 2)
        with service_killed(state_dir, old, new):
            old.resume()
            until(lambda: second.runs(supervisor(state_dir)), what="the earlier service")
    assert trouble(new) == "" or "makes room" in trouble(new)
    new.call(acts.drain)
    replaced(state_dir, second)
    assert peek.stored_steps(state_dir.database, "new") == [0, 1]
    assert peek.stored_steps(state_dir.database, "old") == list(range(4))
    assert old.leave() == new.leave() == 0


@pytest.mark.parametrize("at", ["supervisor.before_start", "supervisor.after_start"])
def test_the_successor_is_killed(
    state_dir: Place, second: Earlier, at: str, tmp_path: Path
) -> None:
    """As it takes over: whoever is quicker starts the next service, and in the end it is one of
    today's."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    old = second.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    state_dir.service_killed = True
    new = state_dir.agent(
        env=environment(
            LIVINGAI_FAILPOINTS=f"{at}=kill", LIVINGAI_FAILPOINT_TOKENS=os.fspath(tokens)
        )
    )
    for step in range(4):
        new.call(acts.save, "new", step)
        old.call(acts.save, "old", step + 1)
    until((tokens / at).exists, what="the successor was killed", timeout=60)
    replaced(state_dir, second)
    new.settled(4, timeout=60)
    old.settled(5, timeout=60)
    assert peek.stored_steps(state_dir.database, "new") == list(range(4))
    assert peek.stored_steps(state_dir.database, "old") == list(range(5))
    assert old.leave() == new.leave() == 0


def test_a_service_of_the_users_is_left_to_them(state_dir: Place, second: Earlier) -> None:
    """What the newer agent saves waits, and it says what to do; once that is done, it is stored."""
    with second.service(os.fspath(state_dir.database), state_dir.directory.path) as process:
        old = second.agent(state_dir)
        old.call(acts.save, "old", 0)
        old.settled(1)
        before = supervisor(state_dir)
        new = state_dir.agent()
        for step in range(3):
            new.call(acts.save, "new", step)
        until(lambda: "restart `livingai serve`" in trouble(new), what="it says what to do")
        old.call(acts.save, "old", 1)
        old.settled(2)
        assert supervisor(state_dir) == before
        assert waiting_records(state_dir.directory) == 3
        assert new.call(acts.latest, "new")[1] == state_of("new", 2)
        with service_killed(state_dir, new, old):
            process.wait(30)
            service = state_dir.service().start()
    try:
        new.settled(3)
        old.call(acts.drain)
        assert trouble(new) == ""
        assert peek.stored_steps(state_dir.database, "new") == list(range(3))
        assert peek.stored_steps(state_dir.database, "old") == [0, 1]
        assert old.leave() == new.leave() == 0
    finally:
        service.stop()


def test_an_agent_that_starts_no_service_replaces_none(state_dir: Place, second: Earlier) -> None:
    old = second.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    before = supervisor(state_dir)
    new = state_dir.agent(service="attach")
    new.call(acts.save, "new", 0)
    until(lambda: "end it with `livingai stop`" in trouble(new), what="it says what to do")
    assert supervisor(state_dir) == before
    with service_killed(state_dir, old):
        service = state_dir.service().start()
    try:
        new.settled(1)
        assert old.leave() == new.leave() == 0
    finally:
        service.stop()


def test_a_service_is_not_ended_before_its_successor_is_there(
    state_dir: Place, second: Earlier
) -> None:
    """The newer agent's Python cannot run one: it says so, and the earlier service goes on."""
    old = second.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    before = supervisor(state_dir)
    new = state_dir.agent(python="/bin/true")
    new.call(acts.save, "new", 0)
    until(lambda: "it cannot be replaced" in trouble(new), what="it says why")
    assert "/bin/true is no Python" in trouble(new)
    old.call(acts.save, "old", 1)
    old.settled(2)
    assert supervisor(state_dir) == before
    newer = state_dir.agent()
    newer.call(acts.save, "newer", 0)
    newer.settled(1, timeout=60)
    new.settled(1, timeout=60)
    replaced(state_dir, second)
    assert old.leave() == new.leave() == newer.leave() == 0


def test_the_start_of_a_successor_delays_no_greeting(
    state_dir: Place, second: Earlier, tmp_path: Path
) -> None:
    """The agent is connected while what is to become the successor has not proved itself."""
    slow, told = tmp_path / "slow", tmp_path / "told"
    slow.write_text(f"#!/bin/sh\necho $$ > {told}.new\nmv {told}.new {told}\nexec sleep 600\n")
    slow.chmod(0o700)
    old = second.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    new = state_dir.agent(python=os.fspath(slow), service="auto")
    new.call(acts.save, "new", 0)
    until(told.exists, what="the successor is being started")
    assert new.call(acts.sla)["service"] == "connected"
    kill(int(told.read_text()))
    until(lambda: "it cannot be replaced" in trouble(new), what="it says why")
    newer = state_dir.agent()
    newer.call(acts.save, "newer", 0)
    for agent in (newer, new):
        agent.settled(1, timeout=60)
        assert agent.leave() == 0
    assert old.leave() == 0


#: In place of the database driver: a store's process cannot import it, an agent can.
_NO_DRIVER = """
import importlib, os, sys
here = os.path.dirname(os.path.abspath(__file__))
if sys.argv[0].endswith("main.py") and os.path.basename(os.path.dirname(sys.argv[0])) == "store":
    raise ImportError("no apsw in this environment")
kept = sys.path[:]  # it is the service's, too
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
del sys.modules["apsw"]
sys.modules["apsw"] = importlib.import_module("apsw")
sys.path[:] = kept
"""
#: As a start-up file: the module that a dispatcher is made of cannot be imported.
_NO_DISPATCHER = """
import os, sys
if "-c" in sys.orig_argv and "livingai.workers.dispatcher.serving" in sys.orig_argv[-1]:
    sys.modules["livingai.workers.dispatcher.serving"] = None
"""


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("apsw.py", _NO_DRIVER, "its successor's writer cannot"),
        ("sitecustomize.py", _NO_DISPATCHER, "its successor's dispatcher cannot start"),
    ],
)
def test_a_successor_that_cannot_work_ends_nothing(
    state_dir: Place, second: Earlier, tmp_path: Path, module: str, source: str, why: str
) -> None:
    """The earlier service goes on, all newer agents say why and start none of their own; once that
    is mended, it is replaced."""
    state_dir.tracebacks_allowed = True
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / module).write_text(source)
    old = second.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    before = supervisor(state_dir)
    new = state_dir.agent(env={"PYTHONPATH": f"{broken}:{ROOT}"})
    new.call(acts.save, "new", 0)
    until(lambda: why in trouble(new), what="it says why", timeout=60)
    other = state_dir.agent()
    other.call(acts.save, "other", 0)
    until(lambda: why in trouble(other), what="another one says the same")
    old.call(acts.save, "old", 1)
    old.settled(2)
    assert supervisor(state_dir) == before
    assert "is not replaced" in Path(state_dir.directory.log).read_text()
    assert "makes room" not in other.said()
    (broken / module).unlink()
    os.unlink(f"{state_dir.directory.path}/service.succession")  # minutes have passed
    replaced(state_dir, second)
    new.settled(1, timeout=60)
    other.settled(1, timeout=60)
    assert old.leave() == new.leave() == other.leave() == 0


def test_a_greeting_that_the_first_services_refuse(state_dir: Place, first: Earlier) -> None:
    """The words name the process to end; what waits is stored once it has been."""
    old = first.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    before = supervisor(state_dir)
    new = state_dir.agent()
    new.call(acts.save, "new", 0)
    expected = f"does not understand this livingai's greeting .*process {before}, SIGTERM"
    with pytest.raises(VersionMismatchError, match=expected):
        new.call(acts.steps, "old")
    told = command(state_dir, "stop", state_dir.database)
    assert told.returncode == 4
    assert f"process {before}, SIGTERM" in told.stderr
    until(lambda: "of another version" in trouble(new), what="it says what to do")
    old.call(acts.save, "old", 1)
    old.settled(2)
    assert old.leave() == 0
    os.kill(before, signal.SIGTERM)
    new.settled(1, timeout=60)
    assert new.call(acts.steps, "old") == [0, 1]
    assert new.leave() == 0


def test_an_earlier_service_comes_to_journals_of_today(state_dir: Place, second: Earlier) -> None:
    """It leaves them as they are; the next agent of today has them stored."""
    new = state_dir.agent()
    new.call(acts.save, "new", 0)
    new.settled(1)
    for pid in state_dir.service_processes():
        os.kill(pid, signal.SIGSTOP)
    for step in range(1, 4):
        new.call(acts.save, "new", step)
    new.kill()
    with service_killed(state_dir):
        pass
    (journal,) = state_dir.journals()
    files = {path.name: path.read_bytes() for path in Path(journal).iterdir()}
    old = second.agent(state_dir)
    old.call(acts.save, "old", 0)
    old.settled(1)
    until(lambda: "upgrade livingai to read it" in trouble(old), what="it says so")
    assert {path.name: path.read_bytes() for path in Path(journal).iterdir()} == files
    assert waiting_records(state_dir.directory) == 3
    newer = state_dir.agent()
    assert newer.call(acts.latest, "new")[1] == state_of("new", 3)
    newer.call(acts.drain)
    assert peek.stored_steps(state_dir.database, "new") == list(range(4))
    old.call(acts.save, "old", 1)
    old.settled(2)
    assert old.leave() == newer.leave() == 0


def test_all_die_in_any_order_during_an_upgrade(state_dir: Place, second: Earlier) -> None:
    """Earlier agents are killed and followed by those of today (and now and then by another earlier
    one), the processes of the service are killed, and each agent goes on where the one before was:
    whatever was acknowledged is read, and is stored in the end."""
    print("seed", SEED)
    random = Random(SEED)
    state_dir.service_killed = state_dir.tracebacks_allowed = True
    agents = [second.agent(state_dir) for _ in range(3)]
    saved = [0] * len(agents)
    happened: Counter[str] = Counter()
    for event in range(EVENTS):
        slot = random.randrange(len(agents))
        run = f"run-{slot}"
        for _ in range(random.randrange(1, 5)):
            agents[slot].call(acts.save, run, saved[slot], size=3000)
            saved[slot] += 1
        what = random.choice(("agent", "agent", "service", "wait"))
        if what == "agent":
            agents[slot].kill()
            newer = happened["earlier agent"] > 0 and (
                not happened["newer agent"] or random.random() < event / EVENTS
            )
            agents[slot] = state_dir.agent() if newer else second.agent(state_dir)
            what = "newer agent" if newer else "earlier agent"
            with suppress(JournalError, ServiceUnavailableError):  # its service cannot read it
                step, state = agents[slot].call(acts.latest, run)
                assert (step["step"], state) == (saved[slot] - 1, state_of(run, step["step"], 3000))
                happened["read"] += 1
        elif what == "service":
            there = state_dir.service_processes()
            kill(*random.sample(there, random.randint(0, len(there))))
        else:
            agents[slot].call(acts.outcomes, timeout=random.random())
        happened[what] += 1
    print(happened)
    last = state_dir.agent()
    last.call(acts.save, "last", 0)
    last.settled(1, timeout=90)
    last.call(acts.drain)
    for slot, steps in enumerate(saved):
        assert peek.stored_steps(state_dir.database, f"run-{slot}") == list(range(steps))
    assert happened["read"] > 0
    assert min(happened["newer agent"], happened["earlier agent"]) > 0


def test_a_newer_service(state_dir: Place) -> None:
    """There is none yet: this one greets as it will. An agent goes on, and names itself as what to
    restart."""
    directory = state_dir.directory
    directory.ensure(state_dir.store().url)
    with socket.socket(socket.AF_UNIX) as listening:
        with directory.socket_address() as address:
            listening.bind(address)
        os.chmod(f"{directory.path}/service.sock", 0o600)
        listening.listen()
        listening.settimeout(30)
        agent = state_dir.agent(service="attach")
        agent.send(acts.save, "run-1", 0)
        connection, _ = listening.accept()
        with connection:
            greeting = (Message.HELLO, PROTOCOL_VERSION, 1, "9.9.9", REVISION + 1, "more")
            connection.sendall(frame(*greeting))
            agent.receive()
            until(lambda: trouble(agent), what="it reports the other version")
            assert "a newer livingai 9.9.9" in trouble(agent)
            assert "restart this program" in trouble(agent)
        assert agent.leave() == 0
    os.unlink(f"{directory.path}/service.sock")
