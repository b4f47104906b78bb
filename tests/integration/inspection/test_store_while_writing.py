"""A store is checked while it is written to, and while executions are dropped: nothing is found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai import SQLiteStore, codecs
from livingai.inspection.check import check_directory
from livingai.inspection.executions import check_executions
from livingai.inspection.report import Report
from livingai.stores.base import StoredCheckpoint, StoredNode
from livingai.stores.retention import Retention, prune
from livingai.testing.rows import commit, make_row
from tests.support import acts
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import joined

MANY = 230  # more than a page of them


def test_while_agents_save_and_a_service_stores(state_dir: Place) -> None:
    for name in ("many", "one"):
        agent = state_dir.agent()
        if name == "many":
            for number in range(MANY):
                agent.call(acts.save, f"many-{number:03d}", size=100)
            agent.call(acts.drain)
        agent.call(acts.save, "run-1", 0, history=False)
    writer, overtaker = state_dir.agents
    ended = threading.Event()

    def write() -> None:
        try:
            for step in range(300):
                writer.call(acts.save, "run-1", step, history=step % 2 == 0)
                if step % 50 == 49:
                    overtaker.call(acts.save, "run-1", step)
                    overtaker.call(acts.delete, "many-001")
        finally:
            ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    looks = 0
    try:
        while not ended.is_set() or not looks:
            report = check_directory(state_dir.directory.path, state_dir.store())
            assert report.ok, report.errors
            assert report.counts["executions"] >= MANY
            looks += 1
    finally:
        joined(thread, timeout=120)
    overtaker.call(acts.drain)
    report = check_directory(state_dir.directory.path, state_dir.store())
    assert report.ok, report.errors
    assert report.counts["compared"]


class Meddled(SQLiteStore):
    """Another process works on the database, exactly between two questions of the reader's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.place_of = path
        self.meddled = False

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        self._write(execution_id)
        return super().nodes(execution_id)

    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        for number, checkpoint in enumerate(super().checkpoints(execution_id, blobs=blobs)):
            if number == 4:
                self._drop(execution_id)
            yield checkpoint

    def _write(self, execution_id: str) -> None:
        """Nothing, or what a subclass does."""

    def _drop(self, execution_id: str) -> None:
        if not self.meddled:
            self.meddled = True
            with SQLiteStore(self.place_of) as other:
                prune(other, Retention(keep_last=1))


class Deleting(Meddled):
    """It deletes the execution behind the reader's back."""

    def _drop(self, execution_id: str) -> None:
        """Nothing is dropped."""

    def _write(self, execution_id: str) -> None:
        self.meddled = True
        with SQLiteStore(self.place_of) as other:
            other.delete_execution(execution_id)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """One execution with states that build on the first one, and a newest one that is whole."""
    path, first = tmp_path / "agent.db", state_of("run-1", 0)
    rows = []
    for seq in range(10):
        state = state_of("run-1", seq)
        encoded = codecs.encode(state, base=first if 0 < seq < 9 else None)
        row = make_row(
            "run-1", seq, blob=encoded.blob, base_hash=encoded.base_hash,
            content_hash=codecs.content_hash(state),
        )  # fmt: skip
        row.raw_bytes = len(state)
        rows.append(row)
    with SQLiteStore(path) as store:
        commit(store, rows)
    assert {row.base_hash for row in rows[1:-1]} == {codecs.content_hash(first)}
    return path


@pytest.mark.parametrize("kind", [Meddled, Deleting])
def test_what_is_dropped_or_deleted_meanwhile(database: Path, kind: type[Meddled]) -> None:
    """A state and its base are gone once they are asked for, and so is the state from the list."""
    report = Report("")
    with kind(database) as store:
        check_executions(store, report)
        assert store.meddled
    assert report.findings == []
