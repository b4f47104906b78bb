"""What an agent's program does in an interleaving, and what is noted of it."""

from __future__ import annotations

import contextlib

from livingai import ExecutionNode, NodeType, Status
from livingai.errors import (
    ExecutionNotFoundError,
    FencedError,
    JournalError,
    ServiceUnavailableError,
)
from livingai.queue.layout import owner_token
from tests.simulation.agent import SimAgent
from tests.simulation.scheduler import Scheduler
from tests.simulation.store import database
from tests.support.history import Entry, History, Read, Write

#: Share of writes that the store refuses.
_POISON = 0.03
_TEXT = b" ".join(b"%d words of a conversation" % n for n in range(400))


class Script:
    """What an agent's program does in an interleaving."""

    def __init__(
        self, scheduler: Scheduler, agent: SimAgent, executions: list[str], history: History
    ) -> None:
        self.scheduler = scheduler
        self.chance = scheduler.chance
        self.agent = agent
        self.executions = executions
        self.history = history
        self.over = False
        self.at = "has not begun"
        #: Executions that a save or a claim has entered, and then failed: the next save takes over.
        self._entered_only: dict[str, Entry] = {}

    def __str__(self) -> str:
        return f"{self.agent.name} {self.at}"

    def begin(self, count: int, *, reads: int = 2) -> None:
        """Do ``count`` things; ``reads``: how often one is a read, compared with 6 for writes."""
        if not count:
            self.over = True
            return
        chance = self.chance
        kinds = chance.choices(
            (self.save, self.read, self.claim, self.sync), (6, reads, 1, 1), k=count
        )

        def run() -> None:
            self.agent.handle.entered = self._entered
            for do in kinds:
                self.at = f"in {do.__name__}"
                do(chance.choice(self.executions))
                self.scheduler.point("agent.between")
            self.over = True

        self.scheduler.spawn(self.agent.name, self.agent, run)

    def read_all(self) -> None:
        """Read each execution."""

        def run() -> None:
            for execution in self.executions:
                self.read(execution)
            self.over = True

        self.scheduler.spawn(self.agent.name, self.agent, run)

    def _entered(self, execution: str, claim: int) -> None:
        agent = self.agent
        self.history.entries.append(
            Entry(execution, agent.name, agent.service.directory.path, claim, self._began)
        )

    def _enters(self) -> None:
        """A call has returned in which the agent may have taken something over."""
        for entry in self.history.entries:
            if entry.agent == self.agent.name and entry.began == self._began:
                entry.returned = self.scheduler.now

    def _enters_later(self, execution: str) -> None:
        """A call has failed in which the agent may have entered an execution: the take-over is over
        with its next save."""
        for entry in self.history.entries:
            if entry.agent == self.agent.name and entry.began == self._began:
                self._entered_only[execution] = entry

    def save(self, execution: str) -> None:
        """Save a state."""
        agent = self.agent
        number = len(self.history.writes)
        size = self.chance.choice((20, 300, 700, 1500))
        state = f"{execution} {number} ".encode() + _TEXT[: size + 7 * number]
        name = f"{execution}/{number}"
        write = Write(
            name, execution, state, agent.name, agent.service.directory.path,
            history=self.chance.random() < 0.5, began=self.scheduler.now,
        )  # fmt: skip
        if self.chance.random() < _POISON:
            write.poison = True
            database.poison.add(name)
        self._began = write.began
        self.history.writes.append(write)
        node = ExecutionNode(execution, NodeType.PROMPT, Status.SUCCESS, id=name)
        try:
            receipt = agent.engine.save_sync(node, state, history=write.history)
        except JournalError:  # full, or the disk has failed
            write.refused, write.returned = True, self.scheduler.now
            self._enters()
            self._enters_later(execution)
            return
        write.returned = self.scheduler.now
        self._enters()
        if (entry_only := self._entered_only.pop(execution, None)) is not None:
            entry_only.returned = write.returned
        receipt.add_callback(
            lambda done: write.told.append((self.scheduler.now, str(done._outcome.status)))  # type: ignore[union-attr]
        )
        owned = agent.handle.owned[execution]
        assert agent.handle.journal is not None
        write.claim, write.seq = owned.claim, owned.seq
        write.owner = owner_token(agent.handle.journal.id, owned.claim)

    def read(self, execution: str) -> None:
        """Read the newest state."""
        began = self.scheduler.now
        name, sound = None, True
        try:
            node, state = self.agent.engine.latest_sync(execution)
        except ExecutionNotFoundError:
            at = self.scheduler.now
        except (ServiceUnavailableError, JournalError):
            return
        else:
            at, name = self.scheduler.now, node.id
            sound = any(w.name == name and w.state == state for w in self.history.writes)
        agent = self.agent
        self.history.reads.append(
            Read(execution, agent.name, agent.service.directory.path, began, at, name, sound)
        )

    def claim(self, execution: str) -> None:
        """Take an execution over explicitly."""
        self._began = self.scheduler.now
        try:
            self.agent.engine.claim_sync(execution)
        except (FencedError, ServiceUnavailableError, JournalError):
            self._enters()
            self._enters_later(execution)
        else:
            self._enters()

    def sync(self, _execution: str) -> None:
        """The background thread syncs."""
        with contextlib.suppress(JournalError):
            self.agent.sync()
