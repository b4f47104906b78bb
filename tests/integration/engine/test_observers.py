"""Observers see each outcome of their engine once, whatever happens to the service or to them."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from livingai import ExecutionNode
from livingai.outcome import Outcome, Receipt
from livingai.queue.layout import RECORD_HEADER_BYTES
from tests.support import acts
from tests.support.journals import flip_in_record, records
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sqlite import refuse
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


def test_each_outcome_is_observed_once_even_if_the_service_dies(state_dir: Place) -> None:
    seen, more = Seen(), Seen()
    with state_dir.engine(history=False, budget_ms=60_000) as engine:
        engine.observe(seen)
        end = engine.observe(more)
        receipts = [engine.save_sync(ExecutionNode("run"), b"first")]
        receipts[0].result(patience(60))
        with frozen(state_dir.pids()["writers"]):
            receipts += [engine.save_sync(ExecutionNode("run"), bytes([n])) for n in range(20)]
            receipts += [engine.save_sync(ExecutionNode("slow"), b"x", budget_ms=0.001)]
        kill(*state_dir.service_processes())
        receipts += [engine.save_sync(ExecutionNode("run"), b"last")]
        outcomes = [receipt.result(patience(60)) for receipt in receipts]
        until(lambda: len(more.outcomes) == len(receipts), what="the observers know, too")
        assert sorted(seen.outcomes) == sorted(
            (receipt.lsn, outcome) for receipt, outcome in zip(receipts, outcomes, strict=True)
        )
        assert seen.outcomes == more.outcomes
        assert seen.by_status() == engine.sla().outcomes
        assert {"met", "late"} <= seen.by_status().keys()
        end()
        end()
        engine.save_sync(ExecutionNode("run"), b"after").result(patience(60))
        until(lambda: len(seen.outcomes) == len(receipts) + 1, what="one more outcome")
        assert len(more.outcomes) == len(receipts)
    assert len(seen.outcomes) == len(receipts) + 1


def test_an_observer_that_fails_harms_nothing(
    state_dir: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_receipt: Receipt, _outcome: Outcome, /) -> None:
        raise RuntimeError("the metrics are broken")

    seen = Seen()
    with state_dir.engine(budget_ms=60_000) as engine:
        engine.observe(broken)
        engine.observe(seen)
        with caplog.at_level(logging.ERROR, "livingai"):
            assert engine.save_sync(ExecutionNode("run"), b"state").result(patience(60)).stored
            until(lambda: seen.outcomes, what="the second observer is called all the same")
        assert seen.by_status() == {"met": 1} == engine.sla().outcomes
    assert "the metrics are broken" in caplog.text


def test_a_take_over_is_observed(state_dir: Place) -> None:
    """Each write of the former owner ends fenced, and its observers see that once; the successor's
    are not theirs."""
    seen = Seen()
    with state_dir.engine(budget_ms=60_000) as engine:
        engine.observe(seen)
        assert engine.save_sync(ExecutionNode("run"), b"mine").result(patience(60)).stored
        successor = state_dir.agent()
        successor.call(acts.save, "run", 1)
        successor.settled(1)
        fenced = [engine.save_sync(ExecutionNode("run"), bytes([n])) for n in range(3)]
        outcomes = [receipt.result(patience(60)) for receipt in fenced]
        until(lambda: len(seen.outcomes) == 4, what="the observer knows, too")
        assert seen.outcomes[1:] == [
            (receipt.lsn, outcome) for receipt, outcome in zip(fenced, outcomes, strict=True)
        ]
        assert seen.by_status() == {"met": 1, "fenced": 3}
        assert all("taken over" in outcome.reason for outcome in outcomes)
        assert {name: n for name, n in engine.sla().outcomes.items() if n} == seen.by_status()
        # What follows is the other's, also where this process claims the execution anew.
        engine.claim_sync("run")
        assert engine.save_sync(ExecutionNode("run"), b"mine again").result(patience(60)).stored
        until(lambda: len(seen.outcomes) == 5, what="one more outcome")
    assert seen.by_status() == {"met": 2, "fenced": 3}


@pytest.mark.parametrize("part", ["header", "state"])
def test_what_is_set_aside_is_observed(state_dir: Place, part: str) -> None:
    """A row that the store refuses, and a record that is damaged before the service reads it."""
    seen = Seen()
    with state_dir.engine(budget_ms=60_000) as engine:
        engine.observe(seen)
        assert engine.save_sync(ExecutionNode("run"), b"good").result(patience(60)).stored
        refuse(state_dir.database, "NEW.execution_id = 'poison'")
        refused = engine.save_sync(ExecutionNode("poison"), b"state")
        assert "no poison here" in refused.result(patience(60)).reason
        (journal,) = state_dir.journals()
        with frozen(state_dir.service_processes()):
            damaged = engine.save_sync(ExecutionNode("damaged"), b"state")
            found = next(each for each in records(journal) if each.header.lsn == damaged.lsn)
            state = RECORD_HEADER_BYTES + found.header.node_len
            flip_in_record(journal, found, 40 if part == "header" else state)
        assert engine.save_sync(ExecutionNode("run"), b"last").result(patience(60)).stored
        assert not damaged.result(patience(60)).stored
        until(lambda: len(seen.outcomes) == 4, what="the observer knows, too")
        by_lsn = dict(seen.outcomes)
        assert len(by_lsn) == 4
        assert by_lsn[refused.lsn] == refused.result(0)
        assert by_lsn[damaged.lsn] == damaged.result(0)
        assert seen.by_status() == {"met": 2, "quarantined": 2}
        assert {name: n for name, n in engine.sla().outcomes.items() if n} == seen.by_status()
