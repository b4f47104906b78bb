"""Who encodes a state, and what becomes of one whose encoding goes wrong."""

from __future__ import annotations

import os
from contextlib import closing
from random import Random, SystemRandom

import pytest

from livingai import ExecutionNode
from livingai.codecs import Codec
from tests.support import acts, peek
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sqlite import raw
from tests.support.states import LARGE, state_of
from tests.support.waiting import frozen

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or SystemRandom().getrandbits(32)


def codecs_of(place: Place, execution: str) -> list[int]:
    """The codec that each state is stored with, oldest first."""
    with closing(place.store()) as store:
        store.open()
        return [(found.blob or b"\xff")[0] for found in store.checkpoints(execution)]


def test_small_states_do_not_need_the_compressors(state_dir: Place) -> None:
    """They are stored while these are stopped, and nobody finds that these are stopped, which would
    end them."""
    agent = state_dir.agent(compressors=2)
    agent.call(acts.save, "large", 0, size=LARGE)  # the compressors are there
    agent.settled(1)
    compressors = state_dir.compressors()
    with frozen(compressors):
        for step in range(10):
            agent.call(acts.save, "small", step)
        agent.settled(11)
        assert state_dir.pids()["compressors"] == compressors
    assert codecs_of(state_dir, "small") == [Codec.ZSTD] + [Codec.DELTA] * 9
    assert peek.stored_steps(state_dir.database, "small") == list(range(10))
    assert peek.stored_state(state_dir.database, "small") == state_of("small", 9)


def test_compressors_start_for_the_first_state_that_needs_them(state_dir: Place) -> None:
    """Of a service on demand; that of ``livingai serve`` has them before it is ready."""
    agent = state_dir.agent(compressors=2)
    agent.call(acts.save_many, "small", 10)
    agent.settled(10)
    state_dir.ask("ready")
    status = state_dir.ask("status")
    assert status.pids.compressors == ()
    assert status.compression == "by the writers (compressors start when they are needed)"
    agent.call(acts.save, "large", 0, size=LARGE)
    agent.settled(11)
    assert len(state_dir.compressors()) == 2
    assert agent.leave() == 0
    state_dir.empty()
    with state_dir.service() as service:
        assert service.status().pids.compressors


def test_large_states_that_copy_much_do_not_need_them_either(state_dir: Place) -> None:
    """Nor do they once they do so again, behind some that were others all over."""
    with state_dir.service() as service, state_dir.engine() as engine:

        def save(state: bytes) -> None:
            assert engine.save_sync(ExecutionNode("run-1"), state).result(patience(30)).stored

        for step in range(3):  # the second is tried by the writer, the third no more
            save(state_of("run-1", step, LARGE))
        save(state_of("run-1", 2, LARGE) + b"one more")  # encoded where the one before was
        compressors = service.status().pids.compressors
        with frozen(compressors):
            save(state_of("run-1", 2, LARGE) + b"one more, and another")
            assert service.status().pids.compressors == compressors
    found = codecs_of(state_dir, "run-1")
    assert Codec.DELTA not in found[:3]
    assert found[3:] == [Codec.DELTA, Codec.DELTA]
    last = state_of("run-1", 2, LARGE) + b"one more, and another"
    assert peek.stored_state(state_dir.database, "run-1") == last


@pytest.mark.parametrize("history", [True, False])
def test_all_ways_of_encoding_at_once(state_dir: Place, history: bool) -> None:
    """Nothing waits for an outcome: batches hold small and large states of one execution, and those
    behind a state that its writer leaves to the compressors are not stored before it."""
    random = Random(SEED)
    print("seed", SEED)
    runs = [f"run-{n}" for n in range(4)]
    newest: dict[str, bytes] = {}
    with state_dir.service(), state_dir.engine(history=history) as engine:
        receipts = []
        for step in range(120):
            run = random.choice(runs)
            state = random.choice(
                (
                    state_of(run, step, 500),
                    state_of(run, step, 20_000),
                    state_of(run, step, LARGE),
                    newest.get(run, b"[") + b"and more " * random.randrange(1, 100),
                )
            )
            newest[run] = state
            node = ExecutionNode(run, output={"step": step})
            receipts.append(engine.save_sync(node, state))
            if random.random() < 0.02:
                receipts[-1].result(patience(60))
        outcomes = [receipt.result(patience(60)) for receipt in receipts]
    allowed = {"met", "late"} if history else {"met", "late", "superseded"}
    assert {str(outcome.status) for outcome in outcomes} <= allowed
    for run, state in newest.items():
        assert peek.stored_state(state_dir.database, run) == state
    if history:
        order = "SELECT execution_id, blob_id FROM checkpoints ORDER BY execution_id, epoch, seq"
        stored = raw(state_dir.database, order)
        assert len(stored) == 120
        assert stored == sorted(stored), "blobs are numbered as they are written"


@pytest.mark.parametrize("action", ["kill*1", "error"])
def test_a_state_that_no_writer_can_encode(state_dir: Place, action: str) -> None:
    """Each writer dies of it, or each fails: the state is stored as it is."""
    armed = {"LIVINGAI_FAILPOINTS": f"writer.before_encode={action}"}
    agent = state_dir.agent(env=armed, patch_from_bytes=0)
    for step in range(3):
        agent.call(acts.save, "run-1", step)
    agent.settled(3)
    assert codecs_of(state_dir, "run-1") == [Codec.RAW] * 3
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1, 2]
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 2)
