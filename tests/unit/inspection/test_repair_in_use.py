"""`livingai check --repair` is refused while somebody uses the directory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from unittest import mock

import pytest

from livingai.errors import DirectoryInUseError
from livingai.inspection import repair as repair_module
from livingai.inspection.check import check_directory
from livingai.inspection.repair import repair_directory
from livingai.inspection.report import Report
from livingai.inspection.workbench import Repaired
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import OwnerLock
from tests.support.agents import environment
from tests.support.directory_damage import (
    Checked,
    contents,
)
from tests.support.journals import (
    Writer,
)
from tests.support.odd import put_odd
from tests.support.patience import patience


@pytest.mark.parametrize("lock", ["lock", "supervisor_lock"])
def test_refused_while_a_service_runs(checked: Checked, lock: str) -> None:
    checked.in_journal("cursor").unlink()
    checked.path("quarantine").rmdir()
    owner = OwnerLock.acquire(getattr(checked.directory, lock))
    assert owner is not None
    before = contents(checked)
    try:
        with pytest.raises(
            DirectoryInUseError, match=r"a service, or .*nothing was changed.*livingai stop"
        ):
            repair_directory(checked.directory.path)
    finally:
        owner.release()
    assert contents(checked) == before
    assert not checked.path("quarantine").exists()


def test_a_refusal_says_whether_something_was_changed(checked: Checked) -> None:
    """The second of two locks is taken meanwhile, and the first one was no file."""
    put_odd("directory", checked.path("supervisor.lock"))
    repaired = Repaired(checked.directory.path)
    owners: list[OwnerLock | None] = []

    def look(path: str) -> Report:
        owners.append(OwnerLock.acquire(checked.directory.lock))
        return check_directory(path)

    with (
        mock.patch.object(repair_module, "check_directory", look),
        pytest.raises(DirectoryInUseError, match="a service, or another repair uses") as refused,
    ):
        repair_directory(checked.directory.path, repaired=repaired)
    (owner,) = owners
    assert owner is not None
    owner.release()
    assert "nothing was changed" not in str(refused.value)
    assert [where for where, _ in repaired.done] == ["supervisor.lock"]


def test_refused_while_an_agent_lives(checked: Checked) -> None:
    checked.in_journal("cursor").unlink()
    writer = Writer(checked.directory)
    before = contents(checked)
    with pytest.raises(DirectoryInUseError, match="the process that writes"):
        repair_directory(checked.directory.path)
    lock = checked.in_journal(OWNER_LOCK)
    lock.rename(lock.with_suffix(".kept"))
    put_odd("directory", lock)
    with pytest.raises(
        DirectoryInUseError, match=f"the process that writes {writer.journal.directory}"
    ):
        repair_directory(checked.directory.path)
    assert contents(checked) == before + Counter([lock.with_suffix(".kept").read_bytes()])
    lock.rmdir()
    lock.with_suffix(".kept").rename(lock)
    writer.close()
    assert repair_directory(checked.directory.path).done == [
        (f"{checked.where}/cursor", "made anew")
    ]


#: It writes until its input ends.
AGENT = """
import sys
from tests.support.journals import Writer, state_directory
writer = Writer(state_directory(sys.argv[1]))
sys.stdout.write("x")
sys.stdout.flush()
sys.stdin.read()
writer.close()
"""


def test_refused_if_an_agent_comes_before_the_locks_are_held(checked: Checked) -> None:
    """It may have found no service to wait for. Nothing was moved by then."""
    damaged = checked.path("quarantine", "x.record")
    damaged.write_bytes(b"no json\n")
    repaired = Repaired(checked.directory.path)
    command = [sys.executable, "-c", AGENT, checked.directory.path]
    agents: list[subprocess.Popen[bytes]] = []

    def look(path: str) -> Report:
        pipe = subprocess.PIPE
        agents.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment()))
        assert agents[0].stdout is not None
        assert agents[0].stdout.read(1) == b"x"
        return check_directory(path)

    try:
        with (
            mock.patch.object(repair_module, "check_directory", look),
            pytest.raises(DirectoryInUseError, match=r"process that writes .*nothing was changed"),
        ):
            repair_directory(checked.directory.path, repaired=repaired)
        assert repaired.done == []
        assert damaged.exists()
    finally:
        for agent in agents:
            agent.communicate(timeout=patience(60))
    assert [where for where, _ in repair_directory(checked.directory.path).done] == [
        "quarantine/x.record"
    ]
