"""Agents save while someone breaks the store's server again and again: nothing may be lost, nothing
doubled or out of order, each write has one outcome, and no save waits for the server."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from livingai import CheckpointEngine, ExecutionNode, NodeType, Outcome, Receipt, Status
from livingai.node import NodeField
from livingai.stores.base import Store
from tests.support import peek
from tests.support.patience import patience
from tests.support.states import state_of
from tests.support.waiting import joined

#: An execution of its own, saved once.
FIRST = "first"
BUDGET_MS = 50.0
#: What breaks the server, and repairs it; it calls its second argument while the server is down.
Break = Callable[[random.Random, Callable[[], None]], None]


class Savers(threading.Thread):
    """Saves step after step of its executions until it is asked to stop."""

    def __init__(self, engine: CheckpointEngine, executions: int) -> None:
        super().__init__(daemon=True)
        self.engine = engine
        self.halt = threading.Event()
        self.changed = threading.Condition()
        self.steps = {f"run-{number}": 0 for number in range(executions)}
        self.outcomes: dict[tuple[str, int], list[Outcome]] = {}
        self.rounds = 0
        self.stored = 0
        self.held_ms: list[float] = []
        #: When a save had returned (``time.monotonic()``).
        self.accepted: dict[tuple[str, int], float] = {}
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.halt.wait(0.05):
                for execution in self.steps:
                    self._save(execution)
                with self.changed:
                    self.rounds += 1
                    self.changed.notify_all()
        except BaseException as error:
            with self.changed:
                self.failure = error
                self.changed.notify_all()

    def _save(self, execution: str) -> None:
        step = self.steps[execution]
        node = ExecutionNode(
            execution, NodeType.PROMPT, Status.SUCCESS, id=f"{execution}/{step}", output=step
        )
        state = state_of(execution, step)
        began = time.perf_counter()
        receipt = self.engine.save_sync(node, state)
        self.held_ms.append((time.perf_counter() - began) * 1e3)
        self.accepted[execution, step] = time.monotonic()
        self.steps[execution] += 1
        told = self.outcomes[execution, step] = []

        def tell(receipt: Receipt) -> None:
            assert receipt.outcome is not None
            with self.changed:
                told.append(receipt.outcome)
                self.stored += 1
                self.changed.notify_all()

        receipt.add_callback(tell)

    def more_saved(self, timeout: float = 60.0) -> None:
        """Wait until each execution was saved once more: no save waits for a server."""
        with self.changed:
            goal = self.rounds + 2  # the round that is under way may have begun before
            done = self.changed.wait_for(
                lambda: self.rounds >= goal or self.failure, patience(timeout)
            )
        assert done, "saves wait for the server"
        assert self.failure is None, self.failure

    def more_stored(self, count: int, timeout: float = 60.0) -> None:
        """Wait until ``count`` more writes have their outcome."""
        with self.changed:
            goal = self.stored + count
            done = self.changed.wait_for(
                lambda: self.stored >= goal or self.failure, patience(timeout)
            )
        assert done, "the store takes no writes any more"
        assert self.failure is None, self.failure


def campaign(
    store: Store,
    folder: Path,
    break_it: Break,
    *,
    seed: int,
    times: int,
    executions: int = 8,
    outages: Sequence[tuple[float, float]] = (),
) -> str:
    """Break the server ``times`` times, each time somewhere in a batch; then see that all is well.
    What happened, in a sentence. ``outages`` is what ``break_it`` fills meanwhile: from when to
    when (``time.monotonic()``) no word of the server can have come."""
    rng = random.Random(seed)
    down_ms = 0.0
    where = str(folder / "state")
    settings: dict[str, Any] = {"idle_s": 0.2, "patch_from_bytes": 256, "budget_ms": BUDGET_MS}
    with CheckpointEngine(store, directory=where, **settings) as engine:
        # The service starts and connects; else all that follows would fall into that time.
        engine.save_sync(ExecutionNode(FIRST)).result(patience(60))
        savers = Savers(engine, executions)
        savers.start()
        for _ in range(times):
            savers.more_stored(rng.randint(1, 60))
            threading.Event().wait(rng.random() * 0.02)  # the place within a batch is random
            began = time.perf_counter()
            break_it(rng, savers.more_saved)
            down_ms += (time.perf_counter() - began) * 1e3
        savers.more_stored(60)
        savers.halt.set()
        joined(savers)
        engine.flush_sync(timeout=patience(60))
        _check_outcomes(savers, outages)
        sla = engine.sla()
    with store.spec().build() as fresh:
        _check_store(fresh, savers)
    held_ms = sorted(savers.held_ms)
    late = sum(told[0].status == "late" for told in savers.outcomes.values())
    told = (
        f"seed {seed}: broken {times} times, {down_ms / 1e3:.1f} s in all, {len(held_ms)} writes, "
        f"{late} of them late, held {held_ms[len(held_ms) * 99 // 100]:.2f} ms (p99), "
        f"{held_ms[-1]:.1f} ms (most)"
    )
    print(told)
    assert sla.pending == 0
    assert sum(sla.outcomes.values()) == len(held_ms) + 1
    return told


def _check_outcomes(savers: Savers, outages: Sequence[tuple[float, float]]) -> None:
    assert savers.failure is None, savers.failure
    with savers.changed:
        savers.changed.wait_for(lambda: all(savers.outcomes.values()), patience(30))
    wrong = {key: told for key, told in savers.outcomes.items() if len(told) != 1}
    assert not wrong, f"not exactly one outcome: {wrong}"
    statuses = Counter(str(told[0].status) for told in savers.outcomes.values())
    assert set(statuses) <= {"met", "late"}, statuses
    for (outcome,) in savers.outcomes.values():
        in_time = outcome.latency_ms <= BUDGET_MS
        assert in_time == (outcome.status == "met"), f"the outcome is not true: {outcome}"
    for began, ended in outages:
        within = [
            key for key, at in savers.accepted.items() if began < at < ended - BUDGET_MS / 1e3
        ]
        assert within, "nothing was saved meanwhile"
        met = [key for key in within if savers.outcomes[key][0].status == "met"]
        assert not met, f"in time, though the server could not be reached: {met}"


def _check_store(store: Store, savers: Savers) -> None:
    listed = {info.execution_id: info for info in store.list_executions(limit=1000)}
    assert set(listed) == {FIRST, *savers.steps}
    for execution, steps in savers.steps.items():
        nodes = list(store.nodes(execution))
        assert [node.wire[NodeField.OUTPUT] for node in nodes] == list(range(steps)), (
            "lost or out of order"
        )
        versions = [(c.epoch, c.seq) for c in store.checkpoints(execution, blobs=False)]
        assert versions == [(node.epoch, node.seq) for node in nodes], "lost or doubled"
        info = listed[execution]
        assert (info.nodes, info.checkpoints) == (steps, steps), "the counts are wrong"
        latest = store.latest_checkpoint(execution)
        assert latest is not None
        assert latest.blob is not None
        assert peek.decoded(store, execution, latest.blob) == state_of(execution, steps - 1)
