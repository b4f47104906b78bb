"""A database is replaced, restored from a backup, or deleted, under its state directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.errors import (
    DirectoryError,
    DirectoryMismatchError,
    ExecutionNotFoundError,
    StoreMismatchError,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from livingai.service.relocation import bring, find_misplaced
from livingai.stores.base import IDENTITY
from livingai.stores.belonging import enter
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import (
    RUN,
    change_database,
    command,
    damage_the_notes,
    leave_a_record,
    manifest,
    move_database,
    newest,
)
from tests.support.waiting import gone, kill, until


def test_a_copied_database_is_another_store(state_dir: Place) -> None:
    """A copy of the database alone, while the original lives where its directory says."""
    old, new = state_dir.folder / "old", state_dir.folder / "new"
    old.mkdir()
    leave_a_record(state_dir, old / "agent.db")
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("*-livingai"))
    agent = state_dir.agent(database=new / "agent.db")
    assert newest(agent) == 0
    agent.call(acts.save, RUN, 5)
    agent.settled(1)
    assert agent.call(acts.sla)["trouble"] == ""
    agent.leave()
    # But one directory is not for both.
    intruder = state_dir.agent(database=new / "agent.db", directory=f"{old}/agent.db-livingai")
    with pytest.raises(DirectoryMismatchError, match="1 accepted record waits there"):
        intruder.call(acts.save, RUN, 6)


@pytest.mark.parametrize("what", ["removed", "moved", "another"])
def test_database_is_replaced_while_records_wait(state_dir: Place, what: str) -> None:
    database, kept = state_dir.database, state_dir.folder / "kept.db"
    leave_a_record(state_dir, database)
    move_database(database, kept)
    if what == "another":
        with SQLiteStore(database) as store:
            store.mark(IDENTITY, "another")
    for act in (acts.save, acts.latest):
        agent = state_dir.agent()
        with pytest.raises(DirectoryMismatchError, match=r"1 accepted record .*relocate.*--yes"):
            agent.call(act, RUN)
    with pytest.raises(DirectoryMismatchError):
        state_dir.service().start()
    assert database.exists() == (what == "another"), "a new database was made"
    if what == "moved":  # the usual choice: bring the directory to it
        told = command(state_dir, "relocate", kept, "--directory", state_dir.directory.path)
        assert (told.returncode, told.stderr) == (0, "")
        assert peek.stored_steps(kept, RUN) == [0, 1]
        state_dir.service_killed = False  # its directory is another database's now
        return
    if what == "removed":  # restore it: it just goes on
        move_database(kept, database)
        assert newest(state_dir.agent()) == 1
        return
    told = command(state_dir, "relocate", database)
    assert told.returncode == 1
    assert "--yes" in told.stderr
    assert waiting_records(state_dir.directory) == 1
    told = command(state_dir, "relocate", database, "--yes")
    assert (told.returncode, told.stderr) == (0, "")
    assert peek.stored_steps(database, RUN) == [1]


def test_a_directory_is_not_given_away_while_its_agents_live(state_dir: Place) -> None:
    """What they save next would go into the other database."""
    other, path = state_dir.folder / "other.db", state_dir.directory.path
    with SQLiteStore(other) as empty:
        empty.mark(IDENTITY, "another")
    agent = state_dir.agent()
    agent.call(acts.save, RUN, 0)
    agent.settled(1)
    before = manifest(path)
    services = state_dir.service_processes()
    for _ in range(2):  # with the service, and without it
        told = command(state_dir, "relocate", other, "--directory", path, "--yes")
        assert told.returncode == 1
        assert "end the agents and run `livingai stop" in told.stderr
        assert manifest(path) == before
        kill(*services)
        gone(*services)
    state_dir.service_killed = True
    agent.call(acts.save, RUN, 1)
    agent.settled(2)
    assert peek.stored_steps(state_dir.database, RUN) == [0, 1]


def test_a_directory_that_no_service_has_used_is_not_given_away(state_dir: Place) -> None:
    """Its manifest has no identity yet, and records wait: neither under its agent, nor without
    asking once that has ended."""
    other, path = state_dir.folder / "other.db", state_dir.directory.path
    with SQLiteStore(other) as empty:
        empty.mark(IDENTITY, "another")
    agent = state_dir.agent(service="attach")
    agent.call(acts.save, RUN, 0)
    before = manifest(path)
    assert IDENTITY not in before
    for reason, *options in [
        ("end the agents and run `livingai stop", "--yes"),
        ("end the agents and run `livingai stop",),
        ("nothing was changed; --yes",),
    ]:
        if "nothing" in reason:
            agent.kill()
        told = command(state_dir, "relocate", other, "--directory", path, *options)
        assert told.returncode == 1
        assert reason in told.stderr
        assert manifest(path) == before
    assert state_dir.directory.journal_paths()
    assert newest(state_dir.agent()) == 0
    assert peek.stored_steps(other, RUN) == []


@pytest.mark.parametrize("service", ["never ran", "has ended"])
def test_an_agent_that_has_only_read_saves_nothing_into_another_database(
    state_dir: Place, service: str
) -> None:
    """It has no journal by which `relocate` could see it, so it looks when it makes one."""
    other, path = state_dir.folder / "other.db", state_dir.directory.path
    with SQLiteStore(other) as empty:
        empty.mark(IDENTITY, "another")
    if service == "has ended":
        agent = state_dir.agent()
        agent.call(acts.save, RUN, 0)
        agent.settled(1)
        agent.leave()
        state_dir.empty()
    agent = state_dir.agent(service="attach")
    agent.call(join)
    told = command(state_dir, "relocate", other, "--directory", path, "--yes")
    assert (told.returncode, told.stderr) == (0, "")
    for _ in range(2):
        with pytest.raises(DirectoryMismatchError, match="nothing waits there"):
            agent.call(acts.save, RUN, 1)
        assert state_dir.journals() == []
    assert manifest(path)["store"] == f"sqlite:///{other}"


def join(agent: AgentSide) -> None:
    """Join the state directory, and save nothing."""
    agent.engine.open_handle()


def test_an_agent_that_saves_while_its_directory_is_given_away(state_dir: Place) -> None:
    """It makes its journal after `relocate` has looked for agents, and before the manifest is
    written: the directory stays its store's."""
    other, path = SQLiteStore(state_dir.folder / "other.db"), state_dir.directory.path
    agent = state_dir.agent(service="attach")
    agent.call(join)
    before = manifest(path)
    with other:
        found = find_misplaced(other, path)
        assert not found[0].occupied
        agent.call(acts.save, RUN, 0)
        with pytest.raises(DirectoryError, match="end the agents"):
            bring(other, found[0], lambda: other)
    assert manifest(path) == before
    agent.leave()
    assert newest(state_dir.agent()) == 0


def test_a_directory_that_was_given_to_a_third_database_meanwhile(tmp_path: Path) -> None:
    """Somebody has run `relocate` twice, for two databases, and was asked about the first one."""
    databases = [SQLiteStore(tmp_path / f"{name}.db") for name in ("one", "other", "third")]
    one, other, third = databases
    directory = StateDirectory(tmp_path / "state")
    enter(one, directory)
    for store in databases:
        with store:
            store.mark(IDENTITY, store.url)
    directory.change_manifest({IDENTITY: one.url})
    with other, third:
        (asked,) = find_misplaced(other, directory.path)
        bring(third, find_misplaced(third, directory.path)[0], lambda: third)
        before = directory.manifest()
        assert before["store"] == third.url
        with pytest.raises(DirectoryError, match=f"taken into use for {third.url}"):
            bring(other, asked, lambda: other)
    assert directory.manifest() == before


def test_a_damaged_mark_costs_no_record(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, RUN, 0)
    agent.settled(1)
    agent.leave()
    state_dir.empty()
    damage_the_notes(state_dir.database)
    agent = state_dir.agent()
    agent.call(acts.save, RUN, 1)
    until(lambda: "livingai_marks" in agent.call(acts.sla)["trouble"], what="trouble")
    change_database(state_dir.database, "DELETE FROM livingai_marks WHERE name LIKE 'directory:%'")
    assert agent.settled(1).keys() <= {"met", "late"}
    assert peek.stored_steps(state_dir.database, RUN) == [0, 1]


def test_database_is_made_anew_when_nothing_waits(state_dir: Place) -> None:
    """Also while an agent and the service live, and once they have ended."""
    for step in range(3):
        agent = state_dir.agent()
        agent.call(acts.save, f"run-{step}", step)
        agent.settled(1)
        assert peek.stored_steps(state_dir.database, f"run-{step}") == [step]
        identity = manifest(state_dir.directory.path)[IDENTITY]
        for suffix in ("-wal", "-shm", ""):
            (state_dir.folder / f"agent.db{suffix}").unlink(missing_ok=True)
        if step == 1:
            agent.call(acts.save, "again", 7)
            assert agent.call(acts.statuses)[-1] in ("met", "late")
            assert peek.stored_steps(state_dir.database, "again") == [7]
            assert manifest(state_dir.directory.path)[IDENTITY] != identity
            with SQLiteStore(state_dir.database) as store:
                assert store.marks()[IDENTITY] == manifest(state_dir.directory.path)[IDENTITY]
        agent.call(acts.close)
        agent.leave()
        state_dir.empty()


def test_the_service_alone_sees_another_database(state_dir: Place) -> None:
    """What an agent cannot notice (the file is open here by other means), the service does: nothing
    is read and nothing is stored until it is settled."""
    leave_a_record(state_dir, state_dir.database)
    move_database(state_dir.database, state_dir.folder / "kept.db")
    with SQLiteStore(state_dir.database) as other:
        other.mark(IDENTITY, "another")
        with CheckpointEngine(state_dir.store(), idle_s=0.2) as engine:
            with pytest.raises(StoreMismatchError, match=r"1 accepted record .*relocate"):
                engine.latest_sync("run-2")
            engine.save_sync(ExecutionNode("run-2"), b"new")
            told = command(state_dir, "relocate", state_dir.database, "--yes")
            assert told.returncode == 0, told.stderr
            engine.flush_sync(timeout=patience(30))
            assert engine.latest_sync("run-2")[1] == b"new"
            with pytest.raises(ExecutionNotFoundError):
                engine.latest_sync("run-3")
    assert peek.stored_steps(state_dir.database, RUN) == [1]


def test_agent_outlives_its_database_and_then_its_service(state_dir: Place) -> None:
    """It came by the identity of the old database, and comes back to a service that knows only the
    new one's."""
    for _ in range(2):  # the second one finds the identity
        agent = state_dir.agent()
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
    for suffix in ("-wal", "-shm", ""):
        (state_dir.folder / f"agent.db{suffix}").unlink(missing_ok=True)
    agent.call(acts.save, "run-2", 1)
    agent.settled(2)
    services = state_dir.service_processes()
    kill(*services)
    gone(*services)
    agent.call(acts.save, "run-2", 2)
    agent.settled(3)
    assert peek.stored_steps(state_dir.database, "run-2") == [1, 2]
