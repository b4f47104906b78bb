"""``livingai serve`` beside living agents: waited for, taken over, and left with work undone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import apsw
import pytest

from livingai import CheckpointEngine, ExecutionNode
from livingai.queue.waiting import waiting_records
from livingai.service.report import read_report
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.agents import environment
from tests.support.packages import copied_package
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import ended, gone, until


class Serving:
    """A ``livingai serve``."""

    def __init__(self, place: Place) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "livingai.cli", "serve", "agent.db"], env=environment(),
            cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def up(self) -> None:
        """Wait until it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving sqlite:///"), line + self.process.stdout.read()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; its exit status and what it still had to say."""
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=patience(60))[0]
        return self.process.returncode, rest


@contextmanager
def serving(place: Place) -> Iterator[Serving]:
    """A service in the foreground, ended with the block."""
    found = Serving(place)
    try:
        found.up()
        yield found
    finally:
        if found.process.poll() is None:
            found.end()
        elif found.process.stdout is not None:
            found.process.stdout.close()


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """The store takes nothing inside the block."""
    with closing(apsw.Connection(str(place.database))) as other:
        other.set_busy_timeout(5000)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def trouble(agent: AgentSide) -> list[str]:
    """State of the connection, and what is wrong."""
    found = agent.engine.sla()
    return [found.service, found.trouble]


# -- agents wait --


def test_attached_agents_never_start_a_service(state_dir: Place) -> None:
    agent = state_dir.agent(service="attach")
    agent.call(acts.save, "run-1", 0)
    until(lambda: "livingai serve" in agent.call(trouble)[1], what="trouble told")
    assert agent.call(trouble)[0] == "waiting"
    assert state_dir.service_processes() == []
    with serving(state_dir):
        agent.settled(1)
        assert agent.call(trouble) == ["connected", ""]
    agent.call(acts.save, "run-1", 1)
    until(lambda: "livingai serve" in agent.call(trouble)[1], what="trouble told")
    with serving(state_dir):
        agent.settled(2)
    assert agent.leave() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_agents_wait_for_a_service_that_was_served(
    state_dir: Place, number: signal.Signals
) -> None:
    """A restart of ``serve`` meets no service of the agents' own."""
    agent = state_dir.agent(served_grace_s=60.0)
    with serving(state_dir) as first:
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        if number == signal.SIGTERM:
            assert first.end()[0] == 0
        else:
            pids = state_dir.pids()
            first.process.kill()
            ended(first.process)
            gone(pids["supervisor"], pids["dispatcher"])
    agent.call(acts.save, "run-1", 1)
    until(lambda: "return" in agent.call(trouble)[1], what="the wait told")
    newcomer = state_dir.agent(served_grace_s=60.0)
    newcomer.call(acts.save, "run-2", 0)
    until(lambda: "return" in newcomer.call(trouble)[1], what="the wait told")
    assert state_dir.service_processes() == []
    with serving(state_dir):
        agent.settled(2)
        newcomer.settled(1)
    assert agent.leave() == newcomer.leave() == 0


def test_agents_do_not_wait_for_ever(state_dir: Place) -> None:
    agent = state_dir.agent(served_grace_s=1.0)
    with serving(state_dir):
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
    agent.call(acts.save, "run-1", 1)
    agent.settled(2)
    assert not read_report(state_dir.directory.path).served


def test_agents_do_not_wait_for_a_service_that_ended_long_ago(state_dir: Place) -> None:
    """A service that was killed and does not come back holds up no agent that comes later."""
    agent = state_dir.agent(service="attach")
    with serving(state_dir) as served:
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        pids = state_dir.pids()
        served.process.kill()
        ended(served.process)
        gone(pids["supervisor"], pids["dispatcher"])
    agent.end()
    assert read_report(state_dir.directory.path).served
    time.sleep(1.0)  # that is what "long ago" is for the next one
    newcomer = state_dir.agent(served_grace_s=1.0)
    newcomer.call(acts.save, "run-2", 0)
    newcomer.settled(1)
    assert "return" not in newcomer.said()
    newcomer.leave()


# -- serve takes over --


def test_serve_takes_over_from_a_service_on_demand(state_dir: Place) -> None:
    agents = [state_dir.agent() for _ in range(3)]
    for number, agent in enumerate(agents):
        agent.call(acts.start, [f"run-{number}"], size=2_000, interval_s=0.002)
        agent.call(acts.saved, 20)
    before = state_dir.pids()
    with serving(state_dir) as served:
        assert read_report(state_dir.directory.path).served
        after = state_dir.pids()
        assert before["supervisor"] != after["supervisor"]
        assert before["dispatcher"] != after["dispatcher"]
        for agent in agents:
            agent.call(acts.saved, 20)
        second = Serving(state_dir)
        refused = second.process.communicate(timeout=patience(60))[0]
        assert second.process.returncode == 1
        assert "stop it first" in refused
        for number, agent in enumerate(agents):
            rounds = agent.call(acts.halt)["rounds"]
            agent.settled(rounds)
            assert peek.stored_steps(state_dir.database, f"run-{number}") == list(range(rounds))
            assert agent.leave() == 0
        assert served.end()[0] == 0


# -- what is left undone --


def test_serve_says_what_it_leaves(state_dir: Place) -> None:
    """Asked to end while the store takes nothing: the count, and an exit status of its own."""
    with serving(state_dir) as served:
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        with locked(state_dir):
            agent.call(acts.save_many, "run-2", 7)
            status, said = served.end()
    assert status == 4
    assert "7 records unstored" in said
    assert waiting_records(state_dir.directory) == 7
    report = read_report(state_dir.directory.path)
    assert report.left == 7
    told = subprocess.run(
        [sys.executable, "-m", "livingai.cli", "status", "agent.db"], env=environment(),
        cwd=state_dir.folder, capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert told.returncode == 3
    assert "not stored yet   7 records" in told.stdout
    assert "with 7 records unstored" in told.stdout
    with serving(state_dir):
        agent.settled(8)
        assert agent.leave() == 0


def test_close_says_what_it_leaves(state_dir: Place, caplog: pytest.LogCaptureFixture) -> None:
    """And the service stays with it until the store takes it."""
    engine = CheckpointEngine(state_dir.store(), idle_s=0.0)
    engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(30))
    with locked(state_dir):
        for _ in range(5):
            engine.save_sync(ExecutionNode("run-2"), b"state")
        until(lambda: "lock" in engine.sla().trouble, what="trouble told", timeout=30)
        engine.close_sync(0.1)
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        (text,) = [line for line in said if "left with" in line]
        assert "left with 5 writes" in text
        assert "lock" in text
        assert "livingai status" in text
        assert engine.sla().service == "closed"
        pids = state_dir.pids()
        assert state_dir.ask("status").inflight == 5
    until(lambda: not waiting_records(state_dir.directory), what="all is stored", timeout=30)
    gone(pids["supervisor"], pids["dispatcher"])
    assert len(peek.stored_nodes(state_dir.database, "run-2")) == 5


def test_an_exit_without_close_says_so_too(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with locked(state_dir):
        agent.call(acts.save_many, "run-2", 3)
        until(lambda: "lock" in agent.call(trouble)[1], what="trouble told", timeout=30)
        assert agent.leave() == 0
        assert "left with 3 writes that are not stored yet: " in agent.said()
    state_dir.empty(timeout=30)
    assert peek.stored_steps(state_dir.database, "run-2") == [0, 1, 2]


def test_sla_says_closed(state_dir: Place) -> None:
    engine = state_dir.engine()
    assert engine.sla().service == "not started"
    engine.close_sync()
    assert engine.sla().service == "closed"


# -- process 1 --

PROCESS_ONE = """
import os, sys, time
sys.path.insert(0, {root!r})
assert os.getpid() == 1 or {reaper}
if {reaper}:
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.protocol.verbs import READY
def children():
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{{name}}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append((int(name), fields[0]))
    return found
for turn in range(2):
    with CheckpointEngine(SQLiteStore({database!r}), idle_s=0.0, compressors=1) as engine:
        assert engine.save_sync(ExecutionNode("run"), b"x" * 5000).result(30).stored
        engine._ask_sync(READY)
    deadline = time.monotonic() + 30
    while children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not children(), children()
print("none left")
"""


@pytest.mark.parametrize("how", ["process 1", "subreaper"])
def test_no_zombies_where_orphans_are_collected(state_dir: Place, how: str) -> None:
    prefix = ["unshare", "-Urpf", "--mount-proc"] if how == "process 1" else []
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here (unshare -Urpf)")
    from tests.support.agents import ROOT

    code = PROCESS_ONE.format(
        root=str(ROOT), database=str(state_dir.database), reaper=how == "subreaper"
    )
    told = subprocess.run(
        [*prefix, sys.executable, "-c", code], env=environment(), cwd=state_dir.folder,
        capture_output=True, text=True, timeout=patience(90), check=False,
    )  # fmt: skip
    assert told.stdout == "none left\n", told


# -- another version --


def test_a_service_of_another_version(state_dir: Place) -> None:
    """Agents use it, and name it in their trouble for as long as it runs."""
    copy = copied_package(state_dir.folder / "copy")
    other = state_dir.agent(env={"PYTHONPATH": f"{copy}:{environment()['PYTHONPATH']}"})
    other.call(acts.save, "run-1", 0)
    other.settled(1)
    agent = state_dir.agent()
    agent.call(acts.save, "run-2", 0)
    agent.settled(1)
    assert "the service runs livingai 9." in agent.call(trouble)[1]
    assert "the service runs livingai 9." in agent.said()
    assert other.call(trouble)[1] == ""
    other.leave()
    agent.leave()


def test_a_service_of_another_protocol(state_dir: Place) -> None:
    copy = copied_package(state_dir.folder / "copy")
    protocol = copy / "livingai" / "protocol" / "frames.py"
    protocol.write_text(protocol.read_text().replace("VERSION = 1", "VERSION = 2"))
    other = state_dir.agent(env={"PYTHONPATH": f"{copy}:{environment()['PYTHONPATH']}"})
    other.call(acts.save, "run-1", 0)
    other.settled(1)
    agent = state_dir.agent(service_timeout_s=20.0)
    agent.call(acts.save, "run-2", 0)
    until(lambda: "protocol 2" in agent.call(trouble)[1], what="trouble told")
    assert "the same livingai" in agent.call(ask_mismatch)
    other.kill()  # its service goes, ours comes
    agent.settled(1)
    assert agent.call(trouble) == ["connected", ""]
    agent.leave()


def ask_mismatch(agent: AgentSide) -> str:
    """What a question to the service is answered."""
    from livingai.errors import VersionMismatchError

    try:
        agent.engine.nodes_sync("run-1")
    except VersionMismatchError as error:
        return str(error)
    return ""
