"""An execution that several processes write: a log to which each of them appends nodes.

An engine's execution has one owner at a time; what an earlier owner writes ends ``fenced``. That is
right for a run, which one program makes. The sessions and threads of frameworks are written by
whoever serves the next request, and each of those writes has to stay. So here nobody keeps an
earlier owner out:

1. Each entry is a node with an id of its own. Two processes never write the same node, so the order
   of their entries does not matter. The process that has appended a node may append it again with
   more in it (a call, and then its result).
2. After a save this process looks whether the claim under which it saved is unmarked. If so, the
   entry was accepted before any other process of this machine took the execution over, and is
   stored before what that one writes. Else it takes the execution back and saves the entry again.
   So what :meth:`SharedLog.append` has accepted survives the death of any process, as long as the
   processes that append share a state directory.
3. A process with another state directory (on another machine) takes the execution over in the
   store. Entries of this process that had no outcome by then end ``fenced``; as soon as that is
   known they are saved again (:mod:`livingai.adapters.unsettled`). Until an entry has its outcome,
   it depends on this process: one that is killed, or leaves without waiting, loses those of its
   entries that another machine puts out. :meth:`SharedLog.flush`, the end of the engine and
   ``Durability.STORE`` wait for that.
4. An entry that the store refuses for good is in the quarantine; the next call for its execution,
   and :meth:`SharedLog.flush`, raise that.

Entries without an outcome are held in memory with their states: while the store is down, as many
bytes as the journal takes (``journal_bytes``) at most.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

from livingai.adapters.sole_writer import SoleWriter
from livingai.adapters.steps import Step, Steps, take, take_sync
from livingai.adapters.unsettled import LogEntry, UnsettledEntries, seconds_left
from livingai.adapters.unstored import with_unstored
from livingai.engine.engine import CheckpointEngine
from livingai.errors import (
    ConfigurationError,
    FlushTimeoutError,
    OutcomeUnknownError,
    ServiceError,
    ServiceUnavailableError,
)
from livingai.node import ExecutionNode
from livingai.outcome import Durability, OutcomeStatus, Receipt
from livingai.protocol.ranges import NodePage
from livingai.runs.ports import ClaimState, OwnedClaim
from livingai.stores.ranges import NodeRange

_logs: weakref.WeakKeyDictionary[CheckpointEngine, weakref.ref[SharedLog]] = (
    weakref.WeakKeyDictionary()
)
_making = threading.Lock()


class SharedLog:
    """Appends to, and reads, executions that other processes append to as well. Thread-safe; each
    method that waits has a twin for programs without an event loop.

    There is one per engine, however often it is asked for, and it lives as long: it hears of every
    outcome of the engine, and adapters make one for each session that they open.
    """

    engine: CheckpointEngine
    _entries: UnsettledEntries
    _sole: SoleWriter

    def __new__(cls, engine: CheckpointEngine) -> SharedLog:
        with _making:
            reference = _logs.get(engine)
            log = None if reference is None else reference()
            if log is None:
                log = super().__new__(cls)
                log.engine = engine
                log._begin()
                engine.before_close(log._settle)
                _logs[engine] = weakref.ref(log)
            return log

    def _begin(self) -> None:
        """Begin as new: at first, and in a forked child, whose engine has begun as new, too."""
        engine = self.engine
        self._entries = UnsettledEntries(
            lambda entry: take_sync(self._saved(entry)), lambda: engine.closed
        )
        self._sole = SoleWriter(engine)
        engine.observe(self._entries.settled)

    # -- writing --

    async def append(
        self, node: ExecutionNode, state: Any = None, *, durability: Durability | None = None
    ) -> Receipt:
        """Save an entry so that no other process's entries put it out.

        Returns once it has reached ``durability`` (by default the engine's). Until the entry has
        its outcome, its node is changed only to be appended again, and ``state`` not at all. After
        an error or a cancelled wait the entry may be there or not: append the same node again.

        Raises:
            RecordRefusedError: the store has refused earlier entries of this execution for good,
                or, at ``Durability.STORE``, this one. Each is told once. In the first case this one
                was not saved.
            FencedError: an earlier entry is lost, see :meth:`flush`.
            LivingAIError: as :meth:`livingai.CheckpointEngine.save`.
        """
        level = self._level(durability)
        self.check(node.execution_id)
        entry = LogEntry(node, state)
        self._entries.add(receipt := await take(self._saved(entry)), entry)
        if level is Durability.FSYNC:
            await self.engine.flush(Durability.FSYNC)
        elif level is Durability.STORE:
            while not (outcome := await receipt).stored:
                self._entries.settled(receipt, outcome)  # perhaps before its observers
                if outcome.status is OutcomeStatus.FENCED:
                    await self._entries.saved_again(math.inf)
                receipt = self._entries.following(entry, receipt, outcome)
        return receipt

    def append_sync(
        self, node: ExecutionNode, state: Any = None, *, durability: Durability | None = None
    ) -> Receipt:
        """Twin of :meth:`append`."""
        level = self._level(durability)
        self.check(node.execution_id)
        entry = LogEntry(node, state)
        self._entries.add(receipt := take_sync(self._saved(entry)), entry)
        if level is Durability.FSYNC:
            self.engine.flush_sync(Durability.FSYNC)
        elif level is Durability.STORE:
            while not (outcome := receipt.result()).stored:
                self._entries.settled(receipt, outcome)  # perhaps before its observers
                if outcome.status is OutcomeStatus.FENCED:
                    self._entries.wait_saved_again(math.inf)
                receipt = self._entries.following(entry, receipt, outcome)
        return receipt

    def adopt(self, receipt: Receipt, node: ExecutionNode, state: Any = None) -> None:
        """Look after an entry that was saved by the engine itself, as after one that was appended:
        if it is put out, it is saved again."""
        self._entries.add(receipt, LogEntry(node, state))

    def _level(self, durability: Durability | None) -> Durability:
        level = self.engine.config.durability if durability is None else durability
        if not isinstance(level, Durability):
            raise ConfigurationError(f"durability must be a livingai.Durability, not {level!r}")
        return level

    def _saved(self, entry: LogEntry) -> Steps[Receipt]:
        """Save an entry until the claim that it was saved under is unmarked behind it.

        At JOURNAL whatever was asked for: a higher level takes long enough for others to take the
        execution over again and again, so it is waited for once the entry is safe from them.
        """
        node = entry.node
        while True:
            claim = self._claim(node.execution_id)
            receipt: Receipt = yield Step(
                self.engine, "save", node, entry.state, durability=Durability.JOURNAL, history=True
            )
            outcome = receipt.known
            if outcome is not None and outcome.stored:
                return receipt
            if self.engine.claim_state(node.execution_id, claim) is ClaimState.HELD:
                return receipt

    def _claim(self, execution_id: str) -> OwnedClaim:
        """This process's claim of an execution, made anew where another process has marked it."""
        claim: OwnedClaim | None = self.engine.own_claim(execution_id)
        if claim is None or self.engine.claim_state(execution_id, claim) is not ClaimState.HELD:
            claim, _ = self.engine.new_claim(execution_id)
        return claim

    def check(self, execution_id: str) -> None:
        """Raise what became known of earlier entries of an execution, once.

        Raises:
            RecordRefusedError: the store has refused one.
            FencedError: one is lost, see :meth:`flush`.
        """
        self._entries.check(execution_id)

    # -- barriers --

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all entries that this process has appended so far, those that
        have to be saved again, too.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; what was not stored is safe in the
                journal, and what is being saved again in this process's memory.
            RecordRefusedError: the store has refused entries of an execution for good, and no call
                has said so; they are in the quarantine. Of several executions each raises once.
            FencedError: another machine's process put an entry out, and the engine was closed
                before it could be saved again.
        """
        upto, deadline = self._entries.accepted, _deadline(timeout)
        while True:
            await self._entries.saved_again(deadline)
            await self.engine.flush(timeout=seconds_left(deadline))
            if not self._entries.any_left(upto):
                break
        self._entries.check_any()

    def flush_sync(self, timeout: float | None = None) -> None:
        """Twin of :meth:`flush`."""
        upto, deadline = self._entries.accepted, _deadline(timeout)
        while True:
            self._entries.wait_saved_again(deadline)
            self.engine.flush_sync(timeout=seconds_left(deadline))
            if not self._entries.any_left(upto):
                break
        self._entries.check_any()

    def _settle(self, timeout: float) -> None:
        """The engine is about to be closed: what has to be saved again is."""
        upto, deadline = self._entries.accepted, _deadline(timeout)
        try:
            while self._entries.any_left(upto) and time.monotonic() < deadline:
                self._entries.wait_saved_again(deadline)
                self.engine.flush_sync(timeout=seconds_left(deadline))
        except (FlushTimeoutError, OutcomeUnknownError):
            return  # what is in the journal is stored later; the rest is reported when it is lost

    # -- reads --

    async def nodes_between(self, execution_id: str, asked: NodeRange) -> NodePage:
        """A page of entries in order of id, of all processes; what is queued is waited for.

        Raises:
            ConfigurationError, ServiceUnavailableError: as the engine's method of that name.
            FlushTimeoutError: an entry of this process could not be saved again within the engine's
                ``service_timeout_s``.
        """
        (page,) = await take(self._waited(execution_id, [asked]))
        return page

    def nodes_between_sync(self, execution_id: str, asked: NodeRange) -> NodePage:
        """Twin of :meth:`nodes_between`."""
        (page,) = take_sync(self._waited(execution_id, [asked]))
        return page

    async def node_pages(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """The pages of several ranges, as :meth:`nodes_between`, in one round trip."""
        return await take(self._waited(execution_id, asked))

    def node_pages_sync(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """Twin of :meth:`node_pages`."""
        return take_sync(self._waited(execution_id, asked))

    async def pages(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """As :meth:`node_pages`, and sooner: where nobody else on this machine has appended lately,
        it does not wait until this process's own entries are stored, but puts them in itself. Such
        an entry has a version above all others (:data:`.unstored.UNSTORED_EPOCH`), which is not
        the one that it will have. For executions whose entries are not appended again."""
        return await take(self._soon(execution_id, asked))

    def pages_sync(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """Twin of :meth:`pages`."""
        return take_sync(self._soon(execution_id, asked))

    def _waited(self, execution_id: str, asked: Sequence[NodeRange]) -> Steps[list[NodePage]]:
        """Read again if it turned out meanwhile that an entry of this process was fenced: its
        outcome comes before the answer of a service that has waited for it."""
        while True:
            claim = self._sole.before_read(execution_id)
            before = self._entries.fences
            yield Step(self, "_saved_again")
            pages: list[NodePage] = yield Step(self.engine, "node_pages", execution_id, asked)
            if self._entries.fences == before:
                self._sole.after_read(execution_id, claim)
                return pages

    def _soon(self, execution_id: str, asked: Sequence[NodeRange]) -> Steps[list[NodePage]]:
        """What has an outcome before the question is in the answer. What gets one meanwhile may be
        in it or not, and is put in like that which has none. A delete marks the claim."""
        while True:
            before = self._entries.fences
            yield Step(self, "_saved_again")
            entries = self._entries.of(execution_id)
            if not self._sole.of(execution_id, len(entries)):
                break
            try:
                pages: list[NodePage] = yield Step(self.engine, "stored_pages", execution_id, asked)
            except ServiceUnavailableError:
                raise
            except ServiceError:  # of a version that does not know the question
                break
            if self._entries.fences == before and self._sole.still(execution_id):
                return [
                    with_unstored(page, each, entries)
                    for page, each in zip(pages, asked, strict=True)
                ]
        return (yield from self._waited(execution_id, asked))

    async def _saved_again(self) -> None:
        await self._entries.saved_again(self._patient())

    def _saved_again_sync(self) -> None:
        self._entries.wait_saved_again(self._patient())

    def _patient(self) -> float:
        return time.monotonic() + self.engine.config.service_timeout_s


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout


def _begin_after_fork() -> None:
    """In a forked child: its parent's entries are the parent's. The engine has begun anew before,
    because its module was imported before this one."""
    global _making  # noqa: PLW0603 - the parent's lock may have been held while forking
    _making = threading.Lock()
    for reference in list(_logs.values()):
        log = reference()
        if log is not None:
            log._begin()


os.register_at_fork(after_in_child=_begin_after_fork)
