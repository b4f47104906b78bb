"""The network between the service and the server of its store fails, again and again, while agents
save: without a word in both directions, or in one. What happens to what a machine was about to
write when it died is in ``tests/integration/stores/test_dead_host.py``."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from livingai.protocol.ask import ask_service
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import STATUS
from livingai.queue.directory import StateDirectory
from livingai.stores.base import Store
from livingai.stores.opening import open_store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from tests.support.kill_campaign import campaign
from tests.support.network import Wire
from tests.support.postgres_servers import PostgresServer
from tests.support.redis_servers import RedisServer
from tests.support.waiting import frozen, until

pytestmark = pytest.mark.timeout(1800)
SEED = int(os.environ.get("LIVINGAI_SEED", "1"))
#: Rounds in ``make faults``.
ROUNDS = 10


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


@dataclass
class Scene:
    """A server, its store as it is reached over the wire, and beside it."""

    wire: Wire
    server: RedisServer | PostgresServer
    store: Store
    #: A URL that does not lead over the wire.
    beside: str
    place: Path

    def status(self) -> ServiceStatus:
        """What the service says of itself."""
        return ask_service(StateDirectory(self.place / "state"), self.store.url, STATUS)

    def stored(self) -> int:
        """How many nodes the store has."""
        with open_store(self.beside) as found:
            return sum(info.nodes for info in found.list_executions(limit=1000))

    def unread(self) -> int:
        """Bytes that have arrived at the server, and were not read."""
        return self.wire.unread(self.wire.store, self.server.port)

    def processes(self) -> list[int]:
        """The server's."""
        if isinstance(self.server, PostgresServer):
            return [process.pid for process in self.server.processes()]
        return [self.server.pid]


def answers_are_lost(scene: Scene) -> None:
    """A batch that is under way is stored, and nobody hears of it."""
    scene.wire.lose_answers()


def questions_are_lost(scene: Scene) -> None:
    """Nothing of a batch arrives, or its end does not."""
    scene.wire.lose_questions()


def cut(scene: Scene) -> None:
    """Both."""
    scene.wire.cut()


def half_open(scene: Scene) -> None:
    """A batch has arrived, and its answer never comes, even if the wire is mended: the server that
    it went to is gone, with its connections. To the service's end they look as before."""
    with frozen(scene.processes()):
        # It has not read the batch: what it has answered its kernel would send again and again.
        until(scene.unread, what="a batch that has arrived", timeout=60)
        scene.wire.cut()
        scene.server.kill()
    with scene.wire.on(scene.wire.store):
        scene.server.start()


TROUBLE: list[Callable[[Scene], None]] = [answers_are_lost, questions_are_lost, cut, half_open]


def run(scene: Scene, rounds: int) -> None:
    """All of :data:`TROUBLE`, in an order that the seed says."""
    waiting: list[Callable[[Scene], None]] = []
    outages: list[tuple[float, float]] = []

    def trouble(rng: random.Random, while_down: Callable[[], None]) -> None:
        if not waiting:
            waiting.extend(rng.sample(TROUBLE, len(TROUBLE)))
        befalls = waiting.pop()
        befalls(scene)
        began = time.monotonic()
        while_down()
        told = until(lambda: scene.status().trouble, what="a service that says why", timeout=60)
        print(f"{befalls.__name__}: {told}")
        while_down()
        if befalls is answers_are_lost:
            # The dispatcher does not know of them, and will have them stored again.
            known = sum(scene.status().outcomes.values())
            until(lambda: scene.stored() > known, what="a commit whose answer was lost")
        outages.append((began, time.monotonic()))
        scene.wire.heal()
        until(lambda: not scene.status().trouble, what="a store that takes writes", timeout=60)

    times = rounds * len(TROUBLE)
    with scene.wire.on(scene.wire.service):
        campaign(scene.store, scene.place, trouble, seed=SEED, times=times, outages=outages)
    assert len(outages) == times


def on_redis(wire: Wire, place: Path, rounds: int) -> None:
    options = ("--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "always")
    with wire.on(wire.store), RedisServer(*options, host=wire.store.address) as server:
        store = RedisStore(server.url, timeout_s=0.5, wait_timeout_ms=100)
        run(Scene(wire, server, store, f"unix://{server.socket}", place), rounds)


def on_postgres(wire: Wire, place: Path, rounds: int) -> None:
    with wire.on(wire.store), PostgresServer(host=wire.store.address, fsync="on") as server:
        store = PostgresStore(server.tcp_url(), statement_timeout_ms=1500, connect_timeout_s=2.0)
        run(Scene(wire, server, store, server.url(), place), rounds)


@pytest.mark.redis
def test_redis_behind_a_network_that_fails(wire: Wire, place: Path) -> None:
    on_redis(wire, place, 1)


@pytest.mark.postgres
def test_postgres_behind_a_network_that_fails(wire: Wire, place: Path) -> None:
    on_postgres(wire, place, 1)


@pytest.mark.faults
@pytest.mark.redis
def test_redis_behind_a_network_that_fails_again_and_again(wire: Wire, place: Path) -> None:
    on_redis(wire, place, ROUNDS)


@pytest.mark.faults
@pytest.mark.postgres
def test_postgres_behind_a_network_that_fails_again_and_again(wire: Wire, place: Path) -> None:
    on_postgres(wire, place, ROUNDS)
