"""Directories and database files that cannot be used: a typed error at the first call that needs
them, which says what to do; once it is done, everything that was saved before is there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore
from livingai.errors import (
    DirectoryError,
    DirectoryPermissionError,
    FormatVersionError,
    LivingAIError,
    ServiceUnavailableError,
    StoreError,
    StoreFormatError,
)
from livingai.queue.layout import FORMAT_VERSION
from livingai.queue.manifest import MANIFEST
from tests.support import acts, peek
from tests.support.agents import environment
from tests.support.odd import put_odd
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, kill


def save_before(place: Place) -> None:
    """Something is stored, and something else waits in the journal of a dead agent."""
    agent = place.agent()
    agent.call(acts.save, "stored")
    agent.settled(1)
    with frozen(place.service_processes()):
        agent.call(acts.save, "queued")
        agent.kill()  # before the service, which it would start again
        kill(*place.service_processes())
    place.empty()  # a process that was just being born sees that its parent is gone
    place.service_killed = True


def check_kept(place: Place) -> None:
    """All of :func:`save_before` is there."""
    with place.engine() as engine:
        for execution in ("stored", "queued"):
            assert engine.latest_sync(execution)[1] == state_of(execution, 0)
        assert engine.save_sync(ExecutionNode("stored"), b"more").result(patience(60)).stored
        place.ask("drain")
    assert peek.stored_state(place.database, "queued") == state_of("queued", 0)


def refused(place: Place, error: type[LivingAIError], says: str) -> None:
    """Saving, reading and starting a service raise ``error``, each time; nothing runs then."""
    for _ in range(2):
        with place.engine() as engine, pytest.raises(error, match=says):
            engine.save_sync(ExecutionNode("run-1"), b"state")
        with place.engine() as engine, pytest.raises(error, match=says):
            engine.latest_sync("stored")
    with pytest.raises(error, match=says):
        place.service().start()
    assert place.service_processes() == []


# -- the state directory --


def test_newer_format(state_dir: Place) -> None:
    save_before(state_dir)
    manifest = Path(state_dir.directory.path, MANIFEST)
    before = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(before), "format": FORMAT_VERSION + 1}))
    refused(state_dir, FormatVersionError, rf"format {FORMAT_VERSION + 1}.*upgrade livingai")
    manifest.write_text(before)
    check_kept(state_dir)


def test_damaged_manifest(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"state").result(patience(60))
    state_dir.empty()
    manifest = Path(state_dir.directory.path, MANIFEST)
    before = manifest.read_text()
    for text in ("", "{}", "[]", '{"format": "x"}', "\0" * 100, '{"format": 1'):
        manifest.write_text(text)
        refused(state_dir, DirectoryError, "manifest.json cannot be read")
    manifest.write_text(before)
    with state_dir.engine() as engine:
        assert engine.latest_sync("run-1")[1] == b"state"


def test_of_another_user(state_dir: Place) -> None:
    if os.geteuid():
        with pytest.raises(PermissionError, match="belongs to user 0"):
            CheckpointEngine(state_dir.store(), directory="/").latest_sync("run-1")
        return
    save_before(state_dir)
    os.chown(state_dir.directory.path, 4711, 4711)
    refused(state_dir, DirectoryPermissionError, "belongs to user 4711.*directory=")
    os.chown(state_dir.directory.path, 0, 0)
    check_kept(state_dir)


def test_a_file_is_in_the_way(state_dir: Place) -> None:
    Path(state_dir.directory.path).write_text("mine")
    refused(state_dir, DirectoryError, "a file is in the way.*directory=")
    assert Path(state_dir.directory.path).read_text() == "mine"


def test_a_directory_is_made_for_its_user_alone(state_dir: Place) -> None:
    umask = os.umask(0)
    try:
        with state_dir.engine() as engine:
            engine.save_sync(ExecutionNode("run-1"), b"secret").result(patience(60))
            made = list(os.walk(state_dir.directory.path))
            for folder, _, names in made:
                assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
                for name in names:
                    assert stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode) == 0o600, name
            assert "service.log" in made[0][2]
    finally:
        os.umask(umask)


@pytest.mark.parametrize("folder", ["", "journals", "quarantine"])
def test_a_directory_that_others_can_write_to_is_refused(state_dir: Place, folder: str) -> None:
    """A directory of our own user's that anybody can plant things in."""
    save_before(state_dir)
    place = os.path.join(state_dir.directory.path, folder).rstrip("/")
    for mode in (0o777, 0o770, 0o720, 0o702, 0o1777):
        os.chmod(place, mode)
        refused(state_dir, DirectoryPermissionError, f"mode {mode:04o}.*chmod 700 {place}")
    os.chmod(place, 0o755)
    check_kept(state_dir)


def test_a_directory_of_ones_own_that_others_can_write_to(state_dir: Place) -> None:
    os.mkdir(state_dir.directory.path)
    os.chmod(state_dir.directory.path, 0o777)
    refused(state_dir, DirectoryPermissionError, "chmod 700")
    assert os.listdir(state_dir.directory.path) == []


def test_log_of_an_earlier_version_is_closed_to_others(state_dir: Place) -> None:
    save_before(state_dir)
    os.chmod(state_dir.directory.log, 0o666)
    check_kept(state_dir)
    assert stat.S_IMODE(os.stat(state_dir.directory.log).st_mode) == 0o600


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "service.state", "service.lock", "supervisor.lock", "service.log",
     "journals", "quarantine"],
)  # fmt: skip
def test_planted_names_are_not_followed(state_dir: Place, name: str) -> None:
    """An error that names it, or it is put right; what it leads to stays as it was."""
    save_before(state_dir)
    path = os.path.join(state_dir.directory.path, name)
    aside = f"{path}.kept"
    if os.path.lexists(path):
        os.rename(path, aside)
    put_odd("link to a file", path)
    target = Path(os.path.realpath(path))
    error: Exception | None = None
    try:
        with state_dir.engine(service_timeout_s=3.0) as engine:
            engine.save_sync(ExecutionNode("run-1"), b"state").result(3.0)
    except LivingAIError as raised:
        error = raised
    if error is not None and not isinstance(error, ServiceUnavailableError | TimeoutError):
        assert name in str(error)
    assert target.read_bytes() == b"not ours to touch"
    state_dir.empty(30)
    if os.path.islink(path):
        assert error is not None, "it was followed"
        os.unlink(path)
        if os.path.lexists(aside):
            os.rename(aside, path)
    check_kept(state_dir)
    state_dir.tracebacks_allowed = True


@pytest.fixture
def open_folder(state_dir: Place) -> Iterator[Path]:
    """A folder that other users can enter; pytest's own ones are private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def as_nobody(database: Path, directory: Path) -> str:
    """Save as a user without rights, also to start a service; what was raised."""
    code = (
        "import os, sys\n"
        "from livingai import *\n"
        "import apsw, livingai.engine.engine, livingai.service.service, livingai.stores.sqlite\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "engine = CheckpointEngine(SQLiteStore(sys.argv[1]), directory=sys.argv[2])\n"
        "try: engine.save_sync(ExecutionNode('run-1'), b'state')\n"
        "except LivingAIError as error: print(type(error).__name__, error)\n"
        "else: print('saved')\n"
    )
    command = [sys.executable, "-c", code, str(database), str(directory)]
    done = subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def give(path: Path, mode: int) -> Path:
    """Make a folder with ``mode`` that belongs to the user of :func:`as_nobody`."""
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    path.chmod(mode)
    return path


def test_not_writable(open_folder: Path) -> None:
    databases = give(open_folder / "databases", 0o755)
    said = as_nobody(databases / "agent.db", give(open_folder / "state", 0o500))
    assert said.startswith("DirectoryPermissionError")
    assert "not writable" in said
    assert "directory=" in said
    assert os.listdir(open_folder / "state") == []


def test_cannot_be_made(open_folder: Path) -> None:
    databases = give(open_folder / "databases", 0o755)
    parent = give(open_folder / "parent", 0o555)
    said = as_nobody(databases / "agent.db", parent / "state")
    assert said.startswith("DirectoryPermissionError")
    assert "not writable" in said


def test_folder_of_the_database_not_writable(open_folder: Path) -> None:
    databases = give(open_folder / "databases", 0o555)
    said = as_nobody(databases / "agent.db", give(open_folder / "state", 0o700))
    assert said.startswith("StoreError")
    assert "not writable" in said
    assert "change its permissions or use another path" in said


# -- the database --


def test_not_a_database(state_dir: Place) -> None:
    save_before(state_dir)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{state_dir.database}{suffix}", f"{state_dir.database}.kept{suffix}")
    state_dir.database.write_text("dear diary, today I was no database\n" * 100)
    refused(state_dir, StoreFormatError, "not an SQLite database, or its beginning is damaged; use")
    assert state_dir.database.read_text().startswith("dear diary")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{state_dir.database}.kept{suffix}", f"{state_dir.database}{suffix}")
    check_kept(state_dir)


def test_another_applications_database(state_dir: Place) -> None:
    with closing(apsw.Connection(str(state_dir.database))) as connection:
        connection.execute("CREATE TABLE nodes (x); PRAGMA application_id = 4711")
    refused(state_dir, StoreFormatError, "another application")
    state_dir.database.unlink()


def test_newer_schema(state_dir: Place) -> None:
    save_before(state_dir)
    with closing(apsw.Connection(str(state_dir.database))) as connection:
        version = connection.pragma("user_version")
        connection.pragma("user_version", version + 1)
    refused(state_dir, StoreFormatError, "upgrade")
    with closing(apsw.Connection(str(state_dir.database))) as connection:
        connection.pragma("user_version", version)
    check_kept(state_dir)


def test_folder_of_the_database_is_missing(state_dir: Place) -> None:
    folder = state_dir.folder / "missing"
    store = SQLiteStore(folder / "agent.db")
    with pytest.raises(StoreError, match="does not exist; create it"):
        CheckpointEngine(store).save_sync(ExecutionNode("run-1"), b"state")
    with pytest.raises(StoreError, match="does not exist; create it"):
        Service(store).start()
    assert not folder.exists(), "it was made as a side effect"


def test_a_folder_is_no_database(state_dir: Place) -> None:
    state_dir.database.mkdir()
    refused(state_dir, StoreError, "not a regular file")
    state_dir.database.rmdir()


def test_path_that_is_too_long_for_a_socket(tmp_path: Path, state_dir: Place) -> None:
    """Unix sockets allow 107 bytes; a directory with a longer path works all the same."""
    folder = tmp_path / ("long " * 20) / ("ü" * 30)
    folder.mkdir(parents=True)
    place = Place(folder)
    place.tag = state_dir.tag
    agent = place.agent()
    agent.call(acts.save, "run-1")
    agent.settled(1)
    assert len(place.directory.path) > 107
    assert place.pids()["dispatcher"]
    assert agent.leave() == 0
    place.finish()
