"""Delta bases: which earlier checkpoint a new one may be encoded against.

The base is the previous state of the same claim in the same journal, so it precedes the delta on
the way to the store. It may turn out to be missing there (refused, fenced, superseded, deleted):
the store says so and the record is encoded again without one. Chains are short: a full snapshot
comes at least every ``MAX_CHAIN`` checkpoints, which bounds what a read has to decode.
"""

from __future__ import annotations

from typing import Final

from livingai.queue.layout import Flag
from livingai.workers.feed import Feed, Item

#: Deltas in a row before a full snapshot.
MAX_CHAIN: Final = 16
#: Executions whose previous state is remembered.
_MAX_EXECUTIONS: Final = 50_000


class Bases:
    """Remembers the previous state of each execution."""

    def __init__(self) -> None:
        self._previous: dict[int, tuple[Feed, int, int, int]] = {}

    def choose(self, item: Item) -> None:
        """Set the record's base, if it has one, and make the record the base of the next."""
        header = item.header
        if header.flags & Flag.WHOLE:
            return
        key = header.execution_hash
        previous = self._previous.pop(key, None)
        chain = 0
        if previous is not None:
            feed, claim, at, length = previous
            if feed is item.feed and claim == header.claim and length < MAX_CHAIN:
                item.base_at = at
                chain = length + 1
        elif len(self._previous) >= _MAX_EXECUTIONS:
            del self._previous[next(iter(self._previous))]
        self._previous[key] = (item.feed, header.claim, item.at, chain)

    def forget(self, item: Item) -> None:
        """The record will not be in the store: nothing may build on it."""
        self._previous.pop(item.header.execution_hash, None)
