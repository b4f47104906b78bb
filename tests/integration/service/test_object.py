"""``Service``: started from Python, alone in its directory, drained at its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore
from livingai.errors import (
    DirectoryMismatchError,
    ServiceRunningError,
    ServiceUnavailableError,
)
from tests.support import acts, peek
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen


def test_service_object(state_dir: Place) -> None:
    service = state_dir.service()
    with pytest.raises(ServiceUnavailableError):
        service.status()
    assert service.start() is service
    service.start()  # a second time
    assert service.status().store == SQLiteStore(state_dir.database).url
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(60))
        assert engine.latest_sync("run-1")[1] == b"state"
    service.stop()
    state_dir.empty()
    service.stop()  # a second time
    with state_dir.service() as again:
        assert again.status().journals == 0


def test_service_async(state_dir: Place) -> None:
    async def main() -> None:
        async with state_dir.service() as service, state_dir.engine() as engine:
            outcome = await (await engine.save(ExecutionNode("run-1"), b"state"))
            assert outcome.stored
            assert service.status().agents >= 1

    asyncio.run(main())


def test_second_service_is_refused(state_dir: Place) -> None:
    with state_dir.service() as first:
        pids = first.status().pids
        with pytest.raises(ServiceRunningError, match=rf"{pids.dispatcher}.*stop it first"):
            state_dir.service().start()
        assert first.status().pids == pids


def test_service_is_refused_beside_one_on_demand(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1")
    state_dir.pids()
    with pytest.raises(ServiceRunningError):
        state_dir.service().start()
    agent.call(acts.save, "run-1", 1)
    agent.settled(2)


def test_two_services_at_once(state_dir: Place) -> None:
    """Both find no service: the lock decides, and the second one raises an error that says so."""
    code = (
        "import sys; from livingai import Service, SQLiteStore; from livingai.errors import *\n"
        "service = Service(SQLiteStore(sys.argv[1]))\n"
        "try: service.start(); print('up', flush=True); sys.stdin.readline(); service.stop()\n"
        "except ServiceRunningError as error: print('refused', flush=True)\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(state_dir.database)], env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = sorted(process.stdout.readline() for process in both)  # type: ignore[union-attr]
    for process in both:
        process.communicate("stop\n", timeout=patience(30))
        assert process.returncode == 0
    assert said == ["refused\n", "up\n"]


def test_sigterm_drains(state_dir: Place) -> None:
    """What is queued when the service gets the signal to end is stored before it ends."""
    service = state_dir.service().start()
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    pids = state_dir.pids()
    with frozen(pids["writers"]):
        for step in range(1, 30):
            agent.call(acts.save, "run-1", step)
        agent.kill()
        os.kill(pids["supervisor"], signal.SIGTERM)
    assert service.wait() == 0
    service.stop()
    state_dir.empty()
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(30))
    assert state_dir.journals() == []


def test_stop_without_drain_keeps_the_journal(state_dir: Place) -> None:
    service = state_dir.service().start()
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with frozen(state_dir.pids()["writers"]):
        for step in range(1, 10):
            agent.call(acts.save, "run-1", step)
        agent.kill()
        service.stop(drain=False, timeout=1)
    state_dir.empty()
    assert len(state_dir.journals()) == 1
    with state_dir.service():
        state_dir.ask("drain")
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(10))


def test_service_of_a_dead_program_goes(state_dir: Place) -> None:
    """``Service`` lives as long as the program that made it."""
    code = (
        "import os, sys; from livingai import Service, SQLiteStore\n"
        "Service(SQLiteStore(sys.argv[1])).start()\nos.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code, str(state_dir.database)]
    assert (
        subprocess.run(command, env=environment(), timeout=patience(60), check=False).returncode
        == -9
    )
    state_dir.empty()


def test_two_stores_do_not_share_a_directory(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(60))
        other = SQLiteStore(state_dir.folder / "other.db")
        intruder = CheckpointEngine(other, directory=state_dir.directory.path)
        with pytest.raises(DirectoryMismatchError, match="directory="):
            intruder.save_sync(ExecutionNode("run-1"), b"other")
        with pytest.raises(DirectoryMismatchError):
            Service(other, state_dir.directory.path).start()
        assert engine.latest_sync("run-1")[1] == b"state"
