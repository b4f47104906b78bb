"""kill -9 of the whole PostgreSQL server in mid-batch while agents save."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livingai.stores.postgres import PostgresStore
from tests.support.kill_campaign import campaign
from tests.support.postgres_servers import PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1800)]
SEED = int(os.environ.get("LIVINGAI_SEED", "1"))
KILLS = 5


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer(fsync="on", checkpoint_timeout="30s") as server:
        yield server


def run(server: PostgresServer, place: Path, kills: int) -> None:
    def kill_and_restart(rng: random.Random, while_down: Callable[[], None]) -> None:
        server.kill()
        while_down()
        server.start()

    store = PostgresStore(server.url(), statement_timeout_ms=5000)
    campaign(store, place, kill_and_restart, seed=SEED, times=kills, executions=12)


def test_server_killed_in_mid_batch(server: PostgresServer, place: Path) -> None:
    run(server, place, KILLS)


@pytest.mark.faults
def test_server_killed_in_mid_batch_100_times(server: PostgresServer, place: Path) -> None:
    run(server, place, 100)
