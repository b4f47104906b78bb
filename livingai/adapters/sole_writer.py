"""Executions of a shared log of which only this process has entries that are not stored.

1. A claim of this process is looked at while no other process of this machine has marked it, is
   about to, or is overlooked: whoever else has begun to write is marked first
   (:meth:`~livingai.CheckpointEngine.press_claim`), and takes the execution over again before its
   next entry is accepted.
2. A read that then waits for all that is queued has seen what the others appended before. So, from
   that read on and for as long as the claim is unmarked, nothing is queued but what this process
   has appended itself.
3. This process may have other engines, and programs save without a log. So the entries that the
   log has in memory must be as many as the claim has records without a delivered outcome.
4. Other machines are not seen here. What they have appended is seen once it is stored: a read that
   waits does no better.
"""

from __future__ import annotations

import collections
from contextlib import suppress
from typing import Final

from livingai.engine.engine import CheckpointEngine
from livingai.engine.pending import OwnedExecution
from livingai.errors import JournalError
from livingai.runs.ports import ClaimState

#: Of so many executions it is remembered.
_REMEMBERED: Final = 4096


class SoleWriter:
    """See the rules above. Thread-safe."""

    def __init__(self, engine: CheckpointEngine) -> None:
        self._engine = engine
        self._claims: collections.OrderedDict[str, OwnedExecution] = collections.OrderedDict()

    def of(self, execution_id: str, entries: int) -> bool:
        """Whether nothing of an execution is queued on this machine but so many entries of one log
        of this process."""
        claim = self._claims.get(execution_id)
        if claim is None or claim.unsettled != entries:
            return False
        return self._holds(execution_id, claim)

    def still(self, execution_id: str) -> bool:
        """Whether nobody has taken the execution over, or deleted it, since then."""
        claim = self._claims.get(execution_id)
        return claim is not None and self._holds(execution_id, claim)

    def before_read(self, execution_id: str) -> OwnedExecution | None:
        """The claim to be handed to :meth:`after_read` once what is queued now was waited for;
        None: that would prove nothing, or it is known already."""
        claim = self._engine.own_claim(execution_id)
        if claim is None or not self._holds(execution_id, claim):
            return None
        if self._claims.get(execution_id) is claim:
            return None
        with suppress(JournalError):  # another journal cannot be opened: its owner may write
            self._engine.press_claim(claim)
            if not self._engine.others_enter(execution_id) and self._holds(execution_id, claim):
                return claim
        return None

    def after_read(self, execution_id: str, claim: OwnedExecution | None) -> None:
        """All that was queued at :meth:`before_read` is stored."""
        if claim is None:
            return
        self._claims[execution_id] = claim
        if len(self._claims) > _REMEMBERED:
            with suppress(KeyError):  # another thread has just removed the last one
                self._claims.popitem(last=False)

    def _holds(self, execution_id: str, claim: OwnedExecution) -> bool:
        if self._engine.own_claim(execution_id) is not claim:
            return False
        return self._engine.claim_state(execution_id, claim) is ClaimState.HELD
