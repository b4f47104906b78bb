"""Commands on a service of another container, whose processes have other numbers there."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import acts
from tests.support.place import Place
from tests.support.places import command

CONTAINER = ("unshare", "-Urpf", "--mount-proc", "--kill-child")


def test_stop_signals_no_process_of_its_own_container(state_dir: Place) -> None:
    """It says where to run it, and the service goes on."""
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here (unshare -Urpf)")
    agent = state_dir.agent(prefix=CONTAINER)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    there = state_dir.pids()["supervisor"]
    told = command(state_dir, "stop", state_dir.database)
    assert told.returncode == 1
    assert f"another container, where its supervisor is process {there}" in told.stderr
    agent.call(acts.save, "run-1", 1)
    agent.settled(2)
    assert state_dir.pids()["supervisor"] == there
    assert agent.leave() == 0  # it is process 1: its service goes with it
    last = state_dir.agent()
    last.call(acts.save, "run-2", 0)
    last.settled(1)
    assert last.leave() == 0
