"""Processes of several containers on one state directory. The namespaces are made here: a container
is that, and an image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from livingai.queue.waiting import waiting_records
from tests.support import acts, peek
from tests.support.agents import ROOT, environment
from tests.support.manager import managed
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import command
from tests.support.waiting import ended, until

#: Process and mount namespaces, as the containers of a pod have them.
CONTAINER = ("unshare", "-Urpfm", "--mount-proc", "--kill-child")
AGENT = ROOT / "deploy" / "docker" / "agent.py"


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process and mount namespaces here (unshare -Urpfm)")


def children(parent: int) -> list[int]:
    """Children of a process."""
    return [*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]


def test_service_and_agents_in_containers_of_their_own(state_dir: Place) -> None:
    """They share the directory, and no process numbers: what an agent saves is stored, one that is
    killed is noticed, and a service that comes back in another container goes on."""
    with managed(state_dir, prefix=CONTAINER) as served:
        served.manager.hear_until("READY")
        agents = [state_dir.agent(prefix=CONTAINER, service="attach") for _ in range(2)]
        for number, agent in enumerate(agents):
            agent.call(acts.save_many, f"run-{number}", 20)
            agent.settled(20)
        agents[0].call(acts.save_many, "run-0", 5)
        agents[0].kill()
        until(lambda: len(peek.stored_nodes(state_dir.database, "run-0")) == 25, what="all stored")
        until(
            lambda: state_dir.ask("status").journals_of_dead_owners == 1,
            what="the death noticed",
        )
        (first,) = children(served.process.pid)
        os.kill(first, signal.SIGKILL)  # the container with all that is in it
        served.ended()
    agents[1].call(acts.save_many, "run-1", 5)
    assert waiting_records(state_dir.directory) == 5
    with managed(state_dir, prefix=CONTAINER) as served:
        served.manager.hear_until("READY")
        agents[1].settled(25)
        outside = state_dir.agent(service="attach")  # of the host
        outside.call(acts.save_many, "run-2", 5)
        outside.settled(5)
        told = command(state_dir, "status", state_dir.database)
        assert "2 agents" in told.stdout.replace("agents           2", "2 agents"), told.stdout
        assert agents[1].leave() == outside.leave() == 0
        os.kill(children(served.process.pid)[0], signal.SIGTERM)
        assert served.ended()[0] == 0


READ_ONLY = """
mount --bind "$0" "$0" && mount -t tmpfs tmpfs /dev/shm && mount -o remount,bind,ro / || exit 9
touch /var/forbidden 2>/dev/null && exit 8
exec env -i PATH="$PATH" PYTHONPATH="$PYTHONPATH" NOTIFY_SOCKET="$NOTIFY_SOCKET" "$@"
"""


def test_a_read_only_root_without_a_home(state_dir: Place) -> None:
    """Only the volume and /dev/shm can be written to; there is no HOME and no other variable."""
    prefix = (*CONTAINER, "sh", "-c", READ_ONLY, str(state_dir.folder))
    with managed(state_dir, prefix=prefix) as served:
        served.manager.hear_until("READY")
        agent = state_dir.agent(service="attach")
        agent.call(acts.save, "run-1", 0, size=200_000)
        agent.settled(1)
        told = command(state_dir, "status", state_dir.database)
        assert "trouble" not in told.stdout
        assert agent.leave() == 0
        os.kill(children(served.process.pid)[0], signal.SIGTERM)
        assert served.ended()[0] == 0


def test_the_agent_of_the_compose_file(state_dir: Place) -> None:
    """It is killed with its container, and goes on where it was."""
    variables = environment(
        LIVINGAI_STORE=f"sqlite:///{state_dir.database}",
        LIVINGAI_DIRECTORY=state_dir.directory.path,
        AGENT_STEPS="60",
    )
    run = [*CONTAINER, sys.executable, str(AGENT)]
    with managed(state_dir, prefix=CONTAINER) as served:
        served.manager.hear_until("READY")
        first = subprocess.Popen(run, env=variables, stdout=subprocess.PIPE, text=True)
        until(lambda: _nodes(state_dir) >= 5, what="a few steps")
        first.kill()
        ended(first)
        assert first.stdout is not None
        first.stdout.close()
        before = _nodes(state_dir)
        assert before < 100
        told = subprocess.run(
            run, env=variables, capture_output=True, text=True, timeout=patience(60), check=False
        )
        assert told.stdout == "60 steps\n", told
        os.kill(children(served.process.pid)[0], signal.SIGTERM)
        assert served.ended()[0] == 0


def _nodes(place: Place) -> int:
    told = command(place, "list", "-s", place.directory.path, "--json")
    return sum(json.loads(line)["nodes"] for line in told.stdout.splitlines())
