"""Every accepted write gets exactly one terminal outcome, however it is asked for."""

from __future__ import annotations

import threading
from collections import Counter

import psutil
import pytest

from livingai import Durability, ExecutionNode
from livingai.queue.layout import RECORD_HEADER_BYTES
from livingai.queue.quarantine import aside_paths, read_aside
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.journals import flip_in_record, records
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sqlite import refuse
from tests.support.states import LARGE, state_of
from tests.support.waiting import frozen, until


def test_met(served: Place) -> None:
    with served.engine(budget_ms=60_000) as engine:
        outcome = engine.save_sync(ExecutionNode(served.run), b"state").result(patience(60))
        assert (outcome.status, outcome.level, outcome.stored) == ("met", Durability.STORE, True)
        assert 0 < outcome.latency_ms < 60_000
        assert outcome.reason == ""


def test_late(served: Place) -> None:
    with served.engine() as engine:
        receipt = engine.save_sync(ExecutionNode(served.run), b"state", budget_ms=0.001)
        outcome = receipt.result(patience(60))
        assert (outcome.status, outcome.level, outcome.stored) == ("late", Durability.STORE, True)
        assert outcome.latency_ms > 0.001
    assert peek.stored_state(served.database, served.run) == b"state"


def test_superseded(served: Place) -> None:
    """Without history only the newest of the states that queue up is stored."""
    agent = served.agent(history=False)
    agent.call(acts.save, served.run, 0)
    agent.settled(1)
    with frozen(served.pids()["writers"]):
        for step in range(1, 41):
            agent.call(acts.save, served.run, step)
            agent.call(acts.save, f"{served.run} with history", step, history=True)
    told = agent.call(acts.statuses)
    assert Counter(told[2::2]).keys() <= {"met", "late"}, "a state that asked for history"
    alone = [told[0], *told[1::2]]
    assert alone[0] in ("met", "late")
    assert alone[-1] in ("met", "late"), "nothing supersedes the last one"
    assert alone.count("superseded") >= 30
    stored = peek.stored_versions(served.database, served.run)
    assert len(stored) == len(alone) - alone.count("superseded")
    assert peek.stored_state(served.database, served.run) == state_of(served.run, 40)
    assert len(peek.stored_versions(served.database, f"{served.run} with history")) == 40


def test_superseded_is_reported_when_the_newer_state_is_stored(served: Place) -> None:
    """Not before: a write whose outcome is "superseded" is no longer the newest one."""
    agent = served.agent(history=False)
    agent.call(acts.save, served.run, 0)
    agent.settled(1)
    with frozen(served.pids()["writers"]):
        for step in range(1, 10):
            agent.call(acts.save, served.run, step)
        served.ask("status")  # a turn of the dispatcher has passed
        assert agent.call(acts.outcomes, 2, timeout=0.5)["known"] == 1
    assert "superseded" in agent.settled(10)


def save_in_threads(agent: AgentSide, execution: str, threads: int, steps: int) -> None:
    """Many threads save the same execution and others, all at once."""

    def save(number: int) -> None:
        for step in range(steps):
            acts.save(agent, execution, number * steps + step, size=2000)
            acts.save(agent, f"{execution} {number}", step, size=200)

    crew = [threading.Thread(target=save, args=(number,)) for number in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()


def test_threads_share_an_engine(served: Place) -> None:
    agent = served.agent()
    agent.call(save_in_threads, served.run, 8, 25)
    assert agent.settled(400).keys() <= {"met", "late"}
    versions = peek.stored_versions(served.database, served.run)
    assert versions == [(1, seq) for seq in range(1, 201)]
    assert sorted(peek.stored_steps(served.database, served.run)) == list(range(200))
    for number in range(8):
        assert peek.stored_steps(served.database, f"{served.run} {number}") == list(range(25))


def test_quarantined_because_the_store_refuses_it(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    refuse(state_dir.database, "NEW.execution_id = 'poison'")
    for step in range(1, 6):
        agent.call(acts.save, "run-1", step)
        agent.call(acts.save, "poison", step)
    summed = agent.call(acts.outcomes)
    assert summed["statuses"].pop("quarantined") == 5
    assert sum(summed["statuses"].values()) == 6
    assert summed["levels"]["JOURNAL"] == 5
    assert any("no poison here" in reason for reason in summed["reasons"])
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(6))
    aside = [read_aside(path) for path in aside_paths(state_dir.directory.quarantine)]
    assert len(aside) == 5
    assert all("no poison here" in record.about["reason"] for record in aside)
    assert all(state_of("poison", step) in aside[step - 1].data for step in range(1, 6))


def test_what_is_refused_supersedes_nothing(state_dir: Place) -> None:
    """The newest of the queued states is one that the store does not take: the one before it is."""
    agent = state_dir.agent(history=False)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    refuse(state_dir.database, "json_extract(NEW.output, '$.step') = 9")
    with frozen(state_dir.pids()["writers"]):
        # One of another execution is what the stopped writer has. The rest queues up behind it,
        # all of it: these states are too small for the compressors.
        agent.call(acts.save, "run-2", 0, size=None)
        until(lambda: state_dir.ask("status").batches == 1, what="a batch under way")
        for step in range(1, 10):
            agent.call(acts.save, "run-1", step, size=400)
        until(lambda: state_dir.ask("status").inflight == 10, what="nine behind it")
    told = agent.call(acts.statuses)
    assert told[2:9] == ["superseded"] * 7
    assert told[9] in ("met", "late")
    assert told[10] == "quarantined"
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 8, 400)


@pytest.mark.parametrize("size", [200, 20_000, LARGE])
@pytest.mark.parametrize("part", ["header", "state"])
def test_quarantined_because_it_is_damaged(state_dir: Place, size: int, part: str) -> None:
    """Bits flip in the journal before the service has read them: what is around is stored, what is
    damaged is never returned."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    (journal,) = state_dir.journals()
    with frozen(state_dir.service_processes()):
        for step in range(1, 6):
            agent.call(acts.save, f"run-{step}", step, size=size)
        hurt = records(journal)[3]
        flip_in_record(
            journal, hurt, 40 if part == "header" else RECORD_HEADER_BYTES + hurt.header.node_len
        )
    told = agent.call(acts.statuses)
    assert told.pop(3) == "quarantined"
    assert set(told) <= {"met", "late"}
    for step in (1, 2, 4, 5):
        stored = peek.stored_state(state_dir.database, f"run-{step}")
        assert stored == state_of(f"run-{step}", step, size)
    assert peek.stored_state(state_dir.database, "run-3") is None
    (aside,) = aside_paths(state_dir.directory.quarantine)
    reason = read_aside(aside).about["reason"]
    assert "damaged" in reason or "checksum" in reason


def test_outcome_that_cannot_be_written_into_the_journal(state_dir: Place) -> None:
    """The record is stored, and its owner gets that outcome."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    dispatcher = psutil.Process(state_dir.pids()["dispatcher"])
    unlimited = dispatcher.rlimit(psutil.RLIMIT_FSIZE)
    dispatcher.rlimit(psutil.RLIMIT_FSIZE, (64, unlimited[1]))
    agent.call(acts.save_many, "run-2", 5)
    agent.settled(6)
    dispatcher.rlimit(psutil.RLIMIT_FSIZE, unlimited)
    state_dir.tracebacks_allowed = True


def claim_again(agent: AgentSide, execution: str, service: list[int]) -> bool:
    """Save as a fenced owner, and claim anew before that is known; whether the hot cache then knows
    what the new claim has saved."""
    with frozen(service):
        acts.save(agent, execution, 1)
        agent.engine.new_claim(execution)
        acts.save(agent, execution, 2)
    acts.outcomes(agent)
    found = agent.engine.cached(execution)
    return found is not None and found.state == state_of(execution, 2)


def test_fenced_writes_of_an_earlier_claim(state_dir: Place) -> None:
    first, second = state_dir.agent(), state_dir.agent()
    first.call(acts.save, "run-1", 0)
    first.settled(1)
    assert second.call(acts.claim, "run-1") == 2
    assert first.call(claim_again, "run-1", state_dir.service_processes())
    assert first.settled(3)["fenced"] == 1
