"""What befalls a SQLite file, one thing after the other, while agents save through a service."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai import SQLiteStore
from tests.support.kill_campaign import campaign

SEED = int(os.environ.get("LIVINGAI_SEED", "1"))
#: Called while there is trouble: waits until agents have saved on.
WhileDown = Callable[[], None]


def foreign_writer(file: Path, while_down: WhileDown) -> None:
    """Another program has begun to write, and takes its time."""
    with closing(apsw.Connection(str(file))) as other:
        other.set_busy_timeout(60_000)
        other.execute("BEGIN IMMEDIATE")
        while_down()
        other.execute("ROLLBACK")


def exclusive_lock(file: Path, while_down: WhileDown) -> None:
    """Another program wants the whole file for itself, as a backup does."""
    with closing(apsw.Connection(str(file))) as other:
        other.set_busy_timeout(60_000)
        other.execute("BEGIN EXCLUSIVE")
        while_down()
        other.execute("ROLLBACK")


def long_reader(file: Path, while_down: WhileDown) -> None:
    """Another program reads for a long time; the log grows meanwhile."""
    with closing(apsw.Connection(str(file))) as other:
        other.execute("BEGIN")
        before = other.execute("SELECT count(*) FROM nodes").fetchall()
        for _ in range(3):
            while_down()
        assert other.execute("SELECT count(*) FROM nodes").fetchall() == before
        other.execute("ROLLBACK")


def removed(*suffixes: str) -> Callable[[Path, WhileDown], None]:
    """Another program tidies up."""

    def befalls(file: Path, while_down: WhileDown) -> None:
        for suffix in suffixes:
            Path(f"{file}{suffix}").unlink(missing_ok=True)
        while_down()

    return befalls


TROUBLE = [
    foreign_writer, exclusive_lock, long_reader, removed("-wal"), removed("-shm"),
    removed("-wal", "-shm"),
]  # fmt: skip


def run(place: Path, rounds: int) -> None:
    """All of :data:`TROUBLE`, in an order that the seed says."""
    waiting: list[Callable[[Path, WhileDown], None]] = []
    file = place / "agent.db"

    def trouble(rng: random.Random, while_down: WhileDown) -> None:
        if not waiting:
            waiting.extend(rng.sample(TROUBLE, len(TROUBLE)))
        waiting.pop()(file, while_down)

    campaign(SQLiteStore(file), place, trouble, seed=SEED, times=rounds * len(TROUBLE))


def test_everything_that_befalls_a_file(place: Path) -> None:
    run(place, 1)


@pytest.mark.faults
def test_everything_that_befalls_a_file_10_times(place: Path) -> None:
    run(place, 10)
