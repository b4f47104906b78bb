"""Delete, fork, prune and fencing between two state directories on one store; real processes."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from random import Random

import pytest

from livingai import CheckpointEngine, ExecutionNode, Status
from livingai.errors import (
    ConfigurationError,
    ExecutionNotFoundError,
    ServiceUnavailableError,
)
from livingai.stores.retention import Retention
from livingai.workers.dispatcher.delta_bases import MAX_CHAIN
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen, gone, joined, kill, until


def node(execution_id: str = "run-1") -> ExecutionNode:
    return ExecutionNode(execution_id, status=Status.SUCCESS)


def grow(engine: CheckpointEngine, execution_id: str, steps: int) -> bytes:
    state = b""
    for step in range(steps):
        state += b"message %d of this run, long enough to be worth a delta. " % step * 40
        engine.save_sync(node(execution_id), state)
    return state


def test_saved_while_it_is_deleted(state_dir: Place) -> None:
    """What is saved before the store has deleted goes with the rest; what is saved after the answer
    begins the execution anew."""
    with state_dir.engine() as engine:
        grow(engine, "run-1", 3)
        engine.flush_sync()
        asked = threading.Event()
        forget = engine.open_handle().forget

        def forgotten(execution_id: str) -> None:
            forget(execution_id)
            asked.set()

        engine.open_handle().forget = forgotten  # type: ignore[method-assign]
        with frozen(state_dir.service_processes()):
            deleting = threading.Thread(target=engine.delete_sync, args=("run-1",))
            deleting.start()
            assert asked.wait(patience(60))
            between = engine.save_sync(node(), b"between")
        joined(deleting, timeout=60)
        assert not deleting.is_alive()
        assert between.result(patience(60)).status in ("met", "late", "fenced")
        assert engine.save_sync(node(), b"after").result(patience(60)).stored
        assert engine.latest_sync("run-1")[1] == b"after"


def test_deleted_data_does_not_come_back(state_dir: Place) -> None:
    with CheckpointEngine(state_dir.store()) as engine:
        grow(engine, "run-1", 20)
        grow(engine, "run-2", 3)
        assert engine.delete_sync("run-1") == 20
        with pytest.raises(ExecutionNotFoundError):
            engine.latest_sync("run-1")
        engine.flush_sync(timeout=patience(30))
        with pytest.raises(ExecutionNotFoundError):
            engine.nodes_sync("run-1")
        assert len(engine.nodes_sync("run-2")) == 3
        outcome = engine.save_sync(node(), b"begun anew").result(patience(30))
        assert outcome.stored
        assert engine.latest_sync("run-1")[1] == b"begun anew"
        assert len(engine.nodes_sync("run-1")) == 1


def test_a_delete_fences_the_owner_in_another_process(state_dir: Place) -> None:
    other = CheckpointEngine(state_dir.store(), directory=str(state_dir.folder / "second"))
    with CheckpointEngine(state_dir.store()) as engine, other:
        assert engine.save_sync(node(), b"first").result(patience(30)).stored
        assert other.delete_sync("run-1") == 1
        assert engine.save_sync(node(), b"zombie").result(patience(30)).status == "fenced"
        with pytest.raises(ExecutionNotFoundError):
            other.latest_sync("run-1")


def test_two_directories_on_one_store_fence_each_other(state_dir: Place) -> None:
    """As two hosts would: they share nothing but the store."""
    second = CheckpointEngine(state_dir.store(), directory=str(state_dir.folder / "second"))
    with CheckpointEngine(state_dir.store()) as first, second:
        assert first.save_sync(node(), b"one").result(patience(30)).stored
        assert second.claim_sync("run-1") == 2
        assert first.save_sync(node(), b"zombie").result(patience(30)).status == "fenced"
        assert second.save_sync(node(), b"two").result(patience(30)).stored
        assert second.latest_sync("run-1")[1] == b"two"
        assert first.latest_sync("run-1")[1] == b"two"
        assert first.claim_sync("run-1") == 3
        assert first.save_sync(node(), b"three").result(patience(30)).stored
        assert second.save_sync(node(), b"late zombie").result(patience(30)).status == "fenced"


def test_fork_copies_everything_and_leaves_the_source_alone(state_dir: Place) -> None:
    with CheckpointEngine(state_dir.store()) as engine:
        state = grow(engine, "run-1", 10)
        assert engine.fork_sync("run-1", "run-1b") == 10
        forked, copied = engine.latest_sync("run-1b")
        assert copied == state
        assert forked.execution_id == "run-1b"
        assert engine.nodes_sync("run-1b")[0].metadata["forked_from"] == "run-1"
        assert engine.save_sync(node("run-1b"), b"goes its own way").result(patience(30)).stored
        assert engine.latest_sync("run-1")[1] == state
        with pytest.raises(ConfigurationError):
            engine.fork_sync("run-1", "run-1b")
        with pytest.raises(ExecutionNotFoundError):
            engine.fork_sync("missing", "x")


def test_a_fork_that_was_cut_short_is_finished_later(state_dir: Place) -> None:
    """The housekeeper is killed in the middle; asking again completes the fork."""
    steps = 1500
    with CheckpointEngine(state_dir.store()) as engine, state_dir.store() as store:
        for _ in range(steps):
            engine.save_sync(node())
        engine.save_sync(node(), b"the end")
        engine.flush_sync(timeout=patience(60))
        engine.delete_sync("missing")  # the housekeeper is up
        for number in range(20):
            new_id = f"fork-{number}"
            pid = int(state_dir.pids()["housekeeper"])
            asked = threading.Thread(target=forked, args=(engine, new_id))
            asked.start()
            until(lambda n=new_id: store.list_executions(prefix=n), what="its first nodes")  # type: ignore[misc]
            kill(pid)
            joined(asked)
            gone(pid)
            if len(list(store.nodes(new_id))) <= steps:
                break
        else:
            pytest.skip("no fork was caught in the middle")
        assert engine.fork_sync("run-1", new_id) == steps + 1
        assert len(engine.nodes_sync(new_id)) == steps + 1
        assert engine.latest_sync(new_id)[1] == b"the end"
        assert engine.fork_sync("run-1", new_id) == steps + 1
        with pytest.raises(ConfigurationError):
            engine.fork_sync("nobody else", new_id)
        assert engine.save_sync(node(new_id), b"goes its own way").result(patience(30)).stored
        with pytest.raises(ConfigurationError):
            engine.fork_sync("run-1", new_id)


def forked(engine: CheckpointEngine, new_id: str) -> None:
    """Fork, whatever comes of it."""
    with suppress(ServiceUnavailableError):
        engine.fork_sync("run-1", new_id)


def test_pruning_keeps_every_state_that_stays_readable(state_dir: Place) -> None:
    async def main() -> None:
        async with CheckpointEngine(state_dir.store(), patch_from_bytes=0) as engine:
            state = grow(engine, "run-1", 60)
            await engine.flush(timeout=patience(30))
            pruned = await engine.prune(Retention(keep_last=3))
            # What is kept is built on the newest snapshot: that before the state of the longest
            # chain, and what comes behind.
            assert pruned.checkpoints == MAX_CHAIN + 1
            assert pruned.blob_bytes > 0
            more = grow(engine, "run-1", 61)
            assert len(more) > len(state)
            await engine.flush(timeout=patience(30))
            nodes = await engine.nodes("run-1")
            assert len(nodes) == 121

    asyncio.run(main())
    with state_dir.store() as store:
        left = list(store.checkpoints("run-1", blobs=False))
        assert 3 <= len(left) < 121
    with CheckpointEngine(state_dir.store()) as engine:  # all that is left decodes
        for checkpoint in left:
            assert engine.load_sync(checkpoint.node_id)[1] is not None


def test_pruning_gives_space_back(state_dir: Place) -> None:
    random = Random(7)
    with CheckpointEngine(state_dir.store()) as engine:
        for _ in range(250):
            engine.save_sync(node(), random.randbytes(100_000))
        engine.flush_sync(timeout=patience(60))
        before = engine.size_sync()
        assert engine.prune_sync(Retention(keep_last=2)).blob_bytes >= 248 * 100_000
        # A few MB stay allocated for the next writes, and the log keeps its size.
        assert engine.size_sync() < before * 0.7


def test_the_engines_policy_is_applied_by_the_service(
    state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVINGAI_RETAIN_EVERY_S", "0.2")
    keep = Retention(keep_last=2)
    with CheckpointEngine(state_dir.store(), retention=keep, patch_from_bytes=0) as engine:
        grow(engine, "run-1", MAX_CHAIN + 12)  # eleven behind the second snapshot
        engine.flush_sync(timeout=patience(30))
        with state_dir.store() as store:
            while len(list(store.checkpoints("run-1", blobs=False))) > 20:
                engine.drain_sync()  # asks the service, which takes its time
