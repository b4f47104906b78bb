"""A power loss while a SQLite store commits: what it has reported as stored is there.

The store is the product's, on a VFS that records what SQLite writes and syncs
(tests/support/power_vfs.py). Repeat one run with ``LIVINGAI_SEED``.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai import SQLiteStore
from livingai.stores.base import RowStatus
from livingai.testing import make_row
from livingai.testing.rows import state
from tests.support import peek
from tests.support.journals import garbage, scratch_folder
from tests.support.power_loss import Disk, PowerRecorder, any_state
from tests.support.power_vfs import recorded_sqlite

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or secrets.randbits(32)
#: States that are looked at after each commit, and the share of other moments with one.
TRIES = max(3, int(os.environ.get("LIVINGAI_TRIES", "25")) // 5)
SHARE = min(1.0, TRIES / 30)
COMMITS = 16
#: A row: execution, seq.
Row = tuple[str, int]


class SQLitePowerLoss:
    """Commits, and looks at each moment at what a power loss would leave."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self.folder = folder
        self.synchronous = synchronous
        self.chance = random.Random(SEED)
        self.top = folder / "disk"
        self.top.mkdir()
        self.blobs: dict[Row, bytes] = {}
        #: What was sent, in the order of the commits, and how many of these were reported stored.
        self.sent: list[list[Row]] = []
        self.safe = 0
        self.states = 0
        self.least = 0
        self.recorder = PowerRecorder(self.top, self.sometimes)

    def sometimes(self, disk: Disk) -> None:
        if self.chance.random() < SHARE:
            self.look(disk)

    def look(self, disk: Disk) -> None:
        top = any_state(disk, self.chance, self.folder / "after")
        self.judge(top)
        shutil.rmtree(top)

    def commit(self, store: SQLiteStore, number: int) -> None:
        rows = []
        for each in range(self.chance.randrange(1, 4)):
            execution = f"run-{each}"
            blob = state(f"{number} {execution}") + garbage(number, self.chance.choice((50, 9000)))
            self.blobs[execution, number] = blob
            rows.append(make_row(execution, number, blob=blob))
        self.sent.append([(row.execution_id, row.seq) for row in rows])
        results = store.commit(rows)
        assert {result.status for result in results} == {RowStatus.STORED}
        self.safe = len(self.sent)

    def judge(self, top: Path) -> None:
        """Open the database as the next boot does."""
        self.states += 1
        database = top / "agent.db"
        found: set[Row] = set()
        if database.exists():
            peek.check_database(database)
            with SQLiteStore(database) as store:
                for execution in ("run-0", "run-1", "run-2"):
                    for checkpoint in store.checkpoints(execution):
                        row = (execution, checkpoint.seq)
                        assert checkpoint.blob == self.blobs[row], f"seed {SEED}: wrong bytes"
                        found.add(row)
        there = [set(batch) <= found for batch in self.sent]
        whole = there.index(False) if False in there else len(there)
        assert not any(there[whole:]), f"seed {SEED}: a commit without the one before it"
        assert found == {row for batch in self.sent[:whole] for row in batch}, "half a commit"
        if self.synchronous == "full":
            assert whole >= self.safe, f"seed {SEED}: {self.safe - whole} commits are lost"
        self.least = max(self.least, self.safe - whole)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = scratch_folder()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_what_was_reported_is_there(folder: Path, synchronous: str) -> None:
    """Through commits, the checkpoints of a log, and the end."""
    loss = SQLitePowerLoss(folder, synchronous)
    with recorded_sqlite(loss.recorder):
        store = SQLiteStore(loss.top / "agent.db", synchronous=synchronous)  # type: ignore[arg-type]
        store.open()
        for number in range(COMMITS):
            loss.commit(store, number)
            if number % 6 == 5:  # the log goes into the database
                store.close()
                store.open()
        store.close()
    loss.recorder.close()
    assert loss.states > COMMITS
    if synchronous == "normal":
        assert loss.least, "nothing was ever lost: this test would not see it"
