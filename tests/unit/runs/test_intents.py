"""Whose word counts before a call is made: the mark in the index, the store's answer, the outcome
of the intent."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from livingai import CheckpointEngine, Durability, ExecutionNode, NodeType, Status
from livingai.errors import FencedError, RecordRefusedError, RunError
from livingai.outcome import Outcome, OutcomeStatus, Receipt
from livingai.protocol.history import pack_history, unpack_history
from livingai.runs.calls import CallOptions
from livingai.runs.effects import Claim, Save, drive_sync
from livingai.runs.ownership import Ownership
from livingai.runs.ports import ClaimState
from livingai.runs.recovery import make_plan
from livingai.serial import pack
from livingai.stores.records import PackedNode
from tests.support.runs import Counter, new_id


def taken(engine: CheckpointEngine, *, exclusive: bool = False) -> tuple[Ownership, str]:
    """The ownership of a new execution."""
    run_id = new_id()
    owner = Ownership(engine, run_id, exclusive=exclusive)
    drive_sync(engine, owner.take(ExecutionNode(run_id)))
    return owner, run_id


def receipt_with(status: OutcomeStatus) -> Receipt:
    receipt = Receipt("run", "n", 1, 1, None)
    receipt._outcome = Outcome(status, Durability.JOURNAL, 1.0, "why")
    return receipt


def intent(run_id: str) -> ExecutionNode:
    return ExecutionNode(run_id, NodeType.TOOL, Status.RUNNING, metadata={"name": "charge"})


REFUSED: dict[OutcomeStatus, type[Exception]] = {
    OutcomeStatus.FENCED: FencedError,
    **{
        status: RecordRefusedError
        for status in OutcomeStatus
        if status not in (OutcomeStatus.FENCED, OutcomeStatus.MET, OutcomeStatus.LATE)
    },
}


@pytest.mark.parametrize(("status", "error"), REFUSED.items())
def test_an_intent_that_is_not_stored(
    engine: CheckpointEngine, status: OutcomeStatus, error: type[Exception]
) -> None:
    owner, run_id = taken(engine, exclusive=True)
    work: Generator[Any, Any, None] = owner.record_intent(intent(run_id))
    save = next(work)
    assert isinstance(save, Save)
    assert save.durability is Durability.STORE
    with pytest.raises(error, match="charge"):
        work.send(receipt_with(status))


@pytest.mark.parametrize("status", [OutcomeStatus.MET, OutcomeStatus.LATE])
def test_an_intent_that_is_stored(engine: CheckpointEngine, status: OutcomeStatus) -> None:
    owner, run_id = taken(engine, exclusive=True)
    work: Generator[Any, Any, None] = owner.record_intent(intent(run_id))
    next(work)
    with pytest.raises(StopIteration):
        work.send(receipt_with(status))


@pytest.mark.parametrize("state", ClaimState)
def test_who_is_asked(
    engine: CheckpointEngine, state: ClaimState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark alone is believed only as long as it says that nobody came."""
    owner, run_id = taken(engine)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "claim_state", lambda *_: state)
        for work in (owner.check(), owner.record_intent(intent(run_id))):
            effects: list[Any] = []
            try:
                effects.append(next(work))
                if isinstance(effects[-1], Save):
                    effects[-1] = work.send(engine.save_sync(effects[-1].node))
                work.send(1)
            except FencedError:
                assert state is ClaimState.REPLACED
            except StopIteration:
                assert state is not ClaimState.REPLACED
            asked = [effect for effect in effects if isinstance(effect, Claim)]
            assert bool(asked) is (state in (ClaimState.MARKED, ClaimState.DISPLACED))


def test_a_forked_child_owns_nothing(engine: CheckpointEngine) -> None:
    owner, run_id = taken(engine)
    owner._pid = 0  # as in a child
    for work in (owner.check(), owner.check(ask=True)):
        with pytest.raises(RunError, match="forked child"):
            next(work)
    work = owner.record_intent(intent(run_id))
    next(work)
    with pytest.raises(RunError, match="forked child"):
        work.send(receipt_with(OutcomeStatus.MET))


def test_a_failed_tool_is_never_made_again_unasked(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    def fail() -> None:
        calls.add()
        raise ValueError("no")

    for _ in range(2):
        with (
            engine.run_sync(run_id, retry_failed=True) as run,
            pytest.raises(ValueError, match="no"),
        ):
            run.tool("charge", fail)
    assert len(calls.calls) == 1


def test_a_later_epoch_is_behind_the_checkpoint_whatever_its_seq() -> None:
    nodes = [
        PackedNode(
            pack(ExecutionNode("run", NodeType.TOOL, Status.SUCCESS, id=name).to_wire()),
            epoch, seq, False, "success",
        )
        for name, epoch, seq in (("before", 1, 4), ("after", 1, 6), ("later", 2, 1))
    ]  # fmt: skip
    plan = make_plan("run", unpack_history(pack_history(("c", 1, 5, None), [1, b""], nodes), None))
    assert [node.id for node in plan.skipped_nodes] == ["after", "later"]


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_tool_that_took_too_long_may_have_happened(idempotent: bool) -> None:
    options = CallOptions(idempotent=idempotent, retries=1, retry_on=(TimeoutError, ValueError))
    assert options.retryable(ValueError())
    assert options.retryable(TimeoutError()) is idempotent
