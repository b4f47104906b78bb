"""Two machines of which one has been upgraded, on one Redis or PostgreSQL: its services write there
beside those of an earlier version (a machine is a state directory: two share nothing but the
store)."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from livingai.node import NodeField
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_pid
from livingai.queue.waiting import waiting_records
from livingai.stores.opening import open_store
from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.earlier import Earlier
from tests.support.place import Place
from tests.support.postgres_servers import psql, shared_server
from tests.support.redis_servers import RedisServer
from tests.support.states import state_of
from tests.support.waiting import gone, until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    """See tests/data/packages/README.md."""
    return Earlier("first", tmp_path_factory.mktemp("earlier"))


@pytest.fixture
def redis_url() -> Iterator[str]:
    """An empty store; before the place, which counts what this process has."""
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """As ``redis_url``."""
    server, database = shared_server(), f"t{secrets.token_hex(6)}"
    psql(server, "postgres", f"CREATE DATABASE {database}")
    yield server.url(database)
    psql(server, "postgres", f"DROP DATABASE {database} WITH (FORCE)")


def machine(place: Place, url: str, name: str) -> dict[str, Any]:
    """Settings of the agents of a machine of that name."""
    return {"database": url, "directory": str(place.folder / name)}


def stored(url: str, execution: str) -> list[int]:
    """The steps that the server has."""
    with open_store(url) as store:
        return [node.wire[NodeField.OUTPUT]["step"] for node in store.nodes(execution)]


def standing(agent: Agent, execution: str) -> str:
    """The status that a listing gives."""
    page, _ = agent.call(acts.executions, prefix=execution)
    return str({name: status for name, status, _ in page}[execution])


@pytest.mark.redis
def test_redis_is_written_by_both(redis_url: str, state_dir: Place, first: Earlier) -> None:
    """What one has written the other reads, takes over and continues; former owners are fenced."""
    old = first.agent(state_dir, **machine(state_dir, redis_url, "old"))
    new = state_dir.agent(**machine(state_dir, redis_url, "new"))
    old.call(acts.durable_run)
    old.call(acts.save, "run-1", 0)
    old.settled(1)
    assert new.call(acts.look_in, "run") == []
    assert new.call(acts.claim, "run-1") == 2
    new.call(acts.save, "run-1", 1)
    new.settled(1)
    old.call(acts.save, "run-1", 2)
    assert old.settled(2)["fenced"] == 1
    assert old.call(acts.claim, "run-1") == 3
    assert old.call(acts.latest, "run-1")[1] == state_of("run-1", 1)
    old.call(acts.save, "run-1", 3)
    old.settled(3)
    new.call(acts.durable_run)
    assert standing(new, "run") == "success"
    assert new.call(acts.steps, "run-1") == [0, 1, 3]
    assert new.call(acts.claim, "run-1") == 4
    assert new.call(acts.latest, "run-1")[1] == state_of("run-1", 3)
    assert old.leave() == new.leave() == 0


@pytest.mark.postgres
def test_postgres_is_upgraded_under_a_service(
    postgres_url: str, state_dir: Place, first: Earlier
) -> None:
    """The first service of today brings the schema up to date. The earlier one stores nothing from
    then on and says why; what its agents save waits on their machine, until that is upgraded."""
    here = machine(state_dir, postgres_url, "old")
    directory = StateDirectory(here["directory"])
    old = first.agent(state_dir, **here)
    old.call(acts.durable_run)
    old.call(acts.save, "run-1", 0)
    old.settled(1)
    new = state_dir.agent(**machine(state_dir, postgres_url, "new"))
    new.call(acts.save, "run-2", 0)
    new.settled(1)
    for step in range(1, 4):
        old.call(acts.save, "run-1", step)
    until(
        lambda: "upgrade livingai to use it" in old.call(acts.sla)["trouble"],
        what="the earlier service says why",
    )
    assert waiting_records(directory) == 3
    assert stored(postgres_url, "run-1") == [0]
    assert standing(new, "run") == "success"
    new.call(acts.save, "run-2", 1)
    new.settled(2)
    old.kill()
    supervisor = owner_pid(directory.supervisor_lock)
    assert supervisor
    os.kill(supervisor, signal.SIGTERM)
    gone(supervisor, timeout=60)
    upgraded = state_dir.agent(**here)
    upgraded.call(acts.drain)
    assert stored(postgres_url, "run-1") == list(range(4))
    with open_store(postgres_url) as store:
        assert peek.state_in(store, "run-1") == state_of("run-1", 3)
    assert upgraded.leave() == new.leave() == 0
