"""What is sent again: when, and in which form."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path

import pytest

from livingai.errors import LivingAIError, ServiceUnavailableError, StoreUnavailableError
from livingai.workers.dispatcher.store_link import Backoff
from tests.support.batch_bench import BatchBench

SAVES = [(f"run-{number % 3}", True) for number in range(9)]


@pytest.mark.parametrize("form", ["by_writer", "patch"])
def test_what_ends_writers_in_its_own_form_is_stored_as_it_is(tmp_path: Path, form: str) -> None:
    """Encoding the record kills the writer, or rebuilding what it is a patch of: its state is
    stored without that, and nothing is quarantined."""

    def fault(numbers: list[int]) -> LivingAIError | None:
        row = dict(zip(numbers, bench.near.rows, strict=True)).get(5)
        return ServiceUnavailableError("killed") if row and len(row) == 3 else None

    async def main() -> list[int]:
        with closing(bench):
            setattr(bench.items[4], form, True)
            await bench.run()
            await bench.writer.close()
            return bench.stored("run-1")

    async def made() -> BatchBench:
        return BatchBench(tmp_path, SAVES, fault)

    with asyncio.Runner() as runner:
        bench = runner.run(made())
        assert runner.run(main()) == [1, 2, 3]
    assert not bench.aside
    assert set(bench.outcomes.values()) == {"met"}
    assert sum(5 in numbers for numbers in bench.near.sent) == 3


def test_an_error_from_before_a_question_is_no_answer_to_it(tmp_path: Path) -> None:
    """What was wrong may have been mended since."""
    answers: list[tuple[LivingAIError | None, LivingAIError | None]] = []
    asked_ns = time.monotonic_ns()

    class Told(BatchBench):
        def tell_trouble(self) -> None:
            if self.writer.trouble:
                before = self.writer.error_since(asked_ns)
                answers.append((before, self.writer.error_since(time.monotonic_ns())))

    async def main() -> None:
        faults = iter([StoreUnavailableError("away")])
        bench = Told(tmp_path, SAVES, lambda _: next(faults, None))
        with closing(bench):
            await bench.run()
            await bench.writer.close()

    asyncio.run(main())
    ((before, after),) = answers
    assert str(before) == "away"
    assert after is None


def test_whoever_waits_ends_one_pause_and_not_those_that_follow(tmp_path: Path) -> None:
    async def main() -> None:
        faults = iter([StoreUnavailableError("away")] * 2)
        bench = BatchBench(tmp_path, SAVES, lambda _: next(faults, None))
        bench.writer._backoff = Backoff(3600.0, 3600.0)
        bench.writer._backoff.next_s()
        with closing(bench):
            all_stored = asyncio.create_task(bench.run())
            for attempts in (1, 2):
                for _ in range(200):  # all of it happens in this event loop
                    await asyncio.sleep(0)
                assert len(bench.near.sent) == attempts, "nobody has asked for another attempt"
                assert bench.writer.error_since(time.monotonic_ns()) is None
            await all_stored
            await bench.writer.close()

    asyncio.run(main())
