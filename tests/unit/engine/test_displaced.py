"""An engine whose claims displace each other in a small index."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.config import EngineConfig
from livingai.outcome import Receipt
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import INDEX_WAYS
from livingai.queue.record import execution_hash


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[CheckpointEngine]:
    """Its index has one set. No service is there, so nothing is stored."""
    limits = dataclasses.replace(JournalLimits(), index_sets=1)
    store, directory = SQLiteStore(tmp_path / "agent.db"), str(tmp_path / "state")
    with mock.patch.object(EngineConfig, "limits", return_value=limits):
        engine = CheckpointEngine(store, directory=directory, service="attach")
        yield engine
        engine.close_sync(timeout=0)


def save(engine: CheckpointEngine, run: int, state: bytes) -> Receipt:
    return engine.save_sync(ExecutionNode(f"run-{run}"), state)


def test_a_claim_goes_on_in_a_slot_of_its_own(engine: CheckpointEngine) -> None:
    """It counts as taken there, and writes nothing into the slot that it had: the execution in that
    has a record of its own."""
    for run in range(2 * INDEX_WAYS):
        save(engine, run, b"first of %d" % run)
    journal = engine.open_handle().journal
    assert journal is not None
    keys = [execution_hash(f"run-{run}") for run in range(2 * INDEX_WAYS)]
    before = {key: slot for key in keys if (slot := journal.index.get(key)) is not None}
    assert keys[0] not in before
    receipt = save(engine, 0, b"later")
    after = {key: slot for key in keys if (slot := journal.index.get(key)) is not None}
    ours = after.pop(keys[0])
    assert (ours.newest, ours.seq, ours.superseded) == (receipt.position, 2, True)
    assert len(after) == INDEX_WAYS - 1
    assert after.items() <= before.items()


def test_each_execution_has_its_own_state(engine: CheckpointEngine) -> None:
    """Whoever displaces whom: what the cache answers is the newest one, or nothing."""
    hits = 0
    for turn in range(3):
        for run in range(INDEX_WAYS + 1):
            save(engine, run, b"%d of %d" % (turn, run))
            found = engine.cached(f"run-{run}")
            if found is not None:
                hits += 1
                assert found.state == b"%d of %d" % (turn, run)
    assert hits
