"""What flows through the service now, counted when somebody asks for its status."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from livingai.protocol.status import ServiceFlow
from livingai.queue.record import RecordHeader
from livingai.workers.dispatcher.batches import BatchWriter
from livingai.workers.dispatcher.feed import Feed


def flow_through(feeds: Sequence[Feed], writers: Iterable[BatchWriter]) -> ServiceFlow:
    """The state of these journals, and what these writers have done so far."""
    writers = list(writers)
    return ServiceFlow(
        queued=sum(map(_queued, feeds)),
        oldest_s=max(map(_oldest_s, feeds), default=0.0),
        unsynced_bytes=sum(map(_unsynced_bytes, feeds)),
        commits=sum(writer.commits for writer in writers),
        raw_bytes=sum(writer.raw_bytes for writer in writers),
        stored_bytes=sum(writer.stored_bytes for writer in writers),
    )


def _unread(feed: Feed) -> int:
    """Records that were not read yet. What a dead owner did not publish is not known before."""
    return max(0, feed.tail.control.tail_lsn - feed.tail.lsn)


def _queued(feed: Feed) -> int:
    waiting = sum(not item.done for item in feed.inflight)
    return waiting + len(feed.ahead) + _unread(feed)


def _oldest_s(feed: Feed) -> float:
    header = next((item.header for item in feed.inflight if not item.done), None)
    if header is None and feed.ahead:
        header = feed.ahead[0].header
    if header is None:
        return 0.0
    if feed.same_boot:
        return max(0.0, (time.monotonic_ns() - header.mono_ns) / 1e9)
    return max(0.0, (time.time_ns() - header.wall_ns) / 1e9)


def _unsynced_bytes(feed: Feed) -> int:
    control = feed.tail.control
    synced = control.synced_lsn
    if not feed.alive or control.tail_lsn <= synced:
        return 0
    newest: RecordHeader | None = None
    total = 0
    for header in _newest_first(feed):
        newest = newest or header
        if header.lsn <= synced:
            break
        total += header.length
    if newest is not None:
        total += max(0, control.tail_lsn - max(newest.lsn, synced)) * newest.length
    return total


def _newest_first(feed: Feed) -> Iterable[RecordHeader]:
    for found in reversed(feed.ahead):
        yield found.header
    for item in reversed(feed.inflight):
        yield item.header
