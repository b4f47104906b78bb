"""Ownership: one process at a time may run an execution, and notices when it no longer may.

Taking an execution over, step by step, and why a tool is never run by two owners:

1. The successor marks the execution as taken in the index of every other journal of the directory,
   and records its own beginning.
2. It asks the service for its epoch. The service first stores what was accepted before that, the
   former owner's records included; what the former owner records from now on is fenced.
3. It reads the history.

The former owner records a tool's intent, then looks at its mark, then calls the tool. If its record
was accepted before (2), the successor reads it in (3), and the tool is in doubt. If not, the mark
of (1) was there before it looked, and it does not call. A mark may also be set by a contender that
lost, so it is not proof: the marked process asks the store, whose answer counts.

That mark is set before the successor's first record is written, so it does not reach a process that
enters between the two. Such a process sees that the other one is in the middle of entering (its
first record is not published; it may be paused there, or dead, and the service may meet the record
much later). It trusts no mark then: in that life every intent is stored before the call, and the
store refuses it if the other's claim came first (:attr:`Ownership.intent_level`).

This holds for processes that share a state directory. Across machines there are no marks; there a
run is opened with ``exclusive=True``, and an intent is stored, and thereby checked, first.

A forked child is another process. It owns nothing, and may not act for its parent.

A run has one claim from its beginning to its end. Where thousands of other executions displace its
entry of the index, other processes have nothing to mark: from then on every check asks the store.
"""

from __future__ import annotations

import os

from livingai.errors import FencedError, RecordRefusedError, RunError
from livingai.node import ExecutionNode
from livingai.outcome import Durability
from livingai.runs.effects import Claim, Save, Work, do
from livingai.runs.ports import ClaimState, OwnedClaim, RunEngine


class Ownership:
    """One process's ownership of one execution: takes it, checks it, and records intents under
    it."""

    def __init__(self, engine: RunEngine, execution_id: str, *, exclusive: bool = False) -> None:
        self._engine = engine
        self._execution_id = execution_id
        self._exclusive = exclusive
        self._pid = os.getpid()
        self._owned: OwnedClaim | None = None
        self._token = ""
        #: Whether another process may have been entering at the same time.
        self._contested = False
        #: The store's fencing token; 0 before :meth:`take`.
        self.epoch = 0

    @property
    def forked(self) -> bool:
        """Whether this is a child that was forked while its parent owned the execution."""
        return os.getpid() != self._pid

    def take(self, beginning: ExecutionNode) -> Work[None]:
        """Take the execution over from its owner, if it has one, and record ``beginning``.

        Raises:
            FencedError: another process did the same at the same time, and its claim is the newer
                one.
        """
        owned, self._token = self._engine.new_claim(self._execution_id)
        self._owned = owned
        self._contested = self._engine.others_enter(self._execution_id)
        yield from do(Save(beginning))
        self.epoch = owned.epoch = yield from do(Claim(self._execution_id, self._token))
        if self._state() is ClaimState.REPLACED:
            raise self._fenced()

    def check(self, *, ask: bool = False) -> Work[None]:
        """Return if this process is still the owner. ``ask``: ask the store in any case, and not
        only if there is doubt.

        Raises:
            FencedError: it is not.
            RunError: it is a forked child of the owner.
            ServiceUnavailableError: the execution is marked as taken, and the service, which could
                confirm or deny that, does not answer.
        """
        if self.forked:
            raise self.forked_error()
        state = self._state()
        if ask or state in (ClaimState.MARKED, ClaimState.DISPLACED):
            yield from do(Claim(self._execution_id, self._token))
            if state is ClaimState.DISPLACED and self._owned is not None:
                self._engine.keep_claim(self._execution_id, self._owned)
            state = self._state()
        if state is ClaimState.REPLACED:
            raise self._fenced()

    def record_intent(self, node: ExecutionNode) -> Work[None]:
        """Record that a call is about to be made. From then on a successor has to assume that it
        may have been made.

        Raises:
            RecordRefusedError: the store does not take the record. The call must not be made.
            As :meth:`check`; then, too.
        """
        level = self.intent_level
        receipt = yield from do(Save(node, level))
        outcome = receipt.outcome if level is Durability.STORE else None
        if outcome is not None and outcome.status == "fenced":
            raise FencedError(
                f"execution {self._execution_id} is no longer this process's ({outcome.reason}), "
                f"so {node.metadata.get('name')!r} was not called"
            )
        if outcome is not None and not outcome.stored:
            raise RecordRefusedError(
                f"the store did not take the record that {node.metadata.get('name')!r} is about to "
                f"be called ({outcome.reason}), so it was not called"
            )
        yield from self.check()

    @property
    def intent_level(self) -> Durability:
        """The durability that an intent has to reach before the call: STORE for an exclusive run
        and for one that another process may have been entering at the same time, else FSYNC."""
        return Durability.STORE if self._exclusive or self._contested else Durability.FSYNC

    def forked_error(self) -> RunError:
        """For a forked child that acts as if it were its parent."""
        return RunError(
            f"run {self._execution_id!r} was entered by process {self._pid}, and this is its "
            f"forked child {os.getpid()}: make recorded calls in the process that entered it, and "
            "give children plain functions (or runs of their own)"
        )

    def _fenced(self) -> FencedError:
        return FencedError(
            f"execution {self._execution_id} was entered again in this process while it was still "
            "running; the later run goes on, and this one can record nothing more"
        )

    def _state(self) -> ClaimState:
        if self._owned is None:
            return ClaimState.DISPLACED
        return self._engine.claim_state(self._execution_id, self._owned)
