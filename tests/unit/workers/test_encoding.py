"""Who encodes a record: the writer or a compressor."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.queue.journal import JournalLimits
from livingai.stores.base import RowStatus
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher.batches import _request
from livingai.workers.dispatcher.delta_bases import MAX_CHAIN, MIN_CHAIN, Bases, longest_chain
from livingai.workers.dispatcher.dispatcher import Dispatcher
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.lanes import overtaken
from livingai.workers.encoding import ALONE_BYTES, MOST_BYTES, is_quick
from livingai.workers.encoding_task import EncodingResult, EncodingTask
from livingai.workers.store.writer import HELD, UNENCODED
from tests.support.journals import Writer, state_directory


@pytest.mark.parametrize(
    ("size", "based", "slow", "codec", "expected"),
    [
        (ALONE_BYTES, False, False, "auto", True),
        (ALONE_BYTES + 1, False, False, "auto", False),
        (ALONE_BYTES, True, True, "auto", True),
        (MOST_BYTES, True, False, "auto", True),  # it may copy much
        (MOST_BYTES + 1, True, False, "auto", False),
        (MOST_BYTES, True, True, "auto", False),
        (MOST_BYTES, True, False, "zstd", False),
        (ALONE_BYTES, True, False, "zstd", True),
    ],
)
def test_what_the_writer_tries(
    size: int, based: bool, slow: bool, codec: str, expected: bool
) -> None:
    assert is_quick(size, based=based, slow=slow, codec=codec) is expected


def test_another_version_of_livingai_was_installed_meanwhile(tmp_path: Path) -> None:
    """Its writer gets what it can read, its compressors know the names that are pickled."""
    owner = Writer(state_directory(tmp_path), JournalLimits())
    owner.save("run-1", b"state" * 500)
    feed = Feed(owner.journal.directory)
    feed.read_ahead()
    item = Item(feed, feed.ahead[0].header, feed.ahead[0].position)
    item.by_writer = True
    assert _request(item, 2) == [feed.path, item.at, 0]
    for earlier in (0, 1):
        assert _request(item, earlier) == [feed.path, item.at, None, None, None, None]
    for each in (EncodingTask, EncodingResult):
        assert each.__module__ == "livingai.workers.encoding_task"
    feed.close()
    owner.close()


def test_what_took_long_is_remembered_for_the_execution(tmp_path: Path) -> None:
    """For what comes behind it, until one of them does not."""
    owner = Writer(state_directory(tmp_path), JournalLimits())
    for execution in ("run-1", "run-1", "run-2", "run-2", "run-1", "run-1"):
        owner.save(execution, b"state")
    feed = Feed(owner.journal.directory)
    feed.read_ahead()
    items = [Item(feed, found.header, found.position) for found in feed.ahead]
    bases = Bases()
    bases.choose(items[0])
    bases.choose(items[1])
    bases.note_slow(items[1], slow=True)
    for item in items[2:5]:
        bases.choose(item)
    assert [item.slow for item in items[:5]] == [False, True, False, False, True]
    bases.note_slow(items[4], slow=False)
    bases.choose(items[5])
    assert not items[5].slow
    feed.close()
    owner.close()


def test_how_many_deltas_come_in_a_row(tmp_path: Path) -> None:
    """More where they are encoded quickly, and fewer where a read would pass through much."""
    owner = Writer(state_directory(tmp_path), JournalLimits())
    for _ in range(2 * MAX_CHAIN):
        owner.save("run-1", b"state" * 500)
    feed = Feed(owner.journal.directory)
    feed.read_ahead()
    for slow, longest in ((False, MAX_CHAIN), (True, MIN_CHAIN)):
        bases, found = Bases(), []
        for at in feed.ahead:
            item = Item(feed, at.header, at.position)
            bases.choose(item)
            bases.note_slow(item, slow=slow)
            found.append(item.base_at > 0)
        assert found[: longest + 3] == [False, *[True] * longest, False, True]
    feed.close()
    owner.close()
    assert longest_chain(800_000, slow=False) == MAX_CHAIN
    assert longest_chain(2 << 20, slow=False) == 24
    assert longest_chain(1 << 30, slow=False) == longest_chain(0, slow=True) == MIN_CHAIN


def test_what_the_writer_would_give_back_one_by_one_goes_at_once(tmp_path: Path) -> None:
    """Behind the first one, all that is as large and of the same execution."""
    store = SQLiteStore(tmp_path / "agent.db")
    directory = state_directory(tmp_path / "state")
    owner = Writer(directory, JournalLimits())
    sizes = [2000, ALONE_BYTES + 1, ALONE_BYTES + 1, 2000, ALONE_BYTES + 1]
    for size in sizes:
        for execution in ("run-1", "run-2"):
            owner.save(execution, b"s" * size, history=False)

    async def dispatch() -> list[tuple[bool, bool]]:
        config = ServiceConfig.build(store, directory.path, EngineConfig())
        dispatcher = Dispatcher(config, directory)
        items = []
        for item in dispatcher.intake.take(100):
            dispatcher._dispatch(item)
            items.append(item)
        assert all(item.by_writer for item in items)
        dispatcher.encode_elsewhere([items[2]])
        found = [(item.by_writer, item.ready) for item in items]  # before any is encoded
        await dispatcher._shut_down()
        return found

    found = asyncio.run(dispatch())
    quick, slow = (True, True), (False, False)
    assert found[::2] == [quick, slow, slow, quick, slow]
    assert found[1::2] == [quick] * 5
    owner.close()


@pytest.mark.parametrize("status", [UNENCODED, HELD])
def test_what_was_overtaken_by_a_record_that_is_given_back(tmp_path: Path, status: int) -> None:
    """It may still be left out: the store has not refused the newer one."""
    store = SQLiteStore(tmp_path / "agent.db")
    directory = state_directory(tmp_path / "state")
    owner = Writer(directory, JournalLimits())
    for number in range(4):
        owner.save("run-1", b"%d" % number * 2000, history=False)

    async def decide() -> list[tuple[int, bool]]:
        dispatcher = Dispatcher(
            ServiceConfig.build(store, directory.path, EngineConfig()), directory
        )
        for item in dispatcher.intake.take(100):
            dispatcher._dispatch(item)
        writer = dispatcher.writers[0]
        batch = writer.lanes.batch(100, 1 << 20)
        items, shadows = list(batch), overtaken(batch)
        sent = [item for item in batch if item.firm or item is batch[-1]]
        answers = [[RowStatus.STORED, 0, "", 1], [status, 0, "", 1]]
        decided = writer._decide(batch, shadows, zip(sent, answers, strict=True))
        assert [entry[0] for entry in decided] == batch == items[:1]
        assert writer.lanes.behind(items[0].header.execution_hash) == items[1:]
        found = [(item.spared, item.firm) for item in items[1:3]]
        await dispatcher._shut_down()
        return found

    assert asyncio.run(decide()) == [(0, False)] * 2
    owner.close()
