"""A journal that cannot be read for now: what may follow its owner's writes is held meanwhile, and
released in order; everything else goes on."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from livingai.queue.index import NAME as INDEX
from livingai.queue.layout import INDEX_HEADER_BYTES
from livingai.queue.tally import ServiceTally
from livingai.workers.dispatcher import intake
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake
from tests.support.clocks import Clocks
from tests.support.intakes import values
from tests.support.journals import Writer, garbage, overwrite, state_directory


@contextmanager
def unreadable(owner: Writer) -> Iterator[None]:
    """The service can open everything but the journal of this owner."""

    def open_feed(path: str, tally: ServiceTally | None) -> Feed:
        if path == owner.journal.directory:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Feed(path, tally)

    with mock.patch.object(intake, "Feed", side_effect=open_feed):
        yield


def claim_anew(owner: Writer, budget_us: int) -> None:
    """The owner takes the execution over and saves."""
    owner.places.pop("run-1", None)
    owner.save("run-1", b"state", budget_us=budget_us)


def test_held_records_keep_their_order(owners: list[Writer], merged: Intake) -> None:
    """An execution moves to and fro while one of the journals cannot be opened: the last claim is
    the last one that the store sees."""
    with unreadable(owners[1]):
        for value in range(8):
            claim_anew(owners[1 - value % 2], value)
        assert values(merged) == []
    assert values(merged) == list(range(8))


def test_held_records_wait_for_no_quiet_moment(owners: list[Writer], merged: Intake) -> None:
    """The other agents are faster than the store: at the end of no turn is the journal empty."""
    with unreadable(owners[1]):
        claim_anew(owners[1], 1)
        claim_anew(owners[0], 2)
        assert values(merged) == []
    seen: list[int] = []
    for _ in range(10):
        for _ in range(4):
            owners[0].save("flood", b"x", budget_us=99)
        turn = merged.take(2)
        seen.extend(item.header.budget_us for item in turn)
    assert [value for value in seen if value != 99] == [1, 2]


def test_nothing_is_taken_beyond_what_may_be_held(owners: list[Writer], merged: Intake) -> None:
    with mock.patch.object(intake, "_MAX_HELD", 3):
        with unreadable(owners[1]):
            owners[1].save("run-1", b"state", budget_us=0)
            for value in range(1, 8):
                owners[0].save("run-1", b"state", budget_us=value)
            for _ in range(5):
                assert values(merged) == []
            feed = merged.by_id(f"{owners[0].journal.id:016x}")
            assert feed is not None
            assert len(feed.inflight) == 3
        assert values(merged) == list(range(8))


def test_what_cannot_follow_the_journal_goes_on_and_no_reader_does(
    owners: list[Writer], merged: Intake
) -> None:
    """Its index shows that it does not know the execution; but a reader of all waits for it."""
    with unreadable(owners[1]):
        owners[1].save("run-1", b"x", budget_us=1)
        owners[0].save("run-2", b"x", budget_us=2)
        since = time.monotonic_ns()
        assert values(merged) == [2]
        assert values(merged) == []
        assert merged.horizon_ns == 0
        assert merged.waiting(), "the service must not end as idle"
    assert values(merged) == [1]
    assert merged.horizon_ns > since
    assert not merged.waiting()


@pytest.mark.parametrize("index", ["gone", "damaged"])
def test_a_journal_without_an_index_may_know_any_execution(
    owners: list[Writer], merged: Intake, index: str
) -> None:
    with unreadable(owners[1]):
        claim_anew(owners[1], 1)
        claim_anew(owners[0], 2)
        path = Path(owners[1].journal.directory, INDEX)
        if index == "gone":
            path.unlink()
        else:
            overwrite(path, 0, garbage(1, INDEX_HEADER_BYTES))
        assert values(merged) == []
    assert values(merged) == [1, 2]


def test_a_journal_of_an_earlier_boot_may_know_any_execution(tmp_path: Path) -> None:
    """The slots of its index were never synced: a power loss took them."""
    clocks, directory = Clocks(Random(1)), state_directory(tmp_path)
    clocks.power_loss()
    with clocks.shown():
        dead = Writer(directory)
        dead.save("run-1", b"x", budget_us=1)
        dead.die()
    path = Path(dead.journal.directory, INDEX)
    overwrite(path, INDEX_HEADER_BYTES, bytes(path.stat().st_size - INDEX_HEADER_BYTES))
    clocks.power_loss()
    with (
        clocks.shown(),
        mock.patch("livingai.workers.dispatcher.unreadable._RETRY_S", 0.0),
        closing(Writer(directory)) as owner,
        closing(Intake(directory)) as merged,
    ):
        owner.save("run-1", b"x", budget_us=2)
        with unreadable(dead):
            assert values(merged) == []
        assert values(merged) == [1, 2]
