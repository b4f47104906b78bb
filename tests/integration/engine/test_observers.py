"""Observers see each outcome of their engine once, whatever happens to the service or to them."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from livingai import ExecutionNode
from livingai.outcome import Outcome, Receipt
from tests.support.place import Place
from tests.support.waiting import frozen, kill, until


class Seen:
    """An observer that keeps what it is called with."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, Outcome]] = []

    def __call__(self, receipt: Receipt, outcome: Outcome, /) -> None:
        assert receipt.outcome is outcome
        self.outcomes.append((receipt.lsn, outcome))

    def by_status(self) -> Counter[str]:
        return Counter(outcome.status.value for _, outcome in self.outcomes)


def test_each_outcome_once_also_across_a_dead_service(state_dir: Place) -> None:
    seen, more = Seen(), Seen()
    with state_dir.engine(history=False, budget_ms=60_000) as engine:
        engine.observe(seen)
        end = engine.observe(more)
        receipts = [engine.save_sync(ExecutionNode("run"), b"first")]
        receipts[0].result(60)
        with frozen(state_dir.pids()["writers"]):
            receipts += [engine.save_sync(ExecutionNode("run"), bytes([n])) for n in range(20)]
            receipts += [engine.save_sync(ExecutionNode("slow"), b"x", budget_ms=0.001)]
        kill(*state_dir.service_processes())
        receipts += [engine.save_sync(ExecutionNode("run"), b"last")]
        outcomes = [receipt.result(60) for receipt in receipts]
        until(lambda: len(more.outcomes) == len(receipts), what="the observers know, too")
        assert sorted(seen.outcomes) == sorted(
            (receipt.lsn, outcome) for receipt, outcome in zip(receipts, outcomes, strict=True)
        )
        assert seen.outcomes == more.outcomes
        assert seen.by_status() == engine.sla().outcomes
        assert {"met", "late"} <= seen.by_status().keys()
        end()
        end()
        engine.save_sync(ExecutionNode("run"), b"after").result(60)
        until(lambda: len(seen.outcomes) == len(receipts) + 1, what="one more outcome")
        assert len(more.outcomes) == len(receipts)
    assert len(seen.outcomes) == len(receipts) + 1


def test_one_that_fails_harms_nothing(state_dir: Place, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_receipt: Receipt, _outcome: Outcome, /) -> None:
        raise RuntimeError("the metrics are broken")

    seen = Seen()
    with state_dir.engine(budget_ms=60_000) as engine:
        engine.observe(broken)
        engine.observe(seen)
        with caplog.at_level(logging.ERROR, "livingai"):
            assert engine.save_sync(ExecutionNode("run"), b"state").result(60).stored
            until(lambda: seen.outcomes, what="the second observer is called all the same")
        assert seen.by_status() == {"met": 1} == engine.sla().outcomes
    assert "the metrics are broken" in caplog.text
