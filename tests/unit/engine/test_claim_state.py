"""How a claim of this process appears at a moment: a run asks before it does what cannot be undone,
and only one that is held needs no question to the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.config import EngineConfig
from livingai.engine.pending import OwnedExecution
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import INDEX_WAYS
from livingai.runs.ports import ClaimState
from tests.support.journals import Writer

RUN = "run-1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[CheckpointEngine]:
    """Its index has one set. No service is there, so nothing is stored."""
    limits = dataclasses.replace(JournalLimits(), index_sets=1)
    store, directory = SQLiteStore(tmp_path / "agent.db"), str(tmp_path / "state")
    with mock.patch.object(EngineConfig, "limits", return_value=limits):
        engine = CheckpointEngine(store, directory=directory, service="attach")
        yield engine
        engine.close_sync(timeout=0)


@pytest.fixture(params=[0, 2], ids=["without a record", "with records"])
def claim(engine: CheckpointEngine, request: pytest.FixtureRequest) -> OwnedExecution:
    owned, _ = engine.new_claim(RUN)
    for _ in range(request.param):
        engine.save_sync(ExecutionNode(RUN), b"x")
    assert engine.claim_state(RUN, owned) is ClaimState.HELD
    return owned


def test_one_that_another_process_has_taken(
    engine: CheckpointEngine, claim: OwnedExecution
) -> None:
    """It has not written anything yet."""
    with closing(Writer(engine.directory)) as other:
        other.enter("run-2")
        assert engine.claim_state(RUN, claim) is ClaimState.HELD, "another execution"
        other.enter(RUN)
        assert engine.claim_state(RUN, claim) is ClaimState.MARKED
    assert engine.claim_state(RUN, claim) is ClaimState.MARKED


def test_one_that_this_process_has_made_anew(
    engine: CheckpointEngine, claim: OwnedExecution
) -> None:
    again, _ = engine.new_claim(RUN)
    assert engine.claim_state(RUN, claim) is ClaimState.REPLACED
    assert engine.claim_state(RUN, again) is ClaimState.HELD


def test_one_whose_slot_others_have(engine: CheckpointEngine, claim: OwnedExecution) -> None:
    """A process that took the execution over meanwhile had no slot to mark."""
    for number in range(2 * INDEX_WAYS):
        engine.save_sync(ExecutionNode(f"other-{number}"), b"x")
    assert engine.claim_state(RUN, claim) is ClaimState.DISPLACED
    engine.keep_claim(RUN, claim)
    known = claim.seq > 0
    assert engine.claim_state(RUN, claim) is (ClaimState.MARKED if known else ClaimState.HELD)


def test_one_that_was_deleted_is_not_held(engine: CheckpointEngine, claim: OwnedExecution) -> None:
    engine.open_handle().forget(RUN)
    assert engine.claim_state(RUN, claim) is ClaimState.DISPLACED
    engine.keep_claim(RUN, claim)
    assert engine.claim_state(RUN, claim) is ClaimState.MARKED
