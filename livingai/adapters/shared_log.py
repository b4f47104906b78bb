"""An execution that several processes write: a log to which each of them appends nodes.

An engine's execution has one owner at a time; what an earlier owner writes ends ``fenced``. That is
right for a run, which one program makes. The sessions and threads of frameworks are written by
whoever serves the next request, and each of those writes has to stay. So here nobody keeps an
earlier owner out:

1. Each entry is a node with an id of its own that nobody else writes. Two processes never change
   the same node, so the order of their entries does not matter.
2. After a save this process looks whether it still owns the execution. If so, the entry was
   accepted before any other process of this machine took it over, and is stored before what that
   one writes. Else it takes the execution back and saves the entry again.
3. A process on another machine takes it over in the store. Entries of this process that were on
   their way then end ``fenced``; as soon as that is known they are saved again, by a thread that
   does nothing else. Until then they are in this process's memory alone: a process that is killed
   within these milliseconds loses them, unless it had waited for ``Durability.STORE``.
4. An entry that the store refuses for good is in the quarantine; the next call for its execution,
   and :meth:`SharedLog.flush`, raise that.
"""

from __future__ import annotations

import asyncio
import collections
import math
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from livingai.engine.engine import CheckpointEngine
from livingai.errors import FlushTimeoutError, LivingAIError, RecordRefusedError
from livingai.node import ExecutionNode
from livingai.outcome import Durability, Outcome, OutcomeStatus, Receipt
from livingai.protocol.ranges import NodePage
from livingai.runs.ports import ClaimState, OwnedClaim
from livingai.stores.ranges import NodeRange

#: Between two attempts to save an entry again while that fails (s).
_PAUSE_S = 0.2


class Entry(NamedTuple):
    """A node of the log, and the state that was saved with it."""

    node: ExecutionNode
    state: Any


class SharedLog:
    """Appends to, and reads, executions that other processes append to as well. Thread-safe; each
    method that waits has a twin for programs without an event loop."""

    def __init__(self, engine: CheckpointEngine) -> None:
        self.engine = engine
        self._begin()

    def _begin(self) -> None:
        """Begin as new: at first, and in a forked child."""
        self._pid = os.getpid()
        self._lock = threading.Condition()
        #: Entries whose outcome is not known, by their receipts.
        self._waiting: dict[int, tuple[Receipt, Entry]] = {}
        #: Entries to be saved again, in the order in which that became known.
        self._fenced: collections.deque[Entry] = collections.deque()
        #: By execution: what the store has refused since anybody was told.
        self._refused: dict[str, RecordRefusedError] = {}
        self._saver: threading.Thread | None = None
        self.engine.observe(self._settled)

    # -- writing --

    async def append(
        self, node: ExecutionNode, state: Any = None, *, durability: Durability | None = None
    ) -> Receipt:
        """Save an entry so that no other process's entries put it out.

        Returns when :meth:`~livingai.CheckpointEngine.save` does, at ``durability`` (by default the
        engine's).

        Raises:
            RecordRefusedError: the store has refused an earlier entry of this execution for good;
                this one was not saved. Raised once.
            LivingAIError: as ``save``.
        """
        execution_id = self._ready(node)
        while True:
            claim = self.engine.own_claim(execution_id)
            receipt = await self.engine.save(node, state, durability=durability, history=True)
            if self._keeps(execution_id, claim) and not self._was_fenced(receipt):
                return self._wait_for(receipt, Entry(node, state))
            self.engine.new_claim(execution_id)

    def append_sync(
        self, node: ExecutionNode, state: Any = None, *, durability: Durability | None = None
    ) -> Receipt:
        """Twin of :meth:`append`."""
        execution_id = self._ready(node)
        while True:
            claim = self.engine.own_claim(execution_id)
            receipt = self.engine.save_sync(node, state, durability=durability, history=True)
            if self._keeps(execution_id, claim) and not self._was_fenced(receipt):
                return self._wait_for(receipt, Entry(node, state))
            self.engine.new_claim(execution_id)

    def _ready(self, node: ExecutionNode) -> str:
        if self._pid != os.getpid():
            self._begin()
        self.check(node.execution_id)
        return node.execution_id

    def _keeps(self, execution_id: str, before: OwnedClaim | None) -> bool:
        """Whether the claim ``before`` that save (None: made by it) is unmarked after it."""
        claim = self.engine.own_claim(execution_id)
        if claim is None or (before is not None and claim is not before):
            return False
        return self.engine.claim_state(execution_id, claim) is ClaimState.HELD

    @staticmethod
    def _was_fenced(receipt: Receipt) -> bool:
        outcome = receipt.known
        return outcome is not None and outcome.status is OutcomeStatus.FENCED

    def _wait_for(self, receipt: Receipt, entry: Entry) -> Receipt:
        with self._lock:
            self._waiting[id(receipt)] = (receipt, entry)
        outcome = receipt.known
        if outcome is not None:  # it came before anybody could see what it is about
            self._settled(receipt, outcome)
        return receipt

    def _settled(self, receipt: Receipt, outcome: Outcome) -> None:
        """An outcome, in livingai's thread: note what there is to do."""
        with self._lock:
            _, entry = self._waiting.pop(id(receipt), (None, None))
            if entry is None:
                return
            if outcome.status is OutcomeStatus.FENCED:
                self._fenced.append(entry)
                self._start_saver()
            elif outcome.status is OutcomeStatus.QUARANTINED:
                self._refused[receipt.execution_id] = RecordRefusedError(
                    f"an entry of {receipt.execution_id} ({receipt.node_id}) was accepted, and the "
                    f"store refuses it: {outcome.reason}. It is kept aside: `livingai status` "
                    "lists it, `livingai requeue` tries it again"
                )

    def check(self, execution_id: str) -> None:
        """Raise what became known of earlier entries of an execution, once.

        Raises:
            RecordRefusedError: the store has refused one.
        """
        with self._lock:
            error = self._refused.pop(execution_id, None)
        if error is not None:
            raise error

    # -- entries that were fenced (a thread of its own) --

    def _start_saver(self) -> None:
        if self._saver is None:
            self._saver = threading.Thread(
                target=self._save_again, name="livingai-entries", daemon=True
            )
            self._saver.start()

    def _save_again(self) -> None:
        """Save what was fenced, under a new claim, until there is nothing left."""
        claimed: set[str] = set()
        while True:
            with self._lock:
                if not self._fenced:
                    self._saver = None
                    self._lock.notify_all()
                    return
                entry = self._fenced[0]
            execution_id = entry.node.execution_id
            try:
                if execution_id not in claimed:
                    self.engine.new_claim(execution_id)
                    claimed.add(execution_id)
                claim = self.engine.own_claim(execution_id)
                receipt = self.engine.save_sync(
                    entry.node, entry.state, durability=Durability.JOURNAL, history=True
                )
            except LivingAIError as error:
                if self._gives_up(error):
                    return
                continue
            if not self._keeps(execution_id, claim):
                claimed.discard(execution_id)
                continue
            with self._lock:
                self._fenced.popleft()
            self._wait_for(receipt, entry)

    def _gives_up(self, error: LivingAIError) -> bool:
        """After a failure: wait a moment; whether the engine is closed and nothing more can be."""
        if not self.engine.closed:
            time.sleep(_PAUSE_S)  # a full disk or journal: there may be room then
            return False
        with self._lock:
            for entry in self._fenced:
                self._refused[entry.node.execution_id] = RecordRefusedError(
                    f"{entry.node.id} was fenced and could not be saved again: {error}"
                )
            self._fenced.clear()
            self._saver = None
            self._lock.notify_all()
        return True

    # -- barriers and reads --

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all entries of this process, those that were saved again, too.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; what was not stored is safe in the
                journal, and what is being saved again in this process's memory.
            RecordRefusedError: the store has refused an entry for good; it is in the quarantine.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        await self.engine.flush(timeout=_left(deadline))
        while self._fenced:
            await asyncio.to_thread(self._saved_again, deadline)
            await self.engine.flush(timeout=_left(deadline))
        self._check_all()

    def flush_sync(self, timeout: float | None = None) -> None:
        """Twin of :meth:`flush`."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        self.engine.flush_sync(timeout=_left(deadline))
        while self._fenced:
            self._saved_again(deadline)
            self.engine.flush_sync(timeout=_left(deadline))
        self._check_all()

    def _saved_again(self, deadline: float) -> None:
        """Wait until nothing has to be saved again."""
        with self._lock:
            if not self._lock.wait_for(lambda: not self._fenced, _left(deadline)):
                raise FlushTimeoutError(
                    f"{len(self._fenced)} entries that another machine's process put out could not "
                    "be saved again in time; this process goes on trying"
                )

    def _check_all(self) -> None:
        with self._lock:
            refused, self._refused = self._refused, {}
        for error in refused.values():
            raise error

    async def nodes_between(self, execution_id: str, asked: NodeRange) -> NodePage:
        """A page of entries in order of id, of all processes; what is queued is waited for.

        Raises:
            ConfigurationError, ServiceUnavailableError: as the engine's method of that name.
        """
        if self._fenced:
            await asyncio.to_thread(self._saved_again, math.inf)
        return await self.engine.nodes_between(execution_id, asked)

    def nodes_between_sync(self, execution_id: str, asked: NodeRange) -> NodePage:
        """Twin of :meth:`nodes_between`."""
        if self._fenced:
            self._saved_again(math.inf)
        return self.engine.nodes_between_sync(execution_id, asked)

    async def node_pages(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """The pages of several ranges, as :meth:`nodes_between`, in one round trip."""
        if self._fenced:
            await asyncio.to_thread(self._saved_again, math.inf)
        return await self.engine.node_pages(execution_id, asked)

    def node_pages_sync(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """Twin of :meth:`node_pages`."""
        if self._fenced:
            self._saved_again(math.inf)
        return self.engine.node_pages_sync(execution_id, asked)


def _left(deadline: float) -> float | None:
    """Seconds until then, as a timeout."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())
