"""Lanes: which executions a writer gets next."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from livingai.queue.journal import JournalLimits
from livingai.queue.layout import Flag, Kind
from livingai.queue.record import RecordHeader, pack_record, parse_header
from livingai.workers.dispatcher.delta_bases import Bases
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.lanes import Lanes, overtaken
from livingai.workers.encoding_task import EncodingResult
from tests.support.journals import Writer, state_directory


def test_one_execution_does_not_fill_every_batch(tmp_path: Path) -> None:
    """An execution with more rows than a batch has lets others come first, the next time."""
    writer = Writer(state_directory(tmp_path), JournalLimits())
    for number in range(30):
        writer.save("flood", b"%d" % number)
    for name in ("run-1", "run-2"):
        writer.save(name, b"state")
    feed = Feed(writer.journal.directory)
    feed.read_ahead()
    lanes = Lanes()
    for found in feed.ahead:
        item = Item(feed, found.header, found.position)
        item.ready = True
        lanes.add(item)
    sizes = []
    while batch := lanes.batch(10, 1 << 20):
        sizes.append(len({item.header.execution_hash for item in batch}))
        lanes.release(batch)
    assert sizes == [1, 3, 1, 1], "executions in each batch"
    feed.close()
    writer.close()


@given(seed=st.integers(0, 2**32))
def test_a_base_is_written_before_what_builds_on_it(seed: int) -> None:
    """Whatever is overtaken, sent again or refused: when a delta is sent, its base was sent before,
    and is not among those that are superseded."""
    random = Random(seed)
    lanes, bases = Lanes(), Bases()
    feeds = [object(), object()]
    items: list[Item] = []
    sent: set[tuple[object, int]] = set()
    for number in range(random.randrange(1, 60)):
        feed = random.randrange(2)
        flags = Flag.STATE | (Flag.LATEST_ONLY if random.random() < 0.8 else 0)
        item = Item(feeds[feed], header(feed, number, flags), number + 1)  # type: ignore[arg-type]
        items.append(item)
        bases.choose(item)
        if random.random() < 0.5:
            item.by_writer = True
        else:
            item.encoded = EncodingResult(b"", b"", None, 0)
        item.ready = True
        lanes.add(item)
        while random.random() < 0.3 and (batch := lanes.batch(random.randrange(1, 20), 1 << 20)):
            assert len({i.header.journal_id for i in batch}) == 1, "one claim at a time"
            shadows = overtaken(batch)
            hidden = {item for older in shadows.values() for item in older}
            for item in batch:
                if item not in hidden:
                    assert not item.base_at or (item.feed, item.base_at) in sent
                    bases.sent(item)
                    sent.add((item.feed, item.at))
            if random.random() < 0.3:
                lanes.put_back(batch)  # the store is away
                sent.difference_update((item.feed, item.at) for item in batch)
            else:
                lanes.release(batch)


def header(journal: int, seq: int, flags: int) -> RecordHeader:
    """The header of a state of the one execution."""
    return parse_header(
        pack_record(
            kind=Kind.WRITE, flags=flags, state_kind=1, journal_id=journal + 1, segment=1,
            lsn=seq + 1, claim=7, epoch=0, seq=seq + 1, mono_ns=seq, wall_ns=seq, key=5, node=b"",
            ext=b"", state=b"", budget_us=1, length=128,
        ), 0
    )  # type: ignore[return-value]  # fmt: skip
