"""Identity of a database and its state directory on every store, and where a state directory is."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from livingai.errors import DirectoryMismatchError, StoreMismatchError
from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from livingai.stores.base import IDENTITY
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore
from tests.support import acts
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import RUN, command, leave_a_record, manifest
from tests.support.roles import Asked, Meanwhile
from tests.support.waiting import frozen, gone, kill


def forget_everything(url: str) -> None:
    """As if the store were a new one, with an identity of its own."""
    with closing(open_store(url)) as store:
        for info in store.list_executions():
            store.forget(info.execution_id) or store.delete_execution(info.execution_id)
        for name in list(store.marks() or {}):
            store.mark(name, None)


def test_store_is_another_one_while_records_wait(url: str, state_dir: Place) -> None:
    directory = leave_a_record(state_dir, url, directory=str(state_dir.folder / "state"))
    forget_everything(url)
    agent = state_dir.agent(database=url, directory=directory.path)
    with pytest.raises(DirectoryMismatchError, match=r"1 accepted record .*relocate.*--yes"):
        agent.call(acts.steps, RUN)  # what the cache has needs no store, and is the truth
    with closing(open_store(url)) as store:
        assert store.list_executions() == [], "something was written"
    told = command(state_dir, "relocate", url, "--directory", directory.path, "--yes")
    assert told.returncode == 0, told.stderr
    assert agent.call(acts.latest, RUN)[0] == {"step": 1}
    assert waiting_records(directory) == 0


def test_store_is_made_anew_when_nothing_waits(url: str, state_dir: Place) -> None:
    """Whether its service runs or not; by then the service has been given the new identity."""
    directory = str(state_dir.folder / "state")
    for step in range(3):
        agent = state_dir.agent(database=url, directory=directory)
        agent.call(acts.save, f"run-{step}", step)
        agent.settled(1)
        assert agent.call(acts.sla)["trouble"] == ""
        with closing(open_store(url)) as store:
            assert manifest(directory)[IDENTITY] == (store.marks() or {})[IDENTITY]
        agent.leave()
        state_dir.empty()
        forget_everything(url)


def test_the_identity_of_a_wiped_store_is_not_written_over_the_new_one(
    url: str, tmp_path: Path
) -> None:
    """The reader has seen the old identity. Then the store is wiped, and the writer knows the new
    one before the reader writes down what it has seen."""
    directory = Meanwhile(str(tmp_path / "state"))
    directory.ensure(open_store(url).url)
    with closing(Asked(open_store(url), StateDirectory(directory.path))) as writer:
        writer.handle("open", [])
    old = directory.manifest()[IDENTITY]

    def wiped() -> None:
        forget_everything(url)
        with closing(Asked(open_store(url), StateDirectory(directory.path))) as writer:
            writer.handle("open", [])

    directory.deed = wiped
    with closing(Asked(open_store(url), directory)) as reader:
        reader.handle("open", [])
    assert directory.written == [False, True]
    with closing(open_store(url)) as store:
        assert directory.manifest()[IDENTITY] == (store.marks() or {})[IDENTITY] != old


def test_a_directory_that_was_given_to_another_store_is_not_taken_back(
    url: str, state_dir: Place
) -> None:
    """An agent has joined, and its service has ended. Then the directory is given to another
    database, which is at another place: the agent's next save is refused, the service that its
    next question starts answers nothing, and the manifest stays."""
    path, other = str(state_dir.folder / "state"), state_dir.folder / "other.db"
    with SQLiteStore(other) as empty:
        empty.mark(IDENTITY, "another")
    first = state_dir.agent(database=url, directory=path)
    first.call(acts.save, RUN, 0)
    first.settled(1)
    agent = state_dir.agent(database=url, directory=path)
    assert agent.call(acts.steps, RUN) == [0]
    first.leave()
    with frozen([agent.pid]):  # else it may start a service before the directory is given away
        services = state_dir.service_processes()
        kill(*services)
        gone(*services)
        state_dir.service_killed = True
        told = command(state_dir, "relocate", other, "--directory", path, "--yes")
        assert told.returncode == 0, told.stderr
    given = manifest(path)
    with pytest.raises(DirectoryMismatchError, match=r"belongs to.*relocate"):
        agent.call(acts.save, RUN, 1)
    with pytest.raises(StoreMismatchError, match=r"belongs to.*relocate"):
        agent.call(acts.steps, RUN)
    assert manifest(path) == given
    with closing(open_store(url)) as store:
        assert len(list(store.nodes(RUN))) == 1
    agent.kill()
    state_dir.empty()
    told = command(state_dir, "relocate", url, "--directory", path, "--yes")
    assert told.returncode == 0, told.stderr
    with closing(open_store(url)) as store:
        assert len(list(store.nodes(RUN))) == 1


@pytest.mark.redis
def test_server_has_another_name(state_dir: Place) -> None:
    from tests.support.redis_servers import shared_server

    old = f"{shared_server().url}?prefix=t_{secrets.token_hex(6)}"
    new = old.replace("localhost", "127.0.0.1") if "localhost" in old else old.replace(
        "127.0.0.1", "localhost"
    )  # fmt: skip
    assert old != new
    directory = leave_a_record(state_dir, old, directory=str(state_dir.folder / "state"))
    agent = state_dir.agent(database=new, directory=directory.path)
    with pytest.raises(DirectoryMismatchError, match=r"1 accepted record waits there.*relocate"):
        agent.call(acts.latest, RUN)
    told = command(state_dir, "relocate", new, "--directory", directory.path)
    assert (told.returncode, told.stderr) == (0, "")
    assert agent.call(acts.latest, RUN)[0] == {"step": 1}


def test_serve_says_at_once_what_must_be_settled(state_dir: Place) -> None:
    """A server's service sees it only when it has connected."""
    from tests.support.redis_servers import shared_server

    url = f"{shared_server().url}?prefix=t_{secrets.token_hex(6)}"
    directory = leave_a_record(state_dir, url, directory=str(state_dir.folder / "state"))
    forget_everything(url)
    told = command(state_dir, "serve", url, "--directory", directory.path)
    assert told.returncode == 1
    assert StoreMismatchError.__name__ in told.stderr
    assert "relocate" in told.stderr


# -- where a state directory is --

SERVERS = [
    "redis://h", "unix:///run/redis.sock", "redis+cluster://h", "redis+sentinel://h/m",
    "postgresql://h/d", "tiered:redis://h|postgresql://h/d",
]  # fmt: skip

_SAY = """
import os, sys
from livingai.stores.opening import open_store
from livingai.errors import ConfigurationError
store = open_store(sys.argv[1])
if sys.argv[2]:
    os.setuid(int(sys.argv[2]))
try:
    print(store.default_directory())
except ConfigurationError as error:
    print("error", error)
"""


def default_directory(url: str, cwd: Path, nobody: bool = False, **home: str) -> str:
    """What a process with these of HOME and XDG_STATE_HOME says."""
    env = {k: v for k, v in environment().items() if k not in ("HOME", "XDG_STATE_HOME")}
    return subprocess.run(
        [sys.executable, "-c", _SAY, url, "54321" if nobody else ""], env={**env, **home}, cwd=cwd,
        check=True, capture_output=True, text=True, timeout=patience(60),
    ).stdout.strip()  # fmt: skip


@pytest.mark.parametrize("url", SERVERS)
def test_place_of_a_servers_state_directory(url: str, tmp_path: Path) -> None:
    below = "livingai/"
    found = default_directory(url, tmp_path, XDG_STATE_HOME="/state", HOME="/home/bob")
    assert found.startswith(f"/state/{below}")
    usual = default_directory(url, tmp_path, HOME="/home/bob")
    assert usual == found.replace("/state/", "/home/bob/.local/state/", 1)
    for wrong in ("relative", "./x", "~/x", ""):
        assert default_directory(url, tmp_path, XDG_STATE_HOME=wrong, HOME="/home/bob") == usual
    own = default_directory(url, tmp_path)  # from the user database
    assert own.startswith("/")
    assert default_directory(url, tmp_path, HOME="not/absolute") == own
    if os.geteuid() == 0:  # then we can be someone without a home
        said = default_directory(url, tmp_path, nobody=True)
        assert said.startswith("error")
        assert "directory=" in said
        assert "XDG_STATE_HOME" in said
        found = default_directory(url, tmp_path, nobody=True, XDG_STATE_HOME="/state")
        assert found.startswith(f"/state/{below}")
