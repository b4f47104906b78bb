"""Lanes: what may be written next, in order within each execution.

A record's life in the service::

    taken --> encoding --> ready --> sent --> terminal
                 |                    |  ^
                 +--(no state)--------+  | writer died or store away: back to the front
                                      +--+

Rules:

1. Lanes belong to one writer, and every execution has one. Only a lane's leading ready records may
   be written, so an execution's writes are committed in order while a slow encoding holds up no
   other execution.
2. A batch takes records of one claim only from a lane, and the lane then waits until they are
   terminal. So nothing of a later claim is committed while a record of an earlier one may have to
   be sent again, and a record is never overtaken by one with another claim's between them.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

from livingai.queue.layout import Flag
from livingai.queue.patch import is_patch
from livingai.workers.dispatcher.feed import Item


class Lanes:
    """The lanes of one writer; see the rules above."""

    def __init__(self) -> None:
        self._lanes: dict[int, collections.deque[Item]] = {}
        #: Executions whose lane may have ready records at its front, in order of readiness.
        self._ready: dict[int, None] = {}
        #: Executions with records in the batch under way, and the first of each: their lanes wait.
        self._busy: dict[int, Item] = {}

    def __contains__(self, key: int) -> bool:
        """Whether an execution has unfinished records here."""
        return key in self._lanes or key in self._busy

    def has_older(self, key: int, since_ns: int) -> bool:
        """Whether an execution has unfinished records here that were accepted by ``since_ns``
        (CLOCK_MONOTONIC). The first decides: a lane is in order of acceptance, but for copies,
        which come behind what they are copies of."""
        first = self._busy.get(key) or next(iter(self._lanes.get(key, ())), None)
        return first is not None and not (first.feed.same_boot and first.header.mono_ns > since_ns)

    def behind(self, key: int) -> list[Item]:
        """The records of an execution that are not part of the batch under way, in order."""
        return list(self._lanes.get(key, ()))

    def add(self, item: Item) -> None:
        """Put a record at the end of its execution's lane."""
        key = item.header.execution_hash
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = collections.deque()
        lane.append(item)
        if item.ready:
            self._ready[key] = None

    def mark_ready(self, item: Item) -> None:
        """A record is encoded."""
        item.ready = True
        self._ready[item.header.execution_hash] = None

    def batch(self, max_rows: int, max_bytes: int) -> list[Item]:
        """Take ready records for one transaction; give them back with :meth:`release` or
        :meth:`put_back`."""
        batch: list[Item] = []
        size = 0
        for key in list(self._ready):
            lane = self._lanes.get(key)
            if key in self._busy:
                continue
            owner = _claim(lane[0]) if lane else None
            while (
                lane
                and lane[0].ready
                and _claim(lane[0]) == owner
                and len(batch) < max_rows
                and size < max_bytes
            ):
                item = lane.popleft()
                batch.append(item)
                size += _stored_bytes(item)
            del self._ready[key]
            if lane and lane[0].ready:  # later: one execution must not have all of the batch
                self._ready[key] = None
            if not lane:
                self._lanes.pop(key, None)
            if len(batch) >= max_rows or size >= max_bytes:
                break
        self.hold(batch)
        return batch

    def release(self, batch: Iterable[Item]) -> None:
        """The batch is terminal."""
        for item in batch:
            self._busy.pop(item.header.execution_hash, None)

    def hold(self, batch: Iterable[Item]) -> None:
        """The batch is under way: its executions' lanes wait."""
        for item in batch:
            self._busy.setdefault(item.header.execution_hash, item)

    def put_back(self, batch: list[Item]) -> None:
        """The batch was not written: back to the front, in order."""
        for item in reversed(batch):
            key = item.header.execution_hash
            self._busy.pop(key, None)
            self._lanes.setdefault(key, collections.deque()).appendleft(item)
        ready = {item.header.execution_hash: None for item in batch}
        ready.update(self._ready)
        self._ready = ready

    def discard(self, item: Item) -> None:
        """Take a record that needs no writing out of its lane."""
        key = item.header.execution_hash
        lane = self._lanes.get(key)
        if lane is not None and item in lane:
            lane.remove(item)
            if not lane:
                self._lanes.pop(key)
                self._ready.pop(key, None)
            elif lane[0].ready:
                self._ready[key] = None


def overtaken(batch: list[Item]) -> dict[Item, list[Item]]:
    """The records of a batch that need not be written because another one of the batch carries a
    newer state of the same claim, they asked for no history, and nothing builds on them (they are
    not firm); by that newer record.

    Newer by sequence number: an older write that is queued again
    (:mod:`livingai.inspection.quarantine`, or a copy after a failed fdatasync) comes behind newer
    ones.
    """
    newest: dict[int, Item] = {}  # a batch has one claim of each execution
    for item in batch:
        if item.header.flags & Flag.STATE:
            known = newest.setdefault(item.header.execution_hash, item)
            if item.header.seq > known.header.seq:
                newest[item.header.execution_hash] = item
    found: dict[Item, list[Item]] = {}
    for item in batch:
        later = newest.get(item.header.execution_hash, item)
        may_go = item.header.flags & Flag.LATEST_ONLY and not item.firm
        if may_go and item.header.seq < later.header.seq:
            found.setdefault(later, []).append(item)
    return found


def _claim(item: Item) -> tuple[int, int]:
    return item.header.journal_id, item.header.claim


def _stored_bytes(item: Item) -> int:
    encoded = item.encoded
    if encoded is not None:
        return len(encoded.blob)
    if item.patch or not is_patch(item.header):
        return item.header.body_len
    return item.raw_bytes()  # the writer rebuilds it
