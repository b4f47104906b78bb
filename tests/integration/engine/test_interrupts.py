"""Ctrl-C, or any exception out of a signal's handler, in the middle of a save.

It may come between any two steps. Whatever was not returned by ``save`` may or may not be stored;
all that was is stored, the next save works, and no lock stays held: neither by the agent's thread
nor by livingai's, so that the process ends by itself. Each single step is interrupted on purpose in
``unit/package/test_promise.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any

from livingai import Durability, ExecutionNode, Receipt
from livingai.errors import FlushTimeoutError, OutcomeTimeoutError
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.place import Place


def save_under_signals(agent: AgentSide, execution: str, seed: int, interrupts: int) -> list[Any]:
    """Save on and on, and wait in all the ways there are, interrupted at random; the nodes of saves
    that returned, and how many interrupts came."""
    chance = random.Random(seed)
    saved: list[str] = []
    seen = 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def save(durability: Durability | None = None) -> Receipt:
        node = ExecutionNode(execution)
        receipt = agent.engine.save_sync(node, b"state", durability=durability)
        saved.append(node.id)
        return receipt

    ways: list[Callable[[], Any]] = [
        save,
        lambda: save(Durability.FSYNC),
        lambda: save(Durability.STORE),
        lambda: save().result(0.001),
        lambda: agent.engine.flush_sync(timeout=0.001),
        lambda: agent.engine.executions_sync(limit=1),
    ]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(interrupts):
            way = ways[0] if number % 2 else chance.choice(ways)
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(20e-6, 400e-6))
                while True:
                    with contextlib.suppress(OutcomeTimeoutError, FlushTimeoutError):
                        way()
            except KeyboardInterrupt:
                seen += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    save(Durability.FSYNC)
    agent.engine.flush_sync(timeout=patience(60))
    return [saved, seen]


def test_interrupted_saves(served: Place) -> None:
    seed = int(os.environ.get("LIVINGAI_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print("seed", seed)
    agent = served.agent()
    agent.call(acts.save, f"{served.run} first")
    agent.settled(1)
    saved, seen = agent.call(save_under_signals, served.run, seed, 3000)
    assert seen >= 2800, "no interrupts, no test"
    stored = peek.stored_nodes(served.database, served.run)
    lost = set(saved) - set(stored)
    assert not lost, f"{len(lost)} of {len(saved)} saves that returned are not stored"
    assert agent.leave() == 0
