"""``livingai serve`` under a service manager: what that hears, over a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from livingai.queue.waiting import waiting_records
from tests.integration.service.test_serving import locked
from tests.support import acts
from tests.support.agents import environment
from tests.support.manager import managed, variables_of
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import command
from tests.support.waiting import frozen, gone, until


@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_ready_once_it_answers(state_dir: Place, abstract: bool) -> None:
    """Not before: the service is asked the moment that READY=1 is heard, and starts nothing."""
    with managed(state_dir, abstract=abstract) as served:
        assert served.manager.hear() == {"READY": "1", "STATUS": "serving"}
        told = command(state_dir, "status", state_dir.database)
        assert "running since" in told.stdout, told
        supervisor = state_dir.pids()["supervisor"]
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & variables_of(supervisor)
        assert variables_of(served.process.pid) >= {"NOTIFY_SOCKET"}
        served.process.send_signal(signal.SIGTERM)
        heard = served.manager.hear_until("STATUS", "ended")
        assert next(each for each in heard if "STOPPING" in each)["STOPPING"] == "1"
        assert served.ended()[0] == 0


def test_the_watchdog_is_fed_by_what_the_dispatcher_does(state_dir: Place) -> None:
    """A dispatcher that is stopped answers nothing; one that goes on is alive again."""
    with managed(state_dir, watchdog_s=2.0) as served:
        served.manager.hear_until("WATCHDOG")
        dispatcher = state_dir.pids()["dispatcher"]
        with frozen([dispatcher]):
            served.manager.hear_until("STATUS", "does not answer")
            heard = served.manager.hear_until("STATUS", "does not answer")
            assert not [each for each in heard if "WATCHDOG" in each], heard
            served.manager.skip()
        served.manager.hear_until("WATCHDOG")
        assert served.end()[0] == 0


def test_the_store_may_be_named_by_a_variable(state_dir: Place) -> None:
    """Not on the command line, where others could read its password."""
    with managed(state_dir, by_variable=True) as served:
        served.manager.hear_until("READY")
        state_dir.pids()
        words = Path(f"/proc/{served.process.pid}/cmdline").read_bytes()
        assert b"agent.db" not in words
        assert served.end()[0] == 0


def test_a_watchdog_of_another_process_is_not_fed(state_dir: Place) -> None:
    address = str(state_dir.folder / "notify")
    code = (
        "import os, sys\nfrom livingai.service.notify import ManagerSocket\n"
        "found = ManagerSocket.from_environment()\n"
        "print(found.watchdog_s, sorted(set(os.environ) & {'NOTIFY_SOCKET', 'WATCHDOG_PID'}))"
    )
    for pid, wanted in (("1", "0.0 []"), ("", "3.0 []")):
        told = subprocess.run(
            [sys.executable, "-c", code], text=True, capture_output=True, check=True,
            timeout=patience(60), env=environment(
                NOTIFY_SOCKET=address, WATCHDOG_USEC="3000000", WATCHDOG_PID=pid
            ),
        )  # fmt: skip
        assert told.stdout.strip() == wanted


def test_a_stop_is_put_off_while_it_drains(state_dir: Place) -> None:
    """The store is locked: the service drains for as long as it may, says how much is left, and has
    the manager wait. Once the store takes it, everything is stored and the status is 0."""
    with managed(state_dir, "--drain-timeout", "600", watchdog_s=2.0) as served:
        served.manager.hear_until("READY")
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        with locked(state_dir):
            agent.call(acts.save_many, "run-2", 7)
            served.process.send_signal(signal.SIGTERM)
            heard = served.manager.hear_until("STOPPING")
            assert int(heard[-1]["EXTEND_TIMEOUT_USEC"]) > 10_000_000
            for _ in range(3):  # again and again
                heard = served.manager.hear_until("EXTEND_TIMEOUT_USEC")
                assert heard[-1]["WATCHDOG"] == "1"
                assert heard[-1]["STATUS"].startswith("draining 1 agents; 7 records on their way")
            with frozen([state_dir.pids()["dispatcher"]]):
                served.manager.skip()  # what was under way as it was stopped
                assert served.process.poll() is None
        agent.settled(8)
        assert served.ended()[0] == 0
        assert agent.leave() == 0


def test_what_is_in_trouble_is_said_and_is_no_reason_for_a_restart(state_dir: Place) -> None:
    with managed(state_dir, watchdog_s=2.0) as served:
        served.manager.hear_until("READY")
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        with locked(state_dir):
            agent.call(acts.save_many, "run-2", 7)
            heard = served.manager.hear_until("STATUS", "trouble: ")
            assert heard[-1]["WATCHDOG"] == "1"
            assert "7 records on their way, the oldest for " in heard[-1]["STATUS"]
        agent.settled(8)
        served.manager.hear_until("STATUS", "all stored")
        assert agent.leave() == 0
        assert served.end()[0] == 0


def test_a_second_signal_ends_it_at_once(state_dir: Place) -> None:
    """However long it may drain, and no process stays behind."""
    with managed(state_dir, "--drain-timeout", "90", watchdog_s=2.0) as served:
        served.manager.hear_until("READY")
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        pids = state_dir.pids()
        with locked(state_dir):
            agent.call(acts.save_many, "run-2", 7)
            served.process.send_signal(signal.SIGTERM)
            served.manager.hear_until("STOPPING")
            for _ in range(3):  # it drains by now
                served.manager.hear_until("STATUS", "draining 1 agents; 7 records")
            status, said = served.end(signal.SIGINT)
            assert (status, "7 records unstored" in said) == (4, True), said
            gone(pids["supervisor"], pids["dispatcher"])
        assert waiting_records(state_dir.directory) == 7
    agent.end()
    again = state_dir.agent()
    again.call(acts.save, "run-3", 0)
    again.settled(1)
    assert again.leave() == 0


def test_a_manager_that_is_gone_fails_nothing(state_dir: Place) -> None:
    with managed(state_dir, watchdog_s=2.0) as served:
        served.manager.hear_until("READY")
        served.manager.close()
        os.unlink(served.manager.address)
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        assert agent.leave() == 0
        status, said = served.end()
        assert status == 0
        assert said.count("cannot notify the service manager") == 1


# -- process 1 of a container --

CONTAINER = ("unshare", "-Urpf", "--mount-proc", "--kill-child")


def children(parent: int) -> list[int]:
    """Children of a process: of a main thread that has started no other process."""
    return [*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]


def is_zombie(pid: int) -> bool:
    """Whether it has ended and was not collected."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_as_process_1_it_leaves_no_zombies(state_dir: Place) -> None:
    """As a probe or ``docker exec`` does, a shell enters the container, and what it has started in
    the background outlives it: process 1 gets it."""
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here (unshare -Urpf)")
    with managed(state_dir, prefix=CONTAINER) as served:
        served.manager.hear_until("READY")
        (first,) = children(served.process.pid)
        enter = ["nsenter", "-t", str(first), "-U", "--preserve-credentials", "-p", "-m"]
        for _ in range(3):
            fifo = state_dir.folder / "fifo"
            os.mkfifo(fifo)
            shell = [*enter, "sh", "-c", '(read line < "$0") >/dev/null 2>&1 & true', str(fifo)]
            told = subprocess.run(
                shell, capture_output=True, text=True, timeout=patience(60), check=False
            )
            assert told.returncode == 0, told
            orphans = until(lambda: children(first)[1:], what="an orphan of process 1")
            fifo.write_text("end\n")
            gone(*orphans)
            until(lambda: not any(map(is_zombie, orphans)), what="no zombies")  # noqa: B023
            fifo.unlink()
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        assert agent.leave() == 0
        os.kill(first, signal.SIGTERM)  # as `docker stop` does
        served.manager.hear_until("STATUS", "ended")
        assert served.ended()[0] == 0
    assert waiting_records(state_dir.directory) == 0
