"""What agents of the tests do; each function runs in an agent process (see ``agent_main``).

Agents of earlier versions do it, too (``tests/support/earlier.py``): what those do not have is
imported where it is used.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from statistics import median
from typing import Any

from livingai import Durability, ExecutionNode, NodeType, RecoveryEngine, Status
from livingai.queue.record import execution_hash
from tests.support import waiting
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.states import state_of
from tests.support.waiting import joined


def make_node(execution: str, step: int, **fields: Any) -> ExecutionNode:
    """The node of a step; its output says which."""
    for name, kind in (("type", NodeType), ("status", Status)):
        if name in fields:
            fields[name] = kind(fields[name])
    fields.setdefault("status", Status.SUCCESS)
    return ExecutionNode(execution, output={"step": step}, **fields)


def save(
    agent: AgentSide,
    execution: str,
    step: int = 0,
    *,
    size: int | None = 5000,
    node: dict[str, Any] | None = None,
    kill: list[int] | None = None,
    die: bool = False,
    level: str = "",
    **options: Any,
) -> str:
    """Save one step (``size`` None: without a state), at a level of that name; the node's id. As
    soon as ``save`` has returned, ``kill`` these processes, and this one with ``die``."""
    if level:
        options["durability"] = Durability[level]
    made = make_node(execution, step, **(node or {}))
    state = None if size is None else state_of(execution, step, size)
    receipt = agent.engine.save_sync(made, state, **options)
    waiting.kill(*kill or ())
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    agent.keep(receipt)
    return made.id


def save_many(agent: AgentSide, execution: str, steps: int, **options: Any) -> None:
    """Save ``steps`` steps in a row."""
    for step in range(steps):
        save(agent, execution, step, **options)


def drain(agent: AgentSide) -> None:
    """Wait until everything of this state directory is stored."""
    agent.engine.drain_sync()


def look_in(agent: AgentSide, run_id: str) -> list[str]:
    """Enter a run and leave it; the names of its tools in doubt."""
    with agent.engine.run_sync(run_id) as run:
        return [str(node.metadata["name"]) for node in run.in_doubt]


def durable_run(agent: AgentSide) -> None:
    """A run with one step, one tool and a checkpoint."""
    with agent.engine.run_sync("run") as run:
        run.step("look", abs, -1)
        run.tool("charge", abs, -2)
        run.state = {"done": True}
        run.checkpoint()


def latest(agent: AgentSide, execution: str) -> tuple[Any, Any]:
    """(output of the node, state) of the newest checkpoint."""
    node, state = agent.engine.latest_sync(execution)
    return node.output, state


def load(agent: AgentSide, node_id: str) -> tuple[Any, Any]:
    """(output of the node, state) of a node."""
    node, state = agent.engine.load_sync(node_id)
    return node.output, state


def steps(agent: AgentSide, execution: str) -> list[int]:
    """The steps that the store has, in order of their first save."""
    return [node.output["step"] for node in agent.engine.nodes_sync(execution)]


def executions(agent: AgentSide, where: dict[str, Any] | None = None, **page: Any) -> Any:
    """A page of executions: ([id, status, nodes] of each, where the next page begins)."""
    from livingai import ExecutionFilter

    chosen = None if where is None else ExecutionFilter(**where)
    found = agent.engine.executions_sync(where=chosen, **page)
    return [[each.execution_id, each.status, each.nodes] for each in found], found.next_after


def outcomes(agent: AgentSide, count: int | None = None, timeout: float = 30.0) -> dict[str, Any]:
    """Wait until ``count`` writes (default: all so far) have an outcome, and sum them up."""
    with agent.changed:
        wanted = len(agent.receipts) if count is None else count
        agent.changed.wait_for(
            lambda: sum(map(bool, agent.told.values())) >= wanted, patience(timeout)
        )
        told = [list(calls) for calls in agent.told.values()]
    known = [calls[0] for calls in told if calls]
    return {
        "writes": len(told),
        "known": len(known),
        "told_twice": sum(len(calls) > 1 for calls in told),
        "statuses": dict(Counter(str(outcome.status) for outcome in known)),
        "levels": dict(Counter(outcome.level.name for outcome in known)),
        "reasons": sorted({outcome.reason for outcome in known if outcome.reason}),
    }


def statuses(agent: AgentSide, timeout: float = 30.0) -> list[str]:
    """Wait for all outcomes; their statuses in the order of the saves."""
    outcomes(agent, timeout=timeout)
    with agent.changed:
        return [str(calls[0].status) if calls else "" for calls in agent.told.values()]


def delete(agent: AgentSide, execution: str) -> int:
    """Delete an execution; the number of its nodes."""
    return agent.engine.delete_sync(execution)


def claim(agent: AgentSide, execution: str) -> int:
    """Take an execution over; its epoch."""
    return agent.engine.claim_sync(execution)


def displace(agent: AgentSide, execution: str) -> None:
    """Save other executions until an execution's entry of the index is displaced."""
    handle = agent.engine.open_handle()
    owned, journal = handle.owned[execution], handle.open_journal()
    others = (f"other-{number}" for number in itertools.count())
    place = owned.key % journal.index.sets
    for other in others:
        if not journal.index.owns(owned.slot, owned.key):
            return
        if execution_hash(other) % journal.index.sets == place:
            save(agent, other)


def save_claim_latest(agent: AgentSide, execution: str, step: int) -> Any:
    """Save a step, claim the execution anew at once, and read it."""
    save(agent, execution, step)
    return claim(agent, execution), latest(agent, execution)


def service_pids(agent: AgentSide) -> dict[str, Any]:
    """Processes of the service by role; for agents that see other files than the test does."""
    from livingai.protocol.ask import ask_service
    from livingai.protocol.verbs import READY, STATUS

    engine = agent.engine
    ask_service(engine.directory, engine.store.url, READY)
    found = ask_service(engine.directory, engine.store.url, STATUS)
    pids: dict[str, Any] = found.to_wire()["pids"]
    return pids


def remove(agent: AgentSide, path: str) -> None:
    """Delete a file that the agent sees."""
    os.unlink(path)


def fill_disk(agent: AgentSide, path: str) -> None:
    """Write a file until the disk is full."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def sla(agent: AgentSide) -> dict[str, Any]:
    """The engine's own summary."""
    return asdict(agent.engine.sla())


def flush(agent: AgentSide, timeout: float = 30.0) -> None:
    """Barrier at the store."""
    agent.engine.flush_sync(timeout=patience(timeout))


def close(agent: AgentSide, timeout: float = 10.0) -> None:
    """Close the engine."""
    agent.engine.close_sync(patience(timeout))


#: Classes of nodes in a recovery plan.
PLAN_CLASSES = ("replay", "skipped", "in_doubt", "failed", "pending")


def plan(agent: AgentSide, execution: str) -> dict[str, Any]:
    """A recovery plan; nodes by their step."""
    made = RecoveryEngine(agent.engine).plan_sync(execution)
    classes = {
        name: [node.output["step"] for node in getattr(made, f"{name}_nodes")]
        for name in PLAN_CLASSES
    }
    return {
        "found": made.found, "resume": made.resume_node_id, "state": made.state, **classes
    }  # fmt: skip


# -- saving in the background ------------------------------------------------------------------


class Runner(threading.Thread):
    """Saves step after step of some executions until :func:`halt`, one round per
    ``interval_s``; notes how long each save held it."""

    def __init__(self, agent: AgentSide, executions: list[str], size: int, interval_s: float):
        super().__init__(daemon=True)
        self.agent, self.executions, self.size, self.interval_s = (
            agent,
            executions,
            size,
            interval_s,
        )
        self.halt = threading.Event()
        self.rounds = 0
        self.held_ms: list[float] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.halt.wait(self.interval_s):
                for execution in self.executions:
                    self._save(execution)
                self.rounds += 1
        except BaseException as error:
            self.failure = error
            with self.agent.changed:
                self.agent.changed.notify_all()

    def _save(self, execution: str) -> None:
        node = make_node(execution, self.rounds)
        state = state_of(execution, self.rounds, self.size)
        began = time.perf_counter()
        receipt = self.agent.engine.save_sync(node, state)
        self.held_ms.append((time.perf_counter() - began) * 1e3)
        self.agent.keep(receipt)


def start(
    agent: AgentSide, executions: list[str], *, size: int = 5000, interval_s: float = 0.01
) -> None:
    """Begin to save in the background."""
    agent.runner = Runner(agent, executions, size, interval_s)
    agent.runner.start()


def saved(agent: AgentSide, more: int, timeout: float = 30.0) -> int:
    """Wait until ``more`` writes than now were accepted; how many there are."""
    runner = agent.runner
    with agent.changed:
        goal = len(agent.receipts) + more
        agent.changed.wait_for(
            lambda: len(agent.receipts) >= goal or runner.failure, patience(timeout)
        )
        if runner.failure is not None:
            raise runner.failure
        assert len(agent.receipts) >= goal, f"{len(agent.receipts)} of {goal} saves"
        return len(agent.receipts)


def halt(agent: AgentSide) -> dict[str, Any]:
    """Stop saving; rounds done, and for how long half of the saves held the agent at the most."""
    runner = agent.runner
    runner.halt.set()
    joined(runner)
    if runner.failure is not None:
        raise runner.failure
    return {"rounds": runner.rounds, "held_ms": median(runner.held_ms)}
