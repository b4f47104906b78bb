"""Outcomes for watchers (``livingai tail``). The rules are in :mod:`livingai.protocol.watched`.

While nobody watches, an outcome costs a look at :attr:`Watch.active`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import secrets
import time

from livingai import serial
from livingai.errors import CorruptRecordError
from livingai.outcome import outcome_from_code
from livingai.protocol.watched import (
    FORGET_S,
    KEPT,
    MAX_WAIT_S,
    PAGE,
    REASON_CHARS,
    WatchedOutcome,
    WatchedPage,
)
from livingai.queue.layout import RECORD_HEADER_BYTES, offset_of, segment_of
from livingai.workers.dispatcher.feed import Item

#: Execution id, node id, type and status: the first fields of a node (:class:`NodeField`).
_NAMES = 4
#: Two ids of the longest kind, type, status, and what msgpack adds.
_NAMES_BYTES = 2048
_NAMELESS = ("", "", "", "")


class Watch:
    """Keeps the newest outcomes while somebody watches."""

    def __init__(self) -> None:
        self._life = secrets.token_hex(4)
        self._kept: collections.deque[WatchedOutcome] = collections.deque(maxlen=KEPT)
        #: Number of the newest one.
        self._number = 0
        self._until = 0.0
        self._news = asyncio.Event()
        #: Somebody watches.
        self.active = False

    def note(self, item: Item, code: int, latency_us: int, reason: str) -> None:
        """A record has its outcome; only to be called while :attr:`active`."""
        if time.monotonic() > self._until:
            self.active = False
            self._kept.clear()
            return
        outcome = outcome_from_code(code, latency_us, reason[:REASON_CHARS])
        execution_id, node_id, kind, status = _names(item)
        self._number += 1
        self._kept.append(
            WatchedOutcome(
                time.time(), execution_id, node_id, kind, status, str(outcome.status),
                outcome.level.name.lower(), outcome.latency_ms, item.header.length, outcome.reason,
            )
        )  # fmt: skip
        self._news.set()

    async def after(self, number: int, wait_s: float) -> WatchedPage:
        """A page of the outcomes behind ``number``, as the rules say.

        Raises:
            ValueError: the number is of another life, or the seconds are too many.
        """
        if not 0.0 <= wait_s <= MAX_WAIT_S:  # a NaN is neither
            raise ValueError(f"a question may wait from 0 to {MAX_WAIT_S:.0f} s, not {wait_s}")
        self._until = time.monotonic() + wait_s + FORGET_S
        self.active = True
        if number < 0:
            number = self._number
        if number > self._number:
            raise ValueError(f"outcome {number} is yet to come")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while number == self._number:
                    self._news.clear()
                    await self._news.wait()
        oldest = self._number - len(self._kept)
        missed = max(0, oldest - number)
        start = max(number, oldest) - oldest
        found = list(itertools.islice(self._kept, start, start + PAGE))
        return WatchedPage(self._life, number + missed + len(found), missed, found)


def _names(item: Item) -> tuple[str, str, str, str]:
    """Execution id, node id, type and status of a record's node."""
    try:
        segment = item.feed.tail.segments.get(segment_of(item.at))
        if segment is None:
            return _NAMELESS
        start = offset_of(item.at) + RECORD_HEADER_BYTES
        length = min(item.header.node_len, _NAMES_BYTES)
        names = serial.unpack_first(bytes(segment.view[start : start + length]), _NAMES)
    except (OSError, CorruptRecordError):  # its owner has removed the journal
        return _NAMELESS
    execution_id, node_id, kind, status = (n if isinstance(n, str) else "" for n in names)
    return execution_id, node_id, kind, status
