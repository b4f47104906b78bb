"""A folder with a database is moved, copied, linked or mounted elsewhere: its state directory goes
with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from livingai import SQLiteStore
from livingai.errors import (
    InDoubtError,
    RecordsLeftError,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from livingai.stores.base import IDENTITY
from tests.support import acts, peek, programs
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.places import (
    RUN,
    change_database,
    command,
    leave_a_record,
    make_old,
    manifest,
    move_database,
    newest,
)
from tests.support.sandbox import bound
from tests.support.waiting import gone, kill, until


def moved(old: Path, new: Path) -> None:
    old.rename(new)


def moved_and_linked(old: Path, new: Path) -> None:
    old.rename(new)
    old.symlink_to(new)


def moved_to_another_disk(old: Path, new: Path) -> None:
    copied(old, new)
    shutil.rmtree(old)


def copied(old: Path, new: Path) -> None:
    subprocess.run(["cp", "-a", old, new], check=True)  # with the socket


WAYS = [moved, moved_and_linked, moved_to_another_disk, copied]


@pytest.mark.parametrize("directory", [None, "state", "other place"])
@pytest.mark.parametrize("way", WAYS)
def test_the_folder_of_database_and_directory_is_moved(
    state_dir: Place, way: Callable[[Path, Path], None], directory: str | None
) -> None:
    """The usual directory, one of the user's choice in the folder, and one that stays in place."""
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    stays = directory == "other place"
    if way is copied and stays:
        pytest.skip("one directory for two databases is a mistake: see below")

    def settings(folder: Path) -> dict[str, str]:
        place = state_dir.folder if stays else folder
        return {"directory": str(place / directory)} if directory else {}

    leave_a_record(state_dir, old / "agent.db", **settings(old))
    way(old, new)
    agent = state_dir.agent(database=new / "agent.db", **settings(new))
    assert newest(agent) == 1
    agent.call(acts.save, RUN, 2)
    agent.settled(1)
    assert agent.call(acts.sla)["trouble"] == ""
    agent.leave()
    state_dir.empty()
    assert peek.stored_steps(new / "agent.db", RUN) == [0, 1, 2]
    place = Path(settings(new).get("directory", f"{new}/agent.db-livingai"))
    assert manifest(place)["store"] == f"sqlite:///{new}/agent.db"
    if way is copied:  # the original is another truth, and undisturbed
        agent = state_dir.agent(database=old / "agent.db", **settings(old))
        assert newest(agent) == 1
        agent.call(acts.flush)
        assert agent.call(acts.steps, RUN) == [0, 1]
        assert agent.call(acts.sla)["trouble"] == ""


def test_no_tool_is_called_twice_in_a_moved_folder(state_dir: Place) -> None:
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    file = str(state_dir.folder / "world")
    agent = state_dir.agent(database=old / "agent.db")
    agent.call(acts.save, "warm up")
    agent.settled(1)
    services = state_dir.service_processes()
    agent.send(programs.perform, RUN, file, "tool after effect 1")
    agent.died(30)
    kill(*services)
    gone(*services)
    state_dir.service_killed = True
    old.rename(new)
    successor = state_dir.agent(database=new / "agent.db")
    with pytest.raises(InDoubtError, match="charge"):
        successor.call(programs.perform, RUN, file)
    assert successor.call(programs.perform, RUN, file, resolve=True) == programs.FINAL
    found = programs.effects(file)
    assert {found[f"tool {number}"] for number in range(programs.TOOLS)} == {1}


def test_folder_is_mounted_elsewhere(state_dir: Place) -> None:
    """The same folder under two names, one after the other and at the same time."""
    here, there = state_dir.folder / "here", state_dir.folder / "there"
    here.mkdir()
    prefix = bound(here, there)
    leave_a_record(state_dir, here / "agent.db")
    elsewhere = state_dir.agent(database=there / "agent.db", prefix=prefix)
    assert newest(elsewhere) == 1
    local = state_dir.agent(database=here / "agent.db")
    assert newest(local) == 1
    check_freshness(elsewhere, local)
    assert elsewhere.settled(2).keys() <= {"met", "late"}
    assert local.settled(2).keys() <= {"met", "late"}
    assert len({str(a.call(acts.service_pids)) for a in (local, elsewhere)}) == 1
    assert local.call(acts.steps, RUN) == [0, 1]


def check_freshness(one: Agent, two: Agent) -> None:
    """Two writes of each, read by the other."""
    for number in range(4):
        writer, reader = (one, two) if number % 2 else (two, one)
        run = f"run of {writer.pid}"
        writer.call(acts.save, run, number)
        assert reader.call(acts.latest, run)[0]["step"] == number, "stale"


@pytest.mark.parametrize("link", ["folder", "file"])
def test_links_lead_to_one_service(state_dir: Place, link: str) -> None:
    real, other = state_dir.folder / "real", state_dir.folder / "other"
    real.mkdir()
    if link == "folder":
        other.symlink_to(real)
    else:
        other.mkdir()
        (other / "agent.db").symlink_to(real / "agent.db")  # which is not there yet
    one = state_dir.agent(database=other / "agent.db")
    two = state_dir.agent(database=real / "agent.db")
    check_freshness(one, two)
    for agent in (one, two):
        assert agent.settled(2).keys() <= {"met", "late"}
    assert len({str(agent.call(acts.service_pids)) for agent in (one, two)}) == 1
    assert sorted(os.listdir(other)) == (
        ["agent.db"] if link == "file" else sorted(os.listdir(real))
    )
    told = command(state_dir, "status", other / "agent.db")
    assert told.returncode == 0
    assert f"{real}/agent.db-livingai" in told.stdout
    assert "agents           2" in told.stdout


def test_all_names_are_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir()
    link.symlink_to(home)
    monkeypatch.setenv("HOME", str(link))
    monkeypatch.chdir(link)
    (home / "alias.db").symlink_to("agent.db")
    names = ["agent.db", "./x/../agent.db", "~/agent.db", "alias.db", f"{link}/alias.db"]
    (home / "x").mkdir()
    stores = [SQLiteStore(name) for name in names]
    assert {store.url for store in stores} == {f"sqlite:///{home}/agent.db"}
    assert {store.default_directory() for store in stores} == {f"{home}/agent.db-livingai"}
    paths = {StateDirectory(name).path for name in ("s", "~/s", f"{link}/s", "./s/")}
    assert paths == {f"{home}/s"}


@pytest.mark.parametrize("way", [moved, moved_and_linked, moved_to_another_disk])
@pytest.mark.parametrize("database", ["as it is", "without identity"])
def test_directory_of_an_earlier_version_is_adopted(
    state_dir: Place, way: Callable[[Path, Path], None], database: str
) -> None:
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    directory = leave_a_record(state_dir, old / "agent.db")
    make_old(directory.path, old / "agent.db" if database == "without identity" else None)
    way(old, new)
    agent = state_dir.agent(database=new / "agent.db")
    assert newest(agent) == 1
    agent.call(acts.flush)
    assert agent.call(acts.steps, RUN) == [0, 1]
    with SQLiteStore(new / "agent.db") as store:
        identity = store.marks()[IDENTITY]
    assert manifest(f"{new}/agent.db-livingai")[IDENTITY] == identity


def test_database_that_was_moved_alone(state_dir: Place) -> None:
    """Nothing is read before what was left behind is stored, and `relocate` stores it first."""
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    directory = leave_a_record(state_dir, old / "agent.db")
    move_database(old / "agent.db", new / "agent.db")
    agent = state_dir.agent(database=new / "agent.db")
    with pytest.raises(RecordsLeftError, match=f"{directory.path}.*1 accepted .*relocate {new}"):
        agent.call(acts.latest, RUN)
    until(lambda: "livingai relocate" in agent.call(acts.sla)["trouble"], what="trouble")
    agent.call(acts.save, RUN, 2)  # accepted, and waits
    told = command(state_dir, "relocate", new / "agent.db")
    assert (told.returncode, told.stderr) == (0, "")
    assert "1 accepted records were stored" in told.stdout
    agent.settled(1)
    assert agent.call(acts.steps, RUN) == [0, 1, 2]
    until(lambda: agent.call(acts.sla)["trouble"] == "", what="no more trouble")
    assert waiting_records(directory) == 0
    state_dir.tracebacks_allowed = True


def test_a_database_moved_alone_whose_marks_cannot_be_changed(state_dir: Place) -> None:
    """The directory cannot be noted, and all else is compared and noted nevertheless."""
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    directory = leave_a_record(state_dir, old / "agent.db")
    identity = manifest(directory.path)[IDENTITY]
    move_database(old / "agent.db", new / "agent.db")
    change_database(
        new / "agent.db",
        "CREATE TRIGGER refuse BEFORE INSERT ON livingai_marks "
        "BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    agent = state_dir.agent(database=new / "agent.db")
    with pytest.raises(RecordsLeftError, match=f"{directory.path}.*1 accepted .*relocate {new}"):
        agent.call(acts.latest, RUN)
    assert manifest(new / "agent.db-livingai")[IDENTITY] == identity
    change_database(new / "agent.db", "DROP TRIGGER refuse")
    told = command(state_dir, "relocate", new / "agent.db")
    assert (told.returncode, told.stderr) == (0, "")
    assert newest(agent) == 1


def test_what_was_settled_is_seen_at_once(state_dir: Place) -> None:
    """The writer tries again only now and then, by itself."""
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    directory = leave_a_record(state_dir, old / "agent.db")
    move_database(old / "agent.db", new / "agent.db")
    agent = state_dir.agent(database=new / "agent.db")
    for _ in range(5):
        with pytest.raises(RecordsLeftError):
            agent.call(acts.latest, RUN)
    shutil.rmtree(directory.path)  # given up, as the error offers
    assert newest(agent) == 0


def test_records_in_another_directory_of_the_database_are_reported(state_dir: Place) -> None:
    """Said aloud, not refused: two directories may be two hosts."""
    usual = leave_a_record(state_dir, state_dir.database)
    agent = state_dir.agent(directory=str(state_dir.folder / "second"))
    assert newest(agent) == 0
    trouble = agent.call(acts.sla)["trouble"]
    assert usual.path in trouble
    assert "1 accepted record waits" in trouble
    assert "livingai relocate" in agent.said()
    told = command(state_dir, "relocate", state_dir.database)
    assert (told.returncode, told.stderr) == (0, "")
    assert newest(agent) == 1
    until(lambda: agent.call(acts.sla)["trouble"] == "", what="no more trouble")
    agent.leave()
    state_dir.empty()
    # The other way round: the usual one does not know of the second, but the database does.
    leave_a_record(state_dir, state_dir.database, directory=str(state_dir.folder / "second"))
    agent = state_dir.agent()
    agent.call(acts.latest, RUN)

    def troubled() -> bool:
        return f"{state_dir.folder}/second" in agent.call(acts.sla)["trouble"]

    until(troubled, what="trouble that names the second directory")
    told = command(state_dir, "relocate", state_dir.database)
    assert (told.returncode, told.stderr) == (0, "")
    until(lambda: agent.call(acts.sla)["trouble"] == "", what="no more trouble")


def test_two_directories_without_records_that_wait(state_dir: Place) -> None:
    agents = [state_dir.agent(directory=str(state_dir.folder / name)) for name in ("a", "b")]
    for number, agent in enumerate(agents):
        agent.call(acts.save, f"run-{number}")
        agent.settled(1)
        assert agent.call(acts.sla)["trouble"] == ""
    agents[0].kill()
    agents[1].call(acts.save, "run-1", 1)
    agents[1].settled(2)
    assert agents[1].call(acts.sla)["trouble"] == ""
    ids = {manifest(state_dir.folder / name)[IDENTITY] for name in ("a", "b")}
    assert len(ids) == 1


def test_status_of_a_moved_or_missing_database(state_dir: Place) -> None:
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    leave_a_record(state_dir, old / "agent.db")
    for suffix in ("-wal", "-shm", ""):
        (old / f"agent.db{suffix}").unlink(missing_ok=True)
    told = command(state_dir, "status", old / "agent.db")
    assert told.returncode == 3, "no service runs"
    assert f"{old}/agent.db-livingai" in told.stdout
    old.rename(new)
    told = command(state_dir, "check", new / "agent.db")
    assert told.returncode == 0
    assert "1 not stored yet" in told.stdout


@pytest.mark.parametrize("agents_live", [False, True])
def test_folder_is_moved_under_its_service(state_dir: Place, agents_live: bool) -> None:
    """The socket moves along, so an agent at the new place meets a service that looks for
    everything at the old one."""
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    first = state_dir.agent(database=old / "agent.db", idle_s=30.0)
    first.call(acts.save, RUN, 0)
    first.settled(1)
    services = state_dir.service_processes()
    if not agents_live:
        first.call(acts.close)
        first.leave()
    old.rename(new)
    agent = state_dir.agent(database=new / "agent.db")
    assert newest(agent) == 0
    agent.call(acts.save, "run-2", 1)
    agent.settled(1)
    assert agent.call(acts.steps, "run-2") == [1]
    gone(*services)
    first.end()


def test_directory_beside_a_link_is_where_an_earlier_version_had_it(state_dir: Place) -> None:
    """A database named by a symbolic link had its directory beside the link."""
    link = state_dir.folder / "link.db"
    directory = leave_a_record(state_dir, state_dir.database, directory=f"{link}-livingai")
    make_old(directory.path, state_dir.database)
    link.symlink_to(state_dir.database)
    agent = state_dir.agent(database=link)
    assert newest(agent) == 0
    assert directory.path in agent.call(acts.sla)["trouble"]
    assert "livingai relocate" in agent.said()
    told = command(state_dir, "relocate", link)
    assert (told.returncode, told.stderr) == (0, "")
    assert newest(agent) == 1
    assert agent.call(acts.sla)["trouble"] == ""
