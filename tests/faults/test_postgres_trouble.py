"""What befalls one PostgreSQL server, one thing after the other, while agents save through a
service."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from livingai.stores.postgres import PostgresStore
from tests.support.cutting_proxy import CuttingProxy
from tests.support.kill_campaign import campaign
from tests.support.patience import patience
from tests.support.postgres_servers import PostgresServer
from tests.support.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1800)]
SEED = int(os.environ.get("LIVINGAI_SEED", "1"))
CONNECTIONS = 16
OURS = "application_name = 'livingai'"
#: Called while the server is in trouble: waits until agents have saved on.
WhileDown = Callable[[], None]


class Scene:
    """A server, the proxy before it, and a session of the test's own."""

    def __init__(self, server: PostgresServer, proxy: CuttingProxy) -> None:
        self.server = server
        self.proxy = proxy

    @contextmanager
    def session(self, **options: Any) -> Iterator[psycopg.Connection[Any]]:
        """A session that is ended with the block, however the server is by then."""
        connection = psycopg.connect(self.server.url(), **options)
        try:
            yield connection
        finally:
            connection.close()

    def waiting(self) -> int:
        """The process id of a backend of ours that waits for a lock."""
        with self.session(autocommit=True) as admin:

            def look() -> int:
                found = admin.execute(
                    f"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {OURS}"
                ).fetchone()
                return found[0] if found else 0

            return until(look, what="a backend that waits for a lock")

    def terminate(self, pid: int) -> None:
        """pg_terminate_backend."""
        with self.session(autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))


def terminated_in_mid_batch(scene: Scene, while_down: WhileDown) -> None:
    with scene.session() as other:
        other.execute("LOCK TABLE livingai.nodes IN ACCESS EXCLUSIVE MODE")
        scene.terminate(scene.waiting())
        while_down()


def terminated_in_mid_commit(scene: Scene, while_down: WhileDown) -> None:
    """The server is inside of COMMIT (a deferred trigger waits there)."""
    with scene.session(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(4711)")
        other.execute(
            "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$"
        )
        other.execute(
            "CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON livingai.nodes DEFERRABLE "
            "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.hold()"
        )
        scene.terminate(scene.waiting())
        while_down()
        other.execute("SELECT pg_advisory_unlock(4711)")
        other.execute("DROP FUNCTION public.hold() CASCADE")


def answer_is_lost(scene: Scene, while_down: WhileDown) -> None:
    """The batch is stored, and its connection ends before that is known."""
    scene.proxy.lost.clear()
    scene.proxy.lose(b"SELECT 1\0")
    assert scene.proxy.lost.wait(patience(60))
    while_down()


def deadlock(scene: Scene, while_down: WhileDown) -> None:
    line = "SELECT 1 FROM livingai.executions WHERE execution_id = %s FOR UPDATE"
    with scene.session() as other:
        other.execute("SET deadlock_timeout = '1min'")  # so that ours is the one that is ended

        def ours_is_ended() -> bool:
            """It is if it has not waited for long when the circle closes."""
            before = deadlocks(scene)
            other.execute(line, ("run-1",))
            scene.waiting()
            other.execute("LOCK TABLE livingai.nodes, livingai.executions IN EXCLUSIVE MODE")
            other.rollback()
            return deadlocks(scene) > before

        until(ours_is_ended, what="a deadlock", timeout=60)
        while_down()


def deadlocks(scene: Scene) -> int:
    """How many the server has found."""
    with scene.session() as admin:
        admin.execute("SELECT pg_stat_force_next_flush()")
        (count,) = admin.execute("SELECT sum(deadlocks) FROM pg_stat_database").fetchone() or (0,)
        return int(count)


def statement_timeout(scene: Scene, while_down: WhileDown) -> None:
    """A table is locked for so long that statements of ours are ended again and again."""
    waits = "SELECT query_start FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    with scene.session() as other, scene.session(autocommit=True) as admin:
        other.execute("LOCK TABLE livingai.nodes IN ACCESS EXCLUSIVE MODE")
        for _ in range(3):
            pid = scene.waiting()
            began = admin.execute(waits, (pid,)).fetchone()
            until(
                lambda p=pid, b=began: admin.execute(waits, (p,)).fetchone() != b,  # type: ignore[misc]
                what="a timeout",
            )
        while_down()


def no_more_connections(scene: Scene, while_down: WhileDown) -> None:
    """Ours are ended, and others have taken the last ones."""
    with ExitStack() as taken, scene.session(autocommit=True) as admin:
        refused = False
        while not refused:
            admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
            try:
                while True:
                    taken.enter_context(scene.session())
            except psycopg.OperationalError:
                ours = admin.execute(f"SELECT 1 FROM pg_stat_activity WHERE {OURS}").fetchone()
                refused = ours is None
        while_down()


def crash_restart(scene: Scene, while_down: WhileDown) -> None:
    """kill -9 of one backend: the server ends all sessions and recovers."""
    with scene.session(autocommit=True) as other:
        os.kill(other.info.backend_pid, signal.SIGKILL)
        while_down()
    until(lambda: answers(scene), what="recovery", timeout=60)


def answers(scene: Scene) -> bool:
    try:
        with scene.session() as other:
            return other.execute("SELECT 1").fetchone() is not None
    except psycopg.OperationalError:
        return False


TROUBLE = [
    terminated_in_mid_batch, terminated_in_mid_commit, answer_is_lost, deadlock, statement_timeout,
    no_more_connections, crash_restart,
]  # fmt: skip


def run(place: Path, rounds: int) -> None:
    """All of :data:`TROUBLE`, in an order that the seed says."""
    waiting: list[Callable[[Scene, WhileDown], None]] = []
    settings: dict[str, Any] = {
        "fsync": "on",
        "max_connections": CONNECTIONS,
        "max_wal_senders": 0,
        "deadlock_timeout": "500ms",
    }
    with PostgresServer(**settings) as server, CuttingProxy(server.port) as proxy:
        scene = Scene(server, proxy)

        def trouble(rng: random.Random, while_down: WhileDown) -> None:
            if not waiting:
                waiting.extend(rng.sample(TROUBLE, len(TROUBLE)))
            befalls = waiting.pop()
            print(befalls.__name__)
            befalls(scene, while_down)

        url = server.tcp_url().replace(str(server.port), str(proxy.port))
        store = PostgresStore(url, statement_timeout_ms=1500)
        campaign(store, place, trouble, seed=SEED, times=rounds * len(TROUBLE))


def test_everything_that_befalls_a_server(place: Path) -> None:
    run(place, 1)


@pytest.mark.faults
def test_everything_that_befalls_a_server_10_times(place: Path) -> None:
    run(place, 10)
