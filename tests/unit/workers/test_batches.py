"""Batches: what is written again, in which order, and how a record that ends writers is found."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from livingai.errors import (
    CorruptRowError,
    LivingAIError,
    ServiceUnavailableError,
    StoreDamagedError,
    StoreUnavailableError,
)
from livingai.stores.base import RowStatus
from livingai.workers.dispatcher.ports import Decided
from livingai.workers.dispatcher.store_link import Backoff
from tests.support.batch_bench import BatchBench, no_fault, tried
from tests.support.patience import patience

SAVES = [(f"run-{number % 3}", True) for number in range(9)]


@pytest.mark.parametrize("error", [ServiceUnavailableError("killed"), CorruptRowError("odd")])
def test_the_one_record_that_ends_writers_is_found(tmp_path: Path, error: LivingAIError) -> None:
    """Whatever it was in company of; all others are stored, and those behind it, too."""
    bench = tried(tmp_path, SAVES, lambda numbers: error if 5 in numbers else None)
    assert list(bench.aside) == [5]
    assert "ended the writer 10 times" in bench.aside[5]
    assert bench.outcomes == {n: "quarantined" if n == 5 else "met" for n in range(1, 10)}
    assert bench.seqs == {"run-0": [1, 2, 3], "run-1": [1, 3], "run-2": [1, 2, 3]}
    assert sum(5 in numbers for numbers in bench.near.sent) == 10


def test_a_store_that_is_away_is_nobodys_fault(tmp_path: Path) -> None:
    left = [30]

    def away(numbers: list[int]) -> LivingAIError | None:
        left[0] -= 1
        return StoreUnavailableError("away") if left[0] >= 0 else None

    bench = tried(tmp_path, SAVES, away)
    assert not bench.aside
    assert set(bench.outcomes.values()) == {"met"}
    assert all(item.attempts == 0 for item in bench.items)
    whole = sorted(bench.near.sent[0])
    assert [sorted(numbers) for numbers in bench.near.sent] == [whole] * 31


def test_nothing_is_written_to_a_store_that_was_found_damaged(tmp_path: Path) -> None:
    async def main() -> BatchBench:
        bench = BatchBench(tmp_path, SAVES, no_fault)
        bench.near.unsound = 3
        with closing(bench):
            bench.writer.doubt._backoff = Backoff(0.0, 0.0)
            bench.writer.doubt.begin(StoreDamagedError("damaged, says the reader"))
            assert bench.writer.trouble == "damaged, says the reader"
            bench.writer.doubt.begin(StoreDamagedError("damaged, says the reader again"))
            with pytest.raises(StoreDamagedError, match="says the reader"):
                await bench.writer.ask("claim", "run-0", "owner")
            await bench.run()
            await bench.writer.close()
        return bench

    bench = asyncio.run(main())
    assert bench.near.examined == 4
    assert bench.writer.trouble == ""
    assert set(bench.outcomes.values()) == {"met"}


def test_a_batch_under_way_does_not_end_the_doubt(tmp_path: Path) -> None:
    troubles: list[str] = []

    class Told(BatchBench):
        def store_answered(self, batch: list[Decided]) -> None:
            troubles.append(self.writer.trouble)
            super().store_answered(batch)

    async def main() -> None:
        def found_meanwhile(numbers: list[int]) -> None:
            bench.near.unsound = 2
            bench.writer.doubt.begin(StoreDamagedError("damaged, says the reader"))

        bench = Told(tmp_path, [("run", True)], found_meanwhile)
        bench.writer.doubt._backoff = Backoff(0.0, 0.0)
        with closing(bench):
            await bench.run()
            if bench.writer.doubt._task is not None:
                await asyncio.wait([bench.writer.doubt._task], timeout=patience(60))
            troubles.append(bench.writer.trouble)
            await bench.writer.close()

    asyncio.run(main())
    assert troubles == ["damaged, says the reader", ""]


def test_what_is_written_again_keeps_its_order(tmp_path: Path) -> None:
    failures = iter([ServiceUnavailableError("killed")] * 7)
    bench = tried(tmp_path, [("run", True)] * 6, lambda numbers: next(failures, None))
    assert not bench.aside
    assert bench.seqs["run"] == [1, 2, 3, 4, 5, 6]
    accepted = [number for numbers in bench.near.sent[7:] for number in numbers]
    assert accepted == sorted(accepted)


def test_what_was_overtaken_is_not_sent_and_not_called_stored(tmp_path: Path) -> None:
    bench = tried(tmp_path, [("run", False)] * 4)
    assert bench.near.sent == [[4]]
    assert bench.outcomes == {4: "met", 1: "superseded", 2: "superseded", 3: "superseded"}
    assert bench.seqs["run"] == [4]


def test_the_next_older_one_is_written_where_the_newest_is_refused(tmp_path: Path) -> None:
    bench = tried(
        tmp_path, [("run", False)] * 4, answers={4: [RowStatus.REFUSED], 3: [RowStatus.REFUSED]}
    )
    assert list(bench.aside) == [4, 3]
    assert Counter(bench.outcomes.values()) == {"quarantined": 2, "met": 2}
    assert bench.seqs["run"] == [1, 2], "after two refusals all that is left is firm"


def test_what_a_fenced_one_had_overtaken_goes_at_once(tmp_path: Path) -> None:
    fenced = {number: [RowStatus.FENCED] for number in range(1, 5)}
    bench = tried(tmp_path, [("run", False)] * 4, answers=fenced)
    assert bench.near.sent == [[4], [1, 2, 3]]
    assert set(bench.outcomes.values()) == {"fenced"}
    assert bench.seqs["run"] == []


def test_a_base_that_is_missing_is_told_and_what_comes_behind_waits(tmp_path: Path) -> None:
    bench = tried(tmp_path, [("run", True)] * 3, answers={2: [RowStatus.BASE_MISSING]})
    assert bench.again == [2]
    assert set(bench.outcomes.values()) == {"met"}


def test_several_that_lack_their_base_come_again_in_order(tmp_path: Path) -> None:
    missing = {number: [RowStatus.BASE_MISSING] for number in (2, 3, 4)}
    bench = tried(tmp_path, [("run", True)] * 4, answers=missing)
    assert bench.near.sent == [[1, 2, 3, 4], [2, 3, 4]]
    assert bench.again == [2, 3, 4]


def test_a_reader_waits_for_what_was_parted_from_its_batch(tmp_path: Path) -> None:
    """What is behind it in its lane does not stand for it: that was accepted later."""
    older: list[bool] = []

    async def main() -> None:
        def fault(numbers: list[int]) -> LivingAIError | None:
            first = bench.items[0].header
            if numbers == [1]:
                older.append(bench.writer.lanes.has_older(first.execution_hash, first.mono_ns))
            return ServiceUnavailableError("killed") if numbers == [1, 2] else None

        bench = BatchBench(tmp_path, [("run", True)] * 2, fault)
        with closing(bench):
            await bench.run()
            await bench.writer.close()
        assert bench.near.sent == [[1, 2], [1, 2], [1], [2]]

    asyncio.run(main())
    assert older == [True]
