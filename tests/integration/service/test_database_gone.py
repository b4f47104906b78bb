"""The database goes, or its log, under a service whose reader has it open and nothing to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import apsw
import pytest

from livingai import ExecutionNode, SQLiteStore
from livingai.codecs import content_hash
from livingai.testing.rows import commit, make_row
from tests.support.patience import patience
from tests.support.place import Place


def remove(*suffixes: str) -> Callable[[Place], None]:
    def deed(place: Place) -> None:
        for suffix in suffixes:
            os.unlink(f"{place.database}{suffix}")

    return deed


def replace(place: Place) -> None:
    other = place.folder / "other.db"
    with SQLiteStore(other) as store:
        commit(store, [make_row("backup", 1, blob=b"\0b", content_hash=content_hash(b"b"))])
    other.rename(place.database)


def move(place: Place) -> None:
    place.database.rename(place.folder / "away.db")


DEEDS = {
    "database": remove(""), "all": remove("", "-wal", "-shm"), "log": remove("-wal"),
    "index": remove("-shm"), "log and index": remove("-wal", "-shm"), "replaced": replace,
    "moved": move,
}  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS)
def test_the_service_goes_on_and_keeps_what_it_says_is_stored(state_dir: Place, deed: str) -> None:
    with state_dir.engine(cache_ttl_s=0.001) as engine:
        for _ in range(5):
            engine.save_sync(ExecutionNode("before"), os.urandom(30_000)).result(patience(30))
        assert len(engine.nodes_sync("before")) == 5, "the reader has the database open"
        DEEDS[deed](state_dir)
        for step in range(5):
            outcome = engine.save_sync(ExecutionNode("after"), b"step %d" % step).result(
                patience(30)
            )
            assert outcome.status in ("met", "late")
        assert engine.latest_sync("after")[1] == b"step 4"
        assert len(engine.nodes_sync("after")) == 5
        pids = state_dir.pids()
        for pid in (pids["supervisor"], pids["dispatcher"], *pids["writers"], pids["reader"]):
            os.kill(pid, signal.SIGKILL)
    connection = apsw.Connection(str(state_dir.database))
    try:
        count = "SELECT count(*) FROM checkpoints WHERE execution_id = ?"
        assert list(connection.execute(count, ("after",))) == [(5,)]
        if deed in ("log", "index", "log and index"):
            assert list(connection.execute(count, ("before",))) == [(5,)]
        assert connection.pragma("integrity_check") == "ok"
    finally:
        connection.close()
    with state_dir.engine() as engine:  # a new service, which tidies up
        assert len(engine.nodes_sync("after")) == 5
    state_dir.empty()
