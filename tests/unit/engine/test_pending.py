"""Writes without an outcome are noted by saves in some threads while others look through them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.queue.layout import segment_of

#: No segment of the journal has it, so nothing waits for its records.
_NO_SEGMENT = 1 << 30


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as Python lets them: after each call of a function."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[CheckpointEngine]:
    """An engine without a service: no write has an outcome."""
    store, directory = SQLiteStore(tmp_path / "agent.db"), str(tmp_path / "state")
    engine = CheckpointEngine(store, directory=directory, service="attach")
    yield engine
    engine.close_sync(timeout=0)


@pytest.mark.usefixtures("hasty")
def test_a_segment_is_given_back_while_other_threads_save(engine: CheckpointEngine) -> None:
    """The connection's thread gives segments back without the lock that saves hold."""
    engine.save_sync(ExecutionNode("run"), b"state")
    handle = engine.open_handle()
    failures: list[BaseException] = []
    ended = threading.Event()

    def give_back() -> None:
        try:
            while not ended.is_set():
                handle.pending.before_reuse(_NO_SEGMENT)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=give_back)
    thread.start()
    try:
        receipts = [engine.save_sync(ExecutionNode("run"), b"state") for _ in range(3000)]
    finally:
        ended.set()
        thread.join()
    assert not failures
    assert all(segment_of(receipt.position) < _NO_SEGMENT for receipt in receipts)
    assert all(receipt.outcome is None for receipt in receipts), "one was taken for settled"
    assert len(handle.pending) == 3001
