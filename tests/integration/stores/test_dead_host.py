"""A host dies in the midst of a large batch, of which the server of its store has a part and waits
for the rest. Other hosts can take its executions over; what the journals of the dead one have is
stored once it is back, unless others have taken that over."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from livingai.errors import ServiceUnavailableError
from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.network import Wire
from tests.support.place import Place
from tests.support.postgres_servers import PostgresServer
from tests.support.states import LARGE
from tests.support.waiting import frozen, gone, kill, until

pytestmark = pytest.mark.postgres
RUNS = [f"run-{number}" for number in range(24)]
#: Of the states of the batch, so that it is sent in several parts.
SIZE = 2 * LARGE
#: Sessions of the service that hold locks on executions, and wait for what their client sends.
_IN_MID_BATCH = """
SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
WHERE a.application_name = 'livingai' AND a.wait_event = 'ClientRead'
    AND l.relation = 'livingai.executions'::regclass AND l.mode = 'RowExclusiveLock'
"""


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Before the place, which counts what this process has."""
    with Wire() as wire:
        yield wire


@pytest.fixture
def server(wire: Wire) -> Iterator[PostgresServer]:
    with wire.on(wire.store), PostgresServer(host=wire.store.address) as server:
        yield server


def host(place: Place, url: str, name: str) -> Agent:
    """An agent on a host of that name, with its own service."""
    return place.agent(database=url, directory=str(place.folder / name), writers=1)


def steps_of(server: PostgresServer, run: str) -> list[int]:
    """The steps of an execution that the store has."""
    return peek.stored_steps(server.url(), run)


def takes_over(agent: Agent, run: str) -> bool:
    """Whether an agent could claim an execution."""
    try:
        return bool(agent.call(acts.claim, run))
    except ServiceUnavailableError:
        return False


def test_a_host_that_dies_in_mid_batch(
    wire: Wire, server: PostgresServer, state_dir: Place
) -> None:
    with wire.on(wire.service):
        first = host(state_dir, server.tcp_url(), "first")
    for run in RUNS:
        first.call(acts.save, run, 0)
    first.settled(len(RUNS))
    wire.slow(1000)
    service = state_dir.service_processes()
    with frozen(service):
        for run in RUNS:
            first.call(acts.save, run, 1, size=SIZE)
    with psycopg.connect(server.url(), autocommit=True) as admin:
        until(
            lambda: admin.execute(_IN_MID_BATCH).fetchone(),
            what="a batch of which a part is there", timeout=60,
        )  # fmt: skip
        wire.cut()
        assert admin.execute(_IN_MID_BATCH).fetchone(), "the whole batch has arrived"
    first.kill()
    kill(*service)
    gone(*service)
    # The dispatcher may have begun with a small batch. The first ones of the large one are locked.
    taken = [run for run in sorted(RUNS) if steps_of(server, run) == [0]][:3]
    assert taken
    second = host(state_dir, server.url(), "second")
    for run in taken:
        until(lambda r=run: takes_over(second, r), what="a session that is ended", timeout=120)  # type: ignore[misc]
        second.call(acts.save, run, 2)
    assert second.settled(len(taken), timeout=60).keys() <= {"met", "late"}
    wire.heal()
    with wire.on(wire.service):
        host(state_dir, server.tcp_url(), "first").call(acts.drain)
    for run in RUNS:
        assert steps_of(server, run) == ([0, 2] if run in taken else [0, 1]), run
