"""Lanes: who comes next."""

from __future__ import annotations

from pathlib import Path

from livingai.queue.journal import JournalLimits
from livingai.workers.feed import Feed, Item
from livingai.workers.lanes import Partition
from tests.support.journals import Writer, state_directory


def test_one_execution_does_not_have_it_all(tmp_path: Path) -> None:
    """An execution with more rows than a batch has lets others come first, the next time."""
    writer = Writer(state_directory(tmp_path), JournalLimits())
    for number in range(30):
        writer.save("flood", b"%d" % number)
    for name in ("run-1", "run-2"):
        writer.save(name, b"state")
    feed = Feed(writer.journal.directory)
    feed.read_ahead()
    partition = Partition()
    for found in feed.ahead:
        item = Item(feed, found.header, found.position)
        item.ready = True
        partition.add(item)
    sizes = []
    while batch := partition.batch(10, 1 << 20):
        sizes.append(len({item.header.execution_hash for item in batch}))
        partition.release(batch)
    assert sizes == [1, 3, 1, 1], "executions in each batch"
    feed.close()
    writer.close()
