"""Full disks: a typed error at the save that did not fit, and nothing lost of what was before it.

Agent and service run in a mount namespace of their own, with a small tmpfs.
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from livingai import ExecutionNode
from livingai.errors import DiskFullError, JournalError
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sandbox import small_disk
from tests.support.states import state_of
from tests.support.waiting import frozen

SIZE = 20_000


def fill(agent: AgentSide, first: int, most: int = 1000) -> int:
    """Save until the journal's disk is full; the step that did not fit."""
    for step in range(first, first + most):
        try:
            acts.save(agent, "run-1", step, size=SIZE)
        except DiskFullError as error:
            full = error
            break
    else:
        raise AssertionError(f"{most} saves fitted on the disk")
    assert isinstance(full, OSError)
    assert "free space" in str(full)
    assert "kept" in str(full)
    return step


def test_disk_of_the_journal(state_dir: Place) -> None:
    """The store does not keep up, and the disk is smaller than ``journal_bytes``."""
    disk = state_dir.folder / "disk"
    agent = state_dir.agent(
        prefix=small_disk(disk, "4m"), directory=str(disk / "state"), segment_bytes=1 << 18
    )
    agent.call(acts.save, "run-1", 0, size=SIZE)
    agent.settled(1)
    with frozen(agent.call(acts.service_pids)["writers"]):
        refused = agent.call(fill, 1)
        for _ in range(3):  # again, and it is still whole
            assert agent.call(fill, refused) == refused
            assert agent.call(acts.latest, "run-1")[1] == state_of("run-1", refused - 1, SIZE)
    assert refused > 20
    agent.settled(refused)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(refused))
    for step in range(refused, refused + 50):  # what was stored makes room
        agent.call(acts.save, "run-1", step, size=SIZE)
        agent.settled(step + 1)
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", refused + 49, SIZE)


def test_no_room_to_begin_with(state_dir: Place) -> None:
    disk = state_dir.folder / "disk"
    agent = state_dir.agent(
        prefix=small_disk(disk, "4m"), directory=str(disk / "state"), segment_bytes=1 << 18
    )
    agent.call(acts.fill_disk, str(disk / "filler"))
    for _ in range(2):
        with pytest.raises(DiskFullError, match="free space"):
            agent.call(acts.save, "run-1", 0)
    agent.call(acts.remove, str(disk / "filler"))
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 0)


def test_disk_of_the_database(state_dir: Place) -> None:
    """The store has no room: saves are accepted, and stored as soon as there is some."""
    disk = state_dir.folder / "disk"
    agent = state_dir.agent(
        prefix=small_disk(disk, "8m"),
        database=disk / "agent.db",
        directory=str(state_dir.folder / "state"),
        service_timeout_s=1.0,
    )
    agent.call(acts.save, "run-1", 0, size=SIZE)
    agent.settled(1)
    agent.call(acts.fill_disk, str(disk / "filler"))
    saved = 60
    for step in range(1, saved):
        agent.call(acts.save, f"run-{step}", step, size=50_000)
    assert agent.call(acts.outcomes, timeout=1.0)["known"] < saved, "the disk was not full"
    assert agent.call(acts.latest, "run-1")[1] == state_of("run-1", 1, 50_000)
    agent.call(acts.remove, str(disk / "filler"))
    assert agent.settled(saved).keys() <= {"met", "late"}
    fresh = state_dir.agent(
        prefix=("nsenter", "-t", str(agent.pid), "-U", "-m", "--preserve-credentials"),
        database=disk / "agent.db",
        directory=str(state_dir.folder / "state"),
        cache_ttl_s=1e-9,
    )
    for step in range(2, saved):
        expected = [{"step": step}, state_of(f"run-{step}", step, 50_000)]
        assert fresh.call(acts.latest, f"run-{step}") == expected


def test_read_only_disk(state_dir: Place) -> None:
    from livingai.errors import DirectoryPermissionError

    disk = state_dir.folder / "disk"
    agent = state_dir.agent(
        prefix=small_disk(disk, "1m", ",ro"), directory=str(disk / "state"), segment_bytes=1 << 18
    )
    with pytest.raises(DirectoryPermissionError, match=r"read-only.*directory="):
        agent.call(acts.save, "run-1", 0)


def limit_files() -> None:
    """In the child: no file larger than 2 MB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))


def test_file_size_limit(state_dir: Place) -> None:
    """``ulimit -f``: what needs a larger file is refused, the rest goes on."""
    with state_dir.service():
        agent = state_dir.agent(preexec_fn=limit_files, segment_bytes=1 << 20)
        agent.call(acts.save, "run-1", 0, size=SIZE)
        for _ in range(2):
            with pytest.raises(DiskFullError, match="file size limit"):
                agent.call(acts.save, "run-1", 1, size=3_000_000)
        agent.call(acts.save_many, "run-2", 100, size=SIZE)
        agent.settled(101)
        assert agent.leave() == 0
    assert peek.stored_steps(state_dir.database, "run-1") == [0]
    assert peek.stored_steps(state_dir.database, "run-2") == list(range(100))


def test_file_size_limit_below_one_segment(state_dir: Place) -> None:
    with state_dir.service():
        agent = state_dir.agent(preexec_fn=limit_files)  # a segment has 16 MB
        with pytest.raises(JournalError, match="file size limit"):
            agent.call(acts.save, "run-1", 0)
        with state_dir.engine() as engine:
            engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(60))
    assert peek.stored_state(state_dir.database, "run-1") == b"state"
    assert Path(state_dir.directory.journals).exists()
