"""What is going on when a process of the kill matrix dies: agents that save, take an execution over
and have executions copied, pruned, thinned out and claimed, and a witness of what was
acknowledged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from livingai.errors import LivingAIError
from livingai.inspection.check import check_directory
from livingai.stores.retention import Retention
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.agents import Agent, AgentDied
from tests.support.place import Place
from tests.support.states import LARGE, state_of

#: Small segments, so that they are rotated and recycled; one writer, so that it comes to a
#: failpoint a second time.
SMALL: dict[str, Any] = {
    "segment_bytes": 1 << 16, "journal_bytes": 1 << 23, "cache_bytes": 1 << 16, "writers": 1,
}  # fmt: skip
KEPT, LEAN, TAKEN, BIG = "kept", "lean", "taken", "big"
#: Steps of KEPT that are tried before it is copied.
_COPIED = 12
#: Steps of a copy from which its nodes stay.
_THINNED = 3


def fork(agent: AgentSide, execution: str, new_id: str) -> int:
    """Copy an execution."""
    return agent.engine.fork_sync(execution, new_id)


def prune(agent: AgentSide, prefix: str) -> None:
    """Keep two checkpoints of each execution whose id begins so."""
    agent.engine.prune_sync(Retention(keep_last=2, prefix=prefix))


def thin_out(agent: AgentSide, execution: str) -> list[int]:
    """Remove the nodes of the first steps; the steps of those that had to stay."""
    first = {
        node.id: int(node.output["step"])
        for node in agent.engine.nodes_sync(execution)
        if node.output["step"] < _THINNED
    }
    return sorted(first[kept] for kept in agent.engine.drop_nodes_sync(execution, first).kept)


class Witness:
    """Two agents that are replaced when they die, and all that they were told."""

    def __init__(self, place: Place, env: dict[str, str]) -> None:
        self.place, self.env = place, env
        self.agents: dict[bool, Agent] = {}
        self.tried: dict[str, dict[int, int]] = defaultdict(dict)
        self.acknowledged: dict[str, list[int]] = defaultdict(list)
        #: Those of them that a later one may supersede (saved without history).
        self.lean: dict[str, set[int]] = defaultdict(set)
        self.newest: dict[str, tuple[int, int]] = {}
        #: Agents that died, and typed errors that a caller was given.
        self.deaths = 0
        self.errors: list[str] = []

    def agent(self, *, history: bool = True) -> Agent:
        """The living agent that saves so."""
        if history not in self.agents:
            self.agents[history] = self.place.agent(history=history, env=self.env, **SMALL)
        return self.agents[history]

    def ask(self, function: Callable[..., Any], *arguments: Any, history: bool = True) -> Any:
        """Have an agent do something that may be asked again, until it is done."""
        for _ in range(8):
            try:
                return self.agent(history=history).call(function, *arguments)
            except AgentDied:
                self._died(history)
            except LivingAIError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
        raise AssertionError(f"{function.__name__} fails again and again: {self.errors}")

    def save(self, execution: str, size: int = 5000, *, history: bool = True) -> None:
        """Save the execution's next step; what becomes of one that was not acknowledged is open."""
        step = len(self.tried[execution])
        self.tried[execution][step] = size
        if not history:
            self.lean[execution].add(step)
        try:
            self.agent(history=history).call(acts.save, execution, step, size=size)
        except AgentDied:
            self._died(history)
        except LivingAIError as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        else:
            self.acknowledged[execution].append(step)

    def _died(self, history: bool) -> None:
        agent = self.agents.pop(history)
        assert agent.died() == -9, agent.said()
        self.deaths += 1

    def look(self) -> None:
        """I2: what the store has of each execution never goes back; the files are consistent."""
        with self.place.store() as store:
            for execution in self.tried:
                rows = store.checkpoints(execution, blobs=False)
                found = max(((row.epoch, row.seq) for row in rows), default=(0, 0))
                assert found >= self.newest.get(execution, (0, 0)), f"{execution} went back"
                self.newest[execution] = found
        report = check_directory(self.place.directory.path)
        assert report.ok, report.errors

    def settle(self) -> None:
        """I4: each accepted write of the agents that live has one outcome, and it is stored."""
        for history in list(self.agents):
            self.ask(acts.drain, history=history)
            if history in self.agents:
                statuses = self.agents[history].settled(timeout=60)
                allowed = {"met", "late"} if history else {"met", "late", "superseded"}
                assert set(statuses) <= allowed, statuses
        self.look()

    def leave(self) -> None:
        """All agents end without closing; the service stores the rest and ends, too."""
        for agent in self.agents.values():
            agent.leave()
        self.agents.clear()
        self.place.empty(60)

    def check(self) -> None:
        """I1, I3: all that was acknowledged is stored, in order, and nothing that was not saved."""
        for execution, tried in self.tried.items():
            steps = peek.stored_steps(self.place.where, execution)
            known = self.acknowledged[execution]
            assert steps == sorted(set(steps)), f"{execution}: doubled or out of order: {steps}"
            assert set(steps) <= set(tried), f"{execution}: {steps} was not saved"
            lost = set(known) - set(steps) - self.lean[execution]
            assert not lost, f"{execution}: lost {lost}"
            assert steps[-1] >= known[-1], f"the newest acknowledged write is lost: {steps}"
            states = peek.stored_states(self.place.where, execution)
            assert states[-1][0] == steps[-1], "the newest state is lost"
            for step, state in states:
                assert state == state_of(execution, step, tried[step]), f"{execution} {step}: bytes"


def work(witness: Witness) -> None:
    """Everything that agents do, some of it more than once, until all processes have ended."""
    for number in range(2):
        for _ in range(6):
            witness.save(KEPT)
            witness.save(LEAN, history=False)
            witness.save(TAKEN, history=number == 0)
        for _ in range(3):
            witness.save(BIG, LARGE)
        if number == 0:
            witness.place.compressors()
            for _ in range(2):
                witness.save(BIG, LARGE)
        witness.settle()
    stayed: dict[int, list[int]] = {}
    for number in range(2):
        witness.ask(fork, KEPT, f"copy-{number}")
        witness.ask(prune, "copy-")
        witness.ask(fork, KEPT, f"thin-{number}")
        stayed[number] = witness.ask(thin_out, f"thin-{number}")
        witness.ask(acts.claim, f"claimed-{number}")
    for _ in range(4):  # what was stored gives its segments back
        witness.save(BIG, LARGE)
        witness.save(KEPT)
        witness.settle()
    witness.leave()
    witness.check()
    for number in range(2):
        copied = peek.stored_steps(witness.place.where, f"copy-{number}")
        before = {step for step in witness.acknowledged[KEPT] if step < _COPIED}
        assert set(copied) >= before, "the copy is not whole"
        assert len(peek.stored_states(witness.place.where, f"copy-{number}")) >= 2
        thin = peek.stored_steps(witness.place.where, f"thin-{number}")
        assert set(thin) >= {step for step in before if step >= _THINNED}, "too much was removed"
        assert [step for step in thin if step < _THINNED] == stayed[number]
        for step, state in peek.stored_states(witness.place.where, f"thin-{number}"):
            assert state == state_of(KEPT, step, witness.tried[KEPT][step]), f"{step}: bytes"
