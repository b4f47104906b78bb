"""``python -m bench.stall``: how long ``save`` holds an agent while nothing is stored.

The SQLite writer, then every process of the service, is stopped with SIGSTOP for ``--seconds``,
while the agents keep saving. It prints how long each save held them before, during and after the
stop, and the outcomes of the writes: every write has one at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter

import psutil

from bench.figures import quantile
from bench.machine import machine_facts
from bench.workload import Growth, Workload
from livingai import CheckpointEngine, ExecutionNode, Receipt, SQLiteStore
from livingai.protocol.ask import ask_service
from livingai.protocol.verbs import STATUS

_AGENTS = 4
_PAUSE_S = 0.005


class Agents:
    """Some agents of one process that save in turns, ``_PAUSE_S`` apart."""

    def __init__(self, engine: CheckpointEngine, seed: int) -> None:
        self._engine = engine
        growth = Growth(steps=200, first_bytes=5_000, last_bytes=100_000)
        workload = Workload("generated", seed)
        self._states = [list(workload.states(agent, growth)) for agent in range(_AGENTS)]
        self._round = 0
        self.receipts: list[Receipt] = []

    def save_for(self, seconds: float) -> list[float]:
        """Save for that long; how long each save held its agent, in ms."""
        held = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            agent, step = self._round % _AGENTS, self._round // _AGENTS
            states = self._states[agent]
            node = ExecutionNode(f"agent-{agent}", output={"step": step})
            began = time.perf_counter()
            receipt = self._engine.save_sync(node, states[step % len(states)])
            held.append((time.perf_counter() - began) * 1e3)
            self.receipts.append(receipt)
            self._round += 1
            time.sleep(_PAUSE_S)
        return held


def measure(roles: str, seconds: float, seed: int) -> None:
    """One stop of ``roles`` (``"writer"`` or ``"service"``); prints what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(os.path.join(folder, "bench.db"))
        with CheckpointEngine(store, on_full="raise", journal_bytes=2 << 30) as engine:
            agents = Agents(engine, seed)
            phases = {"before": agents.save_for(1.0)}
            engine.flush_sync(timeout=30)
            pids = ask_service(engine.directory, store.url, STATUS).pids
            supervisor = psutil.Process(pids.dispatcher).parent()
            assert supervisor is not None
            stopped = [pid for pid in pids.writers if pid]
            if roles == "service":
                stopped = [supervisor.pid, *(p.pid for p in supervisor.children(recursive=True))]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                phases["stopped"] = agents.save_for(seconds)
            finally:
                for pid in reversed(stopped):
                    os.kill(pid, signal.SIGCONT)
            phases["after"] = agents.save_for(1.0)
            outcomes = Counter(receipt.result(60).status for receipt in agents.receipts)
    for phase, held in phases.items():
        print(
            f"{roles:8} {phase:8} {len(held):5} saves   held p50 {quantile(held, 0.5):7.3f}   "
            f"p99 {quantile(held, 0.99):7.3f}   max {max(held):7.3f} ms",
            flush=True,
        )
    print(f"{roles:8} outcomes {dict(outcomes)} of {len(agents.receipts)} saves", flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.stall", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stop (10)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for roles in ("writer", "service"):
        measure(roles, options.seconds, options.seed)
    facts = machine_facts(tempfile.gettempdir())
    print("  ".join(f"{name}: {value}" for name, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
