"""Appends that depend on what is there: compare, and append only if nothing was added meanwhile.

A :class:`~livingai.adapters.shared_log.SharedLog` takes whatever anybody appends. Where an entry is
right only behind the entry that its writer has seen (a session's next event, a conversation's next
revision), exactly one of two writers that have seen the same may go on. Who may is decided by the
claims that the store knows anyway:

1. :meth:`OwnedLog.take_over` makes this process the owner. All that others were told is accepted is
   stored by then, and what they write under their earlier claims is fenced from then on. So what is
   read now is everything, and stays everything for as long as this process is the owner.
2. :meth:`OwnedLog.append_under` appends, and looks afterwards whether another process of this
   machine has taken over. If not, that one comes later, will find the entry and compare with it. If
   so, the entry is stored or it is not; to know, and to go on, take over again and look.
3. Processes that take over at the very same moment may not see each other in shared memory. So the
   first entry under a claim is accepted once it is in the store: that decides among them.
4. After that, as long as nobody else writes, an entry takes one look into shared memory.

A process on another machine takes over in the store alone, which this machine hears of a moment
later. What was accepted here meanwhile is saved again behind that one's entries, so nothing is lost
and both have been told that they were first; the next comparison of each finds the other's. With
``Durability.STORE`` that cannot happen: then the store has decided before the append returns.
"""

from __future__ import annotations

import collections
from contextlib import suppress
from typing import Any, Final

from livingai.adapters.shared_log import SharedLog
from livingai.errors import FencedError, RecordRefusedError
from livingai.node import ExecutionNode
from livingai.outcome import Durability, OutcomeStatus
from livingai.runs.ports import ClaimState, OwnedClaim

#: Of so many executions it is remembered that their claims are proven.
_REMEMBERED: Final = 4096


class OwnedLog:
    """Compares and appends, in a shared log. Thread-safe, but of two threads that append to one
    execution in this way only one may be between its comparison and its append."""

    def __init__(self, log: SharedLog) -> None:
        self._log = log
        self._engine = log.engine
        #: By execution: claims under which an entry is in the store.
        self._proven: collections.OrderedDict[str, OwnedClaim] = collections.OrderedDict()

    def holds(self, execution_id: str, claim: OwnedClaim) -> bool:
        """Whether no other process of this machine has taken an execution over since this one made
        ``claim``."""
        if self._engine.own_claim(execution_id) is not claim:
            return False
        return self._engine.claim_state(execution_id, claim) is ClaimState.HELD

    async def take_over(self, execution_id: str) -> OwnedClaim:
        """Become the owner; the claim under which to append.

        Raises:
            ServiceUnavailableError: the service does not answer, or not without the store.
        """
        while True:
            owned, token = self._engine.new_claim(execution_id)
            self._engine.press_claim(owned)
            with suppress(FencedError):  # yet another process was quicker: behind that one, then
                owned.epoch = await self._engine.confirm_claim(execution_id, token)
                return owned

    def begin(self, execution_id: str) -> OwnedClaim:
        """As :meth:`take_over`, for an execution whose id nobody else can know; asks nobody."""
        owned, _ = self._engine.new_claim(execution_id)
        self._prove(execution_id, owned)
        return owned

    def _prove(self, execution_id: str, claim: OwnedClaim) -> None:
        self._proven[execution_id] = claim
        if len(self._proven) > _REMEMBERED:
            with suppress(KeyError):  # another thread has just removed the last one
                self._proven.popitem(last=False)

    async def append_under(
        self,
        claim: OwnedClaim,
        node: ExecutionNode,
        state: Any = None,
        *,
        durability: Durability | None = None,
    ) -> bool:
        """Save an entry as the owner; whether this process still is the owner after that. If not,
        the entry may be stored, now or later, or never: take over, and look.

        Raises:
            RecordRefusedError: the store has refused this entry (at ``Durability.STORE``), or an
                earlier one, for good.
            LivingAIError: as :meth:`~livingai.CheckpointEngine.save`.
        """
        execution_id = node.execution_id
        level = self._engine.config.durability if durability is None else durability
        self._log.check(execution_id)
        if not self.holds(execution_id, claim):
            return False
        receipt = await self._engine.save(node, state, durability=Durability.JOURNAL, history=True)
        if not self.holds(execution_id, claim):
            return False
        proven = self._proven.get(execution_id) is claim
        if level is Durability.STORE or not proven:
            outcome = await receipt
            if outcome.status is OutcomeStatus.QUARANTINED:
                raise RecordRefusedError(
                    f"the store refuses the entry {node.id}: {outcome.reason}. It is kept aside: "
                    "`livingai status` lists it, `livingai requeue` tries it again"
                )
            if outcome.stored:
                self._prove(execution_id, claim)
            return outcome.stored
        self._log.adopt(receipt, node, state)
        if level is Durability.FSYNC:
            await self._engine.flush(Durability.FSYNC)
        return True
