"""What Redis and PostgreSQL had, with their state directories, when services of earlier versions
were killed (tests/data/formats/servers/)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from livingai.inspection.check import check_directory
from livingai.node import NodeField
from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from livingai.stores.opening import open_store
from livingai.stores.postgres.schema import SCHEMA_VERSION
from tests.support import acts, peek
from tests.support.agents import ROOT, Agent, environment
from tests.support.place import Place
from tests.support.postgres_servers import psql, shared_server
from tests.support.redis_servers import RedisServer
from tests.support.server_archives import STATE, restore_postgres, restore_redis, unpack
from tests.support.states import state_of

ARCHIVES = ROOT / "tests" / "data" / "formats" / "servers"
REDIS = [
    pytest.param("redis-first", marks=pytest.mark.redis),
    pytest.param("redis-patches", marks=pytest.mark.redis),
]
POSTGRES = [
    pytest.param("postgres-first", marks=pytest.mark.postgres),
    pytest.param("postgres-patches", marks=pytest.mark.postgres),
]
#: Executions: steps in the end, size of their states.
WRITTEN = {"steps": (12, 3000), "newest": (5, 3000), "large": (4, 70_000)}
#: Accepted writes that no store has yet.
WAITING = 6


@dataclass
class Restored:
    """A server's store as it was left, and its state directory."""

    name: str
    url: str
    directory: StateDirectory
    place: Place

    def agent(self, **settings: Any) -> Agent:
        """An agent on it."""
        return self.place.agent(database=self.url, directory=self.directory.path, **settings)


@pytest.fixture
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server, or a database of one, that has what the archive says; before the place, which
    counts what this process has."""
    name: str = request.param
    with ExitStack() as stack:
        if name.startswith("redis"):
            valkey = stack.enter_context(RedisServer())
            url = valkey.url
            folder = unpack(ARCHIVES / f"{name}.tar.xz", tmp_path, url).parent
            restore_redis(folder, valkey.client())
        else:
            postgres, database = shared_server(), f"t{secrets.token_hex(6)}"
            psql(postgres, "postgres", f"CREATE DATABASE {database}")
            stack.callback(psql, postgres, "postgres", f"DROP DATABASE {database} WITH (FORCE)")
            url = postgres.url(database)
            folder = unpack(ARCHIVES / f"{name}.tar.xz", tmp_path, url).parent
            restore_postgres(folder, postgres, database)
        yield url


@pytest.fixture
def restored(
    request: pytest.FixtureRequest, server_url: str, state_dir: Place, tmp_path: Path
) -> Restored:
    """See the class."""
    name = request.node.callspec.params["server_url"]
    return Restored(name, server_url, StateDirectory(str(tmp_path / STATE)), state_dir)


def archives(*names: Any) -> pytest.MarkDecorator:
    """The tests with these."""
    return pytest.mark.parametrize("server_url", names, indirect=True)


def version(url: str) -> int:
    """That of PostgreSQL's schema."""
    with psycopg.connect(url) as connection:
        (found,) = connection.execute("SELECT version FROM livingai.livingai").fetchall()
    return int(found[0])


def see_that_all_is_stored(restored: Restored) -> None:
    """Every write is there, with its state; the run has the status of its last life."""
    with open_store(restored.url) as store:
        for execution, (steps, size) in WRITTEN.items():
            found = [node.wire[NodeField.OUTPUT]["step"] for node in store.nodes(execution)]
            assert found[-1] == steps - 1
            if execution != "newest":
                assert found == list(range(steps))
            assert peek.state_in(store, execution) == state_of(execution, steps - 1, size)
            assert [epoch for epoch, _ in store.owners(execution)] == [1]
        (run,) = [info for info in store.list_executions() if info.execution_id == "run"]
        assert (run.status, run.is_run) == ("success", True)
        assert run.ended_at is not None
    if "postgres" in restored.name:
        assert version(restored.url) == SCHEMA_VERSION
    report = check_directory(restored.directory.path, open_store(restored.url))
    assert report.findings == []


def tokens_of(restored: Restored, failpoints: str) -> tuple[Path, dict[str, str]]:
    """A folder for the failpoints' tokens, and the environment that arms them."""
    tokens = restored.place.folder / "tokens"
    tokens.mkdir()
    return tokens, environment(
        LIVINGAI_FAILPOINTS=failpoints, LIVINGAI_FAILPOINT_TOKENS=os.fspath(tokens)
    )


def test_each_archive_has_a_test() -> None:
    named = {str(param.values[0]) for param in (*REDIS, *POSTGRES)}
    assert {path.name.partition(".")[0] for path in ARCHIVES.glob("*.tar.xz")} == named


@archives(*REDIS, *POSTGRES)
def test_it_is_checked_as_it_was_left(restored: Restored) -> None:
    """What waits goes on waiting."""
    assert waiting_records(restored.directory) == WAITING
    report = check_directory(restored.directory.path, open_store(restored.url))
    assert report.ok, report.errors
    assert report.counts["waiting"] == WAITING
    assert report.counts["executions"] == len(WRITTEN) + 1
    assert report.counts["compared"] > 8
    restored.agent().call(acts.drain)
    see_that_all_is_stored(restored)


@archives(*REDIS, *POSTGRES)
def test_it_is_opened_and_written_to(restored: Restored) -> None:
    """By an agent, which continues all of it."""
    agent = restored.agent()
    agent.call(acts.drain)
    see_that_all_is_stored(restored)
    for execution, (steps, size) in WRITTEN.items():
        assert agent.call(acts.latest, execution)[1] == state_of(execution, steps - 1, size)
        agent.call(acts.save, execution, steps, size=size)
    agent.call(acts.drain)
    assert agent.call(acts.steps, "steps") == list(range(13))
    assert agent.call(acts.look_in, "run") == []
    assert agent.leave() == 0
    restored.place.empty()
    with open_store(restored.url) as store:
        assert peek.state_in(store, "large") == state_of("large", 4, 70_000)


@archives("postgres-first")
@pytest.mark.postgres
@pytest.mark.parametrize("at", ["migrate.before_commit", "migrate.after_commit"])
def test_a_migration_is_killed(restored: Restored, at: str) -> None:
    """SIGKILL in the process that brings the schema up to date: the next one goes on."""
    assert version(restored.url) == 1
    tokens, armed = tokens_of(restored, f"{at}=kill")
    agent = restored.agent(env=armed)
    agent.call(acts.drain)
    assert (tokens / at).read_text().startswith("writer ")
    assert agent.leave() == 0
    restored.place.empty()
    see_that_all_is_stored(restored)


@archives(*REDIS, *POSTGRES)
def test_the_service_is_killed_while_it_drains(restored: Restored) -> None:
    """Behind a commit, before any outcome is written down."""
    tokens, armed = tokens_of(restored, "dispatcher.before_outcome=kill*2")
    agent = restored.agent(env=armed)
    agent.call(acts.drain)
    assert list(tokens.iterdir())
    assert agent.leave() == 0
    restored.place.empty()
    see_that_all_is_stored(restored)
