"""Ctrl-C, or any exception out of a signal's handler, in the middle of a save.

It may come between any two steps. Whatever was not returned by ``save`` may or may not be stored;
all that was is stored, the next save works, and no lock stays held.
"""

from __future__ import annotations

import os
import random
import signal
from typing import Any

from livingai import ExecutionNode
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.place import Place


def save_under_signals(agent: AgentSide, execution: str, seed: int, interrupts: int) -> list[Any]:
    """Save on and on, interrupted at random; the nodes of saves that returned, and how many
    interrupts came."""
    chance = random.Random(seed)
    saved: list[str] = []
    seen = 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(interrupts):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(20e-6, 400e-6))
                while True:
                    node = ExecutionNode(execution)
                    receipt = agent.engine.save_sync(node, b"state")
                    saved.append(node.id)
                    del receipt
            except KeyboardInterrupt:
                seen += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    agent.engine.flush_sync(timeout=30)
    return [saved, seen]


def test_interrupted_saves(served: Place) -> None:
    seed = int(os.environ.get("LIVINGAI_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print("seed", seed)
    agent = served.agent()
    agent.call(acts.save, f"{served.run} first")
    agent.settled(1)
    saved, seen = agent.call(save_under_signals, served.run, seed, 1500)
    assert seen >= 1400, "no interrupts, no test"
    stored = peek.stored_nodes(served.database, served.run)
    lost = set(saved) - set(stored)
    assert not lost, f"{len(lost)} of {len(saved)} saves that returned are not stored"
    assert agent.leave() == 0
