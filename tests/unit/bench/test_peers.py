"""What livingai is compared with keeps the states that it is given."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from bench.peers.base import BatchingPeer, Peer, Place
from bench.peers.kinds import KINDS
from bench.peers.ready import get_ready
from bench.peers.released import Released
from bench.peers.room import PackagesMissingError, fresh, installed
from bench.servers import NAMES, Server
from livingai import ExecutionNode, OutcomeStatus
from tests.support.patience import patience
from tests.support.postgres_servers import shared_server
from tests.support.redis_servers import RedisServer

STATES = {"a": [b"one", b"two"], "b": [b"three"]}


def place_of(path: Path, url: str = "", budget_ms: float = 1e6) -> Place:
    return Place(str(path), url, "", budget_ms)


async def keep_all(peer: Peer) -> None:
    await peer.open()
    async with asyncio.timeout(patience(60)):
        receipts = [
            await peer.save(ExecutionNode(name), state)
            for name, states in STATES.items()
            for state in states
        ]
        outcomes = [await receipt for receipt in receipts]
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.MET}
    assert all(outcome.latency_ms >= 0 for outcome in outcomes)
    await peer.close()


@pytest.mark.parametrize("name", KINDS)
def test_the_table(name: str) -> None:
    found = KINDS[name]
    assert found.name == name
    module = importlib.import_module(f"bench.peers.{found.module}")
    assert issubclass(getattr(module, found.factory), Peer)
    assert found.server in ("", *NAMES)


@pytest.mark.parametrize("name", ["sqlite", "sqlite3", "executemany"])
async def test_sqlite(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with fresh(KINDS[name], None, str(path)) as database:
        assert database.size_bytes() == 0
        await keep_all(KINDS[name].build(place_of(path)))
        assert database.size_bytes() == path.stat().st_size > 0
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT execution_id, step, state FROM checkpoints")
        assert sorted(rows) == [("a", 0, b"one"), ("a", 1, b"two"), ("b", 0, b"three")]


async def test_a_bare_file(tmp_path: Path) -> None:
    await keep_all(KINDS["pwritev"].build(place_of(tmp_path / "a.db")))


async def test_a_save_beyond_the_budget_is_late(tmp_path: Path) -> None:
    peer = KINDS["sqlite"].build(place_of(tmp_path / "a.db", budget_ms=0.0))
    await peer.open()
    outcome = await (await peer.save(ExecutionNode("a"), b"x"))
    assert outcome.status == OutcomeStatus.LATE
    await peer.close()


class Batched(BatchingPeer):
    """Notes its batches; refuses the state b"bad"."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.batches: list[list[tuple[str, int, bytes]]] = []

    async def open(self) -> None:
        pass

    async def _store(self, rows: list[tuple[str, int, bytes]]) -> None:
        if any(state == b"bad" for _, _, state in rows):
            raise ValueError("bad")
        self.batches.append(rows)

    async def close(self) -> None:
        pass


async def test_what_waits_is_one_batch(tmp_path: Path) -> None:
    peer = Batched(place_of(tmp_path))
    await keep_all(peer)
    assert peer.batches == [[("a", 0, b"one"), ("a", 1, b"two"), ("b", 0, b"three")]]
    with pytest.raises(ValueError, match="bad"):
        await (await peer.save(ExecutionNode("a"), b"bad"))
    assert (await (await peer.save(ExecutionNode("a"), b"x"))).status == OutcomeStatus.MET
    assert peer.batches[1:] == [[("a", 3, b"x")]]


# -- servers --


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.redis
@pytest.mark.parametrize("name", ["redis", "pipeline"])
async def test_redis(name: str, valkey: RedisServer, tmp_path: Path) -> None:
    server = Server(valkey.url, valkey.pid)
    before = server.network_bytes()
    assert before is not None
    with fresh(KINDS[name], server, "") as database:
        await keep_all(KINDS[name].build(place_of(tmp_path, database.url)))
        with redis.Redis.from_url(database.url) as client:
            kept = {name.decode(): client.hgetall(name) for name in client.scan_iter()}
            states = {
                (execution, field): value
                for execution, fields in kept.items()
                for field, value in fields.items()
                if field.endswith(b":state")
            }
    network = server.network_bytes()
    assert network is not None
    assert network > before + len(b"onetwothree")
    assert states == {
        ("a", b"0:state"): b"one", ("a", b"1:state"): b"two", ("b", b"0:state"): b"three",
    }  # fmt: skip
    with redis.Redis.from_url(database.url) as client:
        assert client.dbsize() == 0


@pytest.mark.postgres
def test_a_postgres_database_is_of_one_run() -> None:
    running = shared_server()
    server = Server(running.url(), running.pid)
    with fresh(KINDS["langgraph-postgres"], server, "") as database:
        assert database.size_bytes() == 0
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 10000) AS a")
        assert database.size_bytes() > 100_000
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(database.url)


# -- packages --


def test_packages_that_cannot_be_had(tmp_path: Path) -> None:
    missing = (str(tmp_path / "nothing-here"),)
    with pytest.raises(PackagesMissingError, match="nothing-here"), installed(missing):
        pass
    with installed(()) as folder:
        assert folder == ""


def test_a_peer_that_cannot_be_had_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.ready.installed", lambda _: installed((str(tmp_path / "no"),)))
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        assert get_ready(["dbos"], {}, stack, said.append) == []
    assert len(said) == 1
    assert said[0].startswith("DBOS steps on SQLite: left out, ")


@pytest.fixture
def released_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "released_livingai", None)


@pytest.mark.usefixtures("released_name")
def test_a_package_of_our_name_is_another_one(tmp_path: Path) -> None:
    home = tmp_path / "livingai"
    home.mkdir()
    (home / "__init__.py").write_text("from .graph import NAME")
    (home / "graph.py").write_text("NAME = __name__")
    peer = Released(Place("", "", str(tmp_path), 50.0))
    assert peer._their.NAME == "released_livingai.graph"
    assert not hasattr(sys.modules["livingai"], "NAME")
