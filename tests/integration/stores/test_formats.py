"""Databases and state directories that earlier versions have left (tests/data/formats/)."""

from __future__ import annotations

import os
import shutil
import tarfile
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai.inspection.check import check_directory
from livingai.node import NodeField
from livingai.queue.waiting import waiting_records
from livingai.stores.sqlite.schema import SCHEMA_VERSION
from tests.support import acts, peek
from tests.support.agents import ROOT, environment
from tests.support.place import Place
from tests.support.places import command, manifest
from tests.support.states import state_of

FORMATS = ROOT / "tests" / "data" / "formats"
NAMES = ["first", "identity", "patches"]
#: Executions: steps in the end, size of their states.
WRITTEN = {"steps": (12, 3000), "newest": (5, 3000), "large": (4, 70_000)}
#: Accepted writes that no store has yet.
WAITING = 6


def unpacked(name: str, place: Place) -> Place:
    """As it was left, in the place's folder."""
    with tarfile.open(FORMATS / f"{name}.tar.xz") as archive:
        archive.extractall(place.folder, filter="data")
    os.chmod(place.directory.path, 0o700)
    place.service_killed = True
    return place


def see_that_all_is_stored(place: Place, *, check: bool = True) -> None:
    """Every write is there, with its state, and nothing is damaged."""
    with place.store() as store:
        for execution, (steps, _) in WRITTEN.items():
            found = [node.wire[NodeField.OUTPUT]["step"] for node in store.nodes(execution)]
            assert found[-1] == steps - 1
            if execution != "newest":
                assert found == list(range(steps))
        owners = store.owners("steps")
    assert [epoch for epoch, _ in owners] == [1]
    for execution, (steps, size) in WRITTEN.items():
        assert peek.stored_state(place.database, execution) == state_of(execution, steps - 1, size)
    with closing(apsw.Connection(str(place.database))) as connection:
        assert connection.pragma("user_version") == SCHEMA_VERSION
    if check:
        report = check_directory(place.directory.path, place.store())
        assert report.findings == []
        assert manifest(place.directory.path)["store_id"]


def test_each_archive_has_a_test() -> None:
    assert {path.name.partition(".")[0] for path in FORMATS.glob("*.tar.xz")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_checked_as_it_was_left(state_dir: Place, name: str) -> None:
    """The database is brought up to date for that, and what waits goes on waiting."""
    place = unpacked(name, state_dir)
    assert waiting_records(place.directory) == WAITING
    report = check_directory(place.directory.path, place.store())
    assert report.ok, report.errors
    assert report.counts["waiting"] == WAITING
    assert report.counts["executions"] == len(WRITTEN) + 1
    assert report.counts["compared"] > 8
    with place.service():
        place.ask("drain")
    see_that_all_is_stored(place)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_opened_and_written_to(state_dir: Place, name: str) -> None:
    """By an agent, which continues all of it."""
    place = unpacked(name, state_dir)
    agent = place.agent()
    agent.call(acts.drain)
    see_that_all_is_stored(place, check=False)
    assert agent.call(acts.latest, "steps")[1] == state_of("steps", 11, 3000)
    for execution, (steps, size) in WRITTEN.items():
        agent.call(acts.save, execution, steps, size=size)
    agent.call(acts.drain)
    assert peek.stored_steps(place.database, "steps") == list(range(13))
    assert agent.call(acts.look_in, "run") == []
    assert agent.leave() == 0
    place.empty()
    report = check_directory(place.directory.path, place.store())
    assert report.findings == []


@pytest.mark.parametrize("at", ["migrate.before_commit", "migrate.after_commit"])
def test_a_migration_is_killed(state_dir: Place, at: str) -> None:
    """SIGKILL in the process that brings the database up to date: the next one goes on."""
    place = unpacked("first", state_dir)
    tokens = place.folder / "tokens"
    tokens.mkdir()
    armed = environment(
        LIVINGAI_FAILPOINTS=f"{at}=kill", LIVINGAI_FAILPOINT_TOKENS=os.fspath(tokens)
    )
    agent = place.agent(env=armed)
    agent.call(acts.drain)
    assert (tokens / at).read_text().startswith("writer ")
    see_that_all_is_stored(place, check=False)
    assert agent.leave() == 0
    place.empty()
    see_that_all_is_stored(place)


@pytest.mark.parametrize("name", NAMES)
def test_the_service_is_killed_while_it_drains(state_dir: Place, name: str) -> None:
    """Behind a commit, before any outcome is written down."""
    place = unpacked(name, state_dir)
    tokens = place.folder / "tokens"
    tokens.mkdir()
    armed = environment(
        LIVINGAI_FAILPOINTS="dispatcher.before_outcome=kill*2",
        LIVINGAI_FAILPOINT_TOKENS=os.fspath(tokens),
    )
    agent = place.agent(env=armed)
    agent.call(acts.drain)
    assert list(tokens.iterdir())
    assert agent.leave() == 0
    place.empty()
    see_that_all_is_stored(place)


@pytest.mark.parametrize("name", NAMES)
def test_it_moves_with_its_database(state_dir: Place, name: str, tmp_path: Path) -> None:
    """To another folder, where `livingai check` and `status` find what they are asked for."""
    place = unpacked(name, state_dir)
    there = tmp_path / "there"
    there.mkdir()
    for each in place.folder.glob("agent.db*"):
        shutil.move(each, there / each.name)
    told = command(place, "check", there / "agent.db", "--store", there / "agent.db")
    assert told.returncode == 0, told.stdout + told.stderr
    told = command(place, "status", there / "agent.db")
    assert f"{WAITING} records" in told.stdout
    for each in there.glob("agent.db*"):
        shutil.move(each, place.folder / each.name)
