"""Ownership of executions: claims, epochs and fencing, read and written in one transaction.

Rules:

1. The largest epoch in ``owners`` is the owner. Epochs of an execution only grow, deletions
   included: a delete is itself an entry (its ``claim`` is NULL), so every writer before it is
   fenced and cannot bring parts of the execution back.
2. A claim has one epoch for ever. An unknown claim takes the next one, or keeps the one it got
   elsewhere (a tiered store) if that is newer than all here.
3. ``last_seq`` of the owner is ``executions.seq``; its line here gets it when the next one takes
   over. So the usual commit does not touch ``owners``.
4. The caller holds the write lock, so what is read here stays true until the commit. Nothing is
   remembered across transactions: another service may write in between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import apsw

_NEWEST = """
SELECT o.claim, o.epoch, CASE WHEN e.epoch = o.epoch THEN e.seq ELSE o.last_seq END
FROM owners AS o LEFT JOIN executions AS e ON e.execution_id = o.execution_id
WHERE o.execution_id = ? ORDER BY o.epoch DESC LIMIT 1
"""
_BY_CLAIM = "SELECT claim, epoch, last_seq FROM owners WHERE execution_id = ? AND claim = ?"
_FORGET = "UPDATE owners SET last_seq = -1 WHERE execution_id = ?"
_SAVE = """
INSERT INTO owners (execution_id, epoch, claim, last_seq, claimed_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (execution_id, epoch) DO UPDATE SET last_seq = excluded.last_seq
"""


@dataclass(slots=True)
class OwnerRow:
    """One claim on an execution; ``claim`` None is a deletion, ``last_seq`` -1 is none stored."""

    claim: str | None
    epoch: int
    last_seq: int = -1
    changed: bool = False


class Owners:
    """The owners of the executions that one transaction touches."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._newest: dict[str, OwnerRow | None] = {}
        self._known: dict[tuple[str, str | None], OwnerRow] = {}

    def newest(self, execution_id: str) -> OwnerRow | None:
        """The owner of the execution; None if it was never claimed."""
        if execution_id not in self._newest:
            row: Any = self._connection.execute(_NEWEST, (execution_id,)).fetchone()
            owner = self._newest[execution_id] = OwnerRow(*row) if row else None
            if owner is not None:
                self._known[execution_id, owner.claim] = owner
        return self._newest[execution_id]

    def find(self, execution_id: str, claim: str, epoch: int = 0) -> OwnerRow | None:
        """The owner that ``claim`` names; an unknown claim becomes the newest.

        ``epoch`` is the one that an unknown claim got elsewhere, or 0. None: that one is too old.
        """
        newest = self.newest(execution_id)
        owner = self._known.get((execution_id, claim))
        if owner is not None:
            return owner
        if newest is not None:
            row: Any = self._connection.execute(_BY_CLAIM, (execution_id, claim)).fetchone()
            if row:
                owner = self._known[execution_id, claim] = OwnerRow(*row)
                return owner
            if epoch and epoch <= newest.epoch:
                return None
        return self._take(execution_id, claim, epoch or (newest.epoch + 1 if newest else 1))

    def delete(self, execution_id: str) -> None:
        """Fence every claim so far; without an owner there is none to fence."""
        newest = self.newest(execution_id)
        if newest is not None and newest.claim is not None:
            newest.last_seq = -1
            self._connection.execute(_FORGET, (execution_id,))
            self._take(execution_id, None, newest.epoch + 1)

    def _take(self, execution_id: str, claim: str | None, epoch: int) -> OwnerRow:
        before = self._newest.get(execution_id)
        if before is not None:
            before.changed = True
        owner = OwnerRow(claim, epoch, changed=True)
        self._newest[execution_id] = self._known[execution_id, claim] = owner
        return owner

    def flush(self) -> None:
        """Write what has changed; the caller commits."""
        now = time.time()
        rows = [
            (execution_id, owner.epoch, owner.claim, owner.last_seq, now)
            for (execution_id, _), owner in self._known.items()
            if owner.changed
        ]
        if rows:
            self._connection.executemany(_SAVE, rows)
