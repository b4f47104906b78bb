"""`livingai doctor` with the real conditions: what it finds, and what it says to do."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from livingai import ExecutionNode
from livingai.inspection.doctor.machine import is_shared, mount_of
from livingai.queue.lock import owner_alive
from tests.support import acts
from tests.support.agents import environment
from tests.support.cgroup import memory_group
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import leave_a_record
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import RedisServer
from tests.support.sandbox import small_disk
from tests.support.sqlite import refusing
from tests.support.waiting import frozen, gone, kill


def doctor(
    place: Place, store: str = "agent.db", *options: str, prefix: Sequence[str] = (),
    preexec: Callable[[], None] | None = None,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Exit status, and what was found by its code."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "livingai.cli", "doctor", "--json", "-s", store, *options],
        env={**environment(), "XDG_STATE_HOME": str(place.folder / "home")}, cwd=place.folder,
        capture_output=True, text=True, timeout=patience(90), check=False, preexec_fn=preexec,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert {"livingai", "Python", "packages"} <= set(found["facts"])
    for each in found["found"]:
        assert each["what"]
        assert each["why"], "each finding says why it matters"
    return done.returncode, {each["code"]: each for each in found["found"]}


@pytest.fixture(scope="module")
def postgres_url() -> str:
    """Of a server that outlives the test, and is asked for before its place."""
    return shared_url()


def fill(place: Place) -> None:
    """One state, stored, and no service any more."""
    with place.service(), place.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(60))


def test_a_sound_place_has_no_errors(state_dir: Place) -> None:
    fill(state_dir)
    status, found = doctor(state_dir)
    assert status == 0
    assert not [each for each in found.values() if each["grade"] == "error"]
    with state_dir.service():
        status, found = doctor(state_dir)
        assert status == 0
        assert "stale-socket" not in found
    assert not owner_alive(state_dir.directory.lock), "it starts no service"


def test_a_killed_service(state_dir: Place) -> None:
    leave_a_record(state_dir, state_dir.database)
    status, found = doctor(state_dir)
    assert found["stale-socket"]["grade"] == "note"
    assert found["waiting"]["what"].startswith("1 records wait")
    assert found["waiting"]["mend"] == "livingai drain --store agent.db"
    assert status == 0, "a warning"
    assert doctor(state_dir, "agent.db", "--strict")[0] == 1


def test_a_stopped_service(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    dispatcher = state_dir.pids()["dispatcher"]
    with frozen([dispatcher]):
        status, found = doctor(state_dir)
    assert status == 1
    assert "is stopped (SIGSTOP)" in found["silent-service"]["what"]
    assert found["silent-service"]["mend"] == f"kill -CONT {dispatcher}"
    agent.leave()
    state_dir.empty()


def test_quarantine(state_dir: Place) -> None:
    agent = state_dir.agent()
    with state_dir.service():
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        with refusing(state_dir.database):
            agent.call(acts.save, "run-1", 1)
            assert "quarantined" in agent.settled(2)
        status, found = doctor(state_dir)
        assert status == 1
        assert "refused by the store" in found["quarantine"]["what"]
        assert found["quarantine"]["mend"] == "livingai requeue agent.db"
        mended = subprocess.run(
            [sys.executable, "-m", "livingai.cli", *found["quarantine"]["mend"].split()[1:]],
            env=environment(), cwd=state_dir.folder, capture_output=True, text=True,
            timeout=patience(90), check=False,
        )  # fmt: skip
        assert mended.returncode == 0, mended
        assert "quarantine" not in doctor(state_dir)[1], "what it says to do mends it"
        agent.leave()


def test_a_moved_folder_and_a_lost_database(state_dir: Place, tmp_path: Path) -> None:
    fill(state_dir)
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in tmp_path.glob("agent.db*"):
        if not each.name.startswith("agent-"):
            shutil.move(each, moved / each.name)
    status, found = doctor(state_dir, str(moved / "agent.db"))
    assert status == 0
    assert found["moved"]["mend"] == f"livingai relocate {moved}/agent.db"
    (moved / "agent.db").unlink()
    status, found = doctor(state_dir, str(moved / "agent.db-livingai"))
    assert status == 1
    assert "there is no database" in found["database-gone"]["what"]
    shutil.rmtree(moved)


def test_another_users_directory(state_dir: Place) -> None:
    fill(state_dir)
    os.chmod(state_dir.directory.path, 0o777)
    status, found = doctor(state_dir)
    assert status == 1
    assert "other users can write" in found["permissions"]["what"]
    os.chmod(state_dir.directory.path, 0o700)


@pytest.mark.redis
def test_a_server_that_is_away_and_one_that_refuses(state_dir: Place) -> None:
    with RedisServer() as server:
        host = server.url.partition("//")[2]
        status, found = doctor(state_dir, server.url)
        assert status == 0
        assert "no-directory" in found, "no agent has used it"
        with server.configured("requirepass", "s3cret"):
            status, found = doctor(state_dir, f"redis://:wrong-s3cret@{host}")
            assert status == 1
            assert "store-refuses" in found
            assert "s3cret" not in json.dumps(found)
        server.kill()
        status, found = doctor(state_dir, server.url)
        assert status == 1
        assert found["store-away"]["mend"]


@pytest.mark.postgres
def test_postgres_says_its_version_and_hides_the_password(
    postgres_url: str, state_dir: Place
) -> None:
    status, found = doctor(state_dir, postgres_url)
    assert (status, set(found) & {"store-version", "clock-apart"}) == (0, set())
    status, found = doctor(state_dir, "postgresql://u:s3cret@127.0.0.1:1/none")
    assert status == 1
    assert "store-away" in found
    assert "s3cret" not in json.dumps(found)


@pytest.mark.parametrize("size", ["ro", "0"])
def test_no_shared_memory(state_dir: Place, size: str) -> None:
    fill(state_dir)
    options = ",ro" if size == "ro" else ""
    prefix = small_disk(Path("/dev/shm"), "4k", options)
    if not options:  # a full one
        prefix = (*prefix, "sh", "-c", 'head -c 4096 /dev/zero > /dev/shm/full; exec "$@"', "sh")
    status, found = doctor(state_dir, prefix=prefix)
    assert found["shared-memory"]["grade"] == "warning"
    assert "cannot be used" in found["shared-memory"]["what"]
    assert status == 0


def test_a_small_full_disk_in_memory(state_dir: Place, tmp_path: Path) -> None:
    """A tmpfs of 8 MiB with few inodes, in a namespace of its own: the place is copied there."""
    fill(state_dir)
    there = tmp_path / "small"
    prefix = (
        *small_disk(there, "8m", ",nr_inodes=40"), "sh", "-c",
        f'cp -a agent.db agent.db-livingai {there} && exec "$@"', "sh",
    )  # fmt: skip
    status, found = doctor(state_dir, str(there / "agent.db"), prefix=prefix)
    assert status == 1
    assert found["disk-full"]["grade"] == "error"
    assert found["inodes"]["grade"] == "warning"
    assert found["volatile-disk"]["grade"] == "warning"


def test_few_descriptors(state_dir: Place) -> None:
    fill(state_dir)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    _, found = doctor(state_dir, preexec=few)
    assert "200 open files" in found["descriptors"]["what"]


def test_a_small_control_group(state_dir: Place) -> None:
    """The examined process is in a real group with a limit."""
    fill(state_dir)
    with memory_group() as group:
        group.limit(200 << 20)
        _, found = doctor(state_dir, preexec=lambda: group.add(os.getpid()))
        assert "may use 200 MiB" in found["memory"]["what"]
        assert "out-of-memory" not in found


def test_a_clock_that_was_set_back(state_dir: Place) -> None:
    """The service's report bears a time that is yet to come."""
    fill(state_dir)
    path = Path(state_dir.directory.path, "service.report")
    report = json.loads(path.read_text())
    report["ended_at"] += 3600
    path.write_text(json.dumps(report))
    _, found = doctor(state_dir)
    assert "behind a time that the service has written down" in found["clock-back"]["what"]
    assert found["clock-back"]["grade"] == "warning"


def test_hostile_words_are_escaped(state_dir: Place) -> None:
    fill(state_dir)
    path = Path(state_dir.directory.path, "service.report")
    report = json.loads(path.read_text())
    report["trouble"] = "evil \x1b[2J\u202e"
    path.write_text(json.dumps(report))
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", "doctor", "-s", "agent.db"], env=environment(),
        cwd=state_dir.folder, capture_output=True, text=True, timeout=patience(90), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert r"evil \x1b[2J\u202e" in done.stdout


def test_a_dead_dispatcher_whose_supervisor_lives(state_dir: Place) -> None:
    """Nothing is found that is not there: it is started again."""
    with state_dir.service():
        first = state_dir.pids()["dispatcher"]
        os.kill(first, signal.SIGKILL)
        gone(first)
        state_dir.pids()
        assert doctor(state_dir)[0] == 0
        kill()


MOUNTS = """\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 24 0:26 / /dev/shm rw,nosuid - tmpfs tmpfs rw
40 24 0:44 / /srv/data rw,relatime - nfs4 server:/export rw,vers=4.2
41 40 0:45 / /srv/data/my\\040disk rw - fuse.sshfs me@host:/ rw
42 24 8:1 / /srv/database rw - xfs /dev/sda1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/srv/data/agent.db", "nfs4", True), ("/srv/data/my disk/x", "fuse.sshfs", True),
        ("/srv/database/x", "xfs", False), ("/home/x", "ext4", False), ("/dev/shm", "tmpfs", False),
    ],
)  # fmt: skip
def test_which_file_system_a_path_is_on(path: str, kind: str, shared: bool) -> None:
    """No network file system can be mounted here, so the table is made up."""
    mount = mount_of(path, MOUNTS)
    assert mount is not None
    assert (mount.kind, is_shared(mount.kind)) == (kind, shared)
