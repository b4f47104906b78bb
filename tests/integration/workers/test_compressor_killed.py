"""A compressor that dies in the middle of its answer: the executor's thread then reads the rest for
ever, so the pool has to notice by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random

import psutil
import pytest

from livingai import CheckpointEngine, ExecutionNode
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.states import LARGE
from tests.support.waiting import until


def is_writing(pid: int) -> bool:
    """Whether a process waits for room in a pipe."""
    try:
        where = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False
    return "pipe" in where and "write" in where


def settled(pids: Sequence[int]) -> bool:
    """Whether these processes have all come to rest, for want of a reader or of work."""
    return all(psutil.Process(pid).status() == psutil.STATUS_SLEEPING for pid in pids)


def test_killed_in_the_middle_of_its_answer(state_dir: Place) -> None:
    random = Random(1)
    with state_dir.service() as service, CheckpointEngine(state_dir.store()) as engine:
        engine.save_sync(ExecutionNode("warm"), b"x").result(patience(30))
        pids = service.status().pids
        for _ in range(60):
            receipts = [
                engine.save_sync(ExecutionNode(f"run-{n}"), random.randbytes(LARGE))
                for n in range(12)
            ]
            receipts[0].result(patience(30))  # the compressors are at work
            os.kill(pids.dispatcher, signal.SIGSTOP)
            until(lambda: settled(pids.compressors), what="compressors at rest", timeout=30)
            victim = next((pid for pid in pids.compressors if is_writing(pid)), None)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
            os.kill(pids.dispatcher, signal.SIGCONT)
            for receipt in receipts:
                assert receipt.result(patience(30)).stored
            if victim is not None:
                assert victim not in service.status().pids.compressors
                return
        pytest.skip("no compressor was caught in the middle of its answer")
