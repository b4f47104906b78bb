"""An agent of a soak: it saves, reads and takes over at random, and logs each call before it begins
and when it has returned. Run as ``python -m tests.support.soak_agent '{...}'``; when its input ends
it waits until each of its writes has its outcome, and ends.

A line of the log is one ``write`` to a file, so what was logged outlives the process; times are of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import threading
import time
from typing import Any

from livingai import CheckpointEngine, ExecutionNode, Receipt, Status
from livingai.engine.handle import DirectoryHandle
from livingai.engine.pending import OwnedExecution
from livingai.errors import (
    ExecutionNotFoundError,
    FencedError,
    JournalFullError,
    ServiceUnavailableError,
)
from livingai.queue.journal import Journal
from livingai.queue.layout import owner_token
from livingai.stores.opening import open_store
from livingai.stores.retention import Retention
from tests.support.patience import patience

#: What a process has that is told of its end after this time has hung, in seconds.
_LONGEST_S = 300.0


class SoakAgent:
    """One process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.name: str = settings["name"]
        self.executions: list[str] = settings["executions"]
        self.chance = random.Random(f"{settings['seed']} {self.name}")
        self.log = os.open(settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.engine = CheckpointEngine(
            open_store(settings["store"]), directory=settings["directory"], **settings["engine"]
        )
        self.numbers = itertools.count()
        self.ended = threading.Event()
        self.began = 0
        self.untold = 0
        self.changed = threading.Condition()

    def note(self, **line: Any) -> None:
        """Log a line."""
        os.write(self.log, json.dumps(line).encode() + b"\n")

    def run(self) -> None:
        """Until the input ends."""
        threading.Thread(target=self._wait_for_end, daemon=True).start()
        kinds = (self.save, self.read, self.claim, self.tidy)
        while not self.ended.is_set():
            do = self.chance.choices(kinds, (80, 12, 2, 1))[0]
            do(self.chance.choice(self.executions))
            self.ended.wait(self.chance.choice((0.0, 0.0, 0.001, 0.02)))
        with self.changed:
            done = self.changed.wait_for(lambda: self.untold == 0, patience(_LONGEST_S))
        self.note(kind="end", untold=self.untold)
        self.engine.close_sync()
        assert done, f"{self.untold} writes without an outcome"

    def _wait_for_end(self) -> None:
        sys.stdin.read()
        self.ended.set()

    def save(self, execution: str) -> None:
        """Save a state."""
        number = next(self.numbers)
        key = f"{self.name}/{number}"
        size = self.chance.choice((50, 500, 3000, 20_000))
        history = self.chance.random() < 0.6
        self.began = time.monotonic_ns()
        self.note(
            kind="save", key=key, execution=execution, size=size, history=history, at=self.began
        )
        node = ExecutionNode(execution, status=Status.SUCCESS, id=key)
        try:
            receipt = self.engine.save_sync(
                node, state_named(execution, key, size), history=history
            )
        except JournalFullError:
            self.note(kind="refused", key=key, at=time.monotonic_ns())
            return
        at = time.monotonic_ns()
        handle = self.engine.open_handle()
        owned, journal = handle.owned.get(execution), handle.journal
        assert journal is not None
        claim = (owned.claim, owned.seq) if owned is not None else (0, 0)
        owner = owner_token(journal.id, claim[0]) if owned is not None else ""
        self.note(kind="saved", key=key, claim=claim[0], seq=claim[1], owner=owner, at=at)
        with self.changed:
            self.untold += 1
        receipt.add_callback(lambda done: self._told(key, done))

    def _told(self, key: str, receipt: Receipt) -> None:
        assert receipt.outcome is not None
        self.note(kind="told", key=key, status=str(receipt.outcome.status), at=time.monotonic_ns())
        with self.changed:
            self.untold -= 1
            self.changed.notify_all()

    def read(self, execution: str) -> None:
        """Read the newest state."""
        began = time.monotonic_ns()
        key, sound = None, True
        try:
            node, state = self.engine.latest_sync(execution)
        except ServiceUnavailableError:
            return
        except ExecutionNotFoundError:
            at = time.monotonic_ns()
        else:
            at, key = time.monotonic_ns(), node.id
            size = len(state) - len(state_named(execution, key, 0))
            sound = state == state_named(execution, key, size)
        self.note(kind="read", execution=execution, began=began, at=at, key=key, sound=sound)

    def claim(self, execution: str) -> None:
        """Take an execution over explicitly."""
        self.began = time.monotonic_ns()
        try:
            self.engine.claim_sync(execution)
        except (FencedError, ServiceUnavailableError):
            return  # it has taken the execution over with its next save of it
        self.note(kind="claimed", execution=execution, at=time.monotonic_ns())

    def tidy(self, _execution: str) -> None:
        """Housekeeping, beside what others write."""
        junk = f"junk-{self.name}"
        try:
            for _ in range(3):
                self.engine.save_sync(ExecutionNode(junk), b"junk")
            self.engine.prune_sync(Retention(keep_last=1, prefix=junk))
            self.engine.delete_sync(junk)
        except (ServiceUnavailableError, JournalFullError):
            return


def state_named(execution: str, key: str, size: int) -> bytes:
    """The state of a write: most of it is as in others of its execution."""
    text = random.Random(execution).randbytes(64).hex().encode()
    body = b" ".join(text[n % 64 :] for n in range(size // 64 + 1))[:size]
    return f"{execution} {key} ".encode() + body


def main() -> None:
    """Run the agent that the command line describes."""
    agent = SoakAgent(json.loads(sys.argv[1]))
    enter = DirectoryHandle.enter

    def noted(self: DirectoryHandle, execution_id: str, journal: Journal) -> OwnedExecution:
        owned = enter(self, execution_id, journal)
        agent.note(kind="entered", execution=execution_id, claim=owned.claim, began=agent.began)
        return owned

    DirectoryHandle.enter = noted  # type: ignore[method-assign]
    agent.run()


if __name__ == "__main__":
    main()
