"""Doubt: which answers of a writer keep it up, and which end it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import (
    LivingAIError,
    ServiceError,
    ServiceUnavailableError,
    StoreDamagedError,
    StoreFormatError,
    StoreMismatchError,
    StoreUnavailableError,
)
from livingai.protocol.error_parts import error_from_parts, error_parts
from livingai.protocol.frames import REVISION
from livingai.stores.base import Store
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher import doubt as doubt_module
from livingai.workers.dispatcher.dispatcher import Dispatcher
from livingai.workers.dispatcher.doubt import Doubt
from livingai.workers.dispatcher.store_link import Backoff
from tests.support.journals import state_directory
from tests.support.patience import patience

DAMAGED = StoreDamagedError("it is damaged")
#: As it comes from a writer of an earlier livingai.
EARLIER = ServiceError("a WriterRole does not know the request 'examine'")
ODD = ServiceError("SQLError: nobody has thought of this")


class Bench:
    """A doubt, and a writer that answers each examination with the next of these; in the end it
    finds the store sound."""

    def __init__(self, *answers: LivingAIError) -> None:
        self.answers = list(answers)
        self.asked = 0
        #: Every trouble that was told, in order; None: there is none any more.
        self.told: list[str | None] = []
        self.failure: BaseException | None = None
        self.over = asyncio.Event()
        self.doubt = Doubt(self, self.examine, self.note)  # type: ignore[arg-type]
        self.doubt._backoff = Backoff(0.0, 0.0)

    async def examine(self) -> None:
        self.asked += 1
        if self.answers:
            raise error_from_parts(error_parts(self.answers.pop(0), REVISION))

    def note(self, error: LivingAIError | None, began_ns: int) -> None:
        self.told.append(None if error is None else str(error))

    def kick(self) -> None:
        self.over.set()

    def fail(self, error: BaseException) -> None:
        self.failure = error

    async def run(self) -> None:
        self.doubt.begin(DAMAGED)
        with pytest.raises(StoreDamagedError, match="it is damaged"):
            self.doubt.refuse()
        await asyncio.wait_for(self.over.wait(), patience(60))
        self.doubt.refuse()
        assert self.told[-1] is None


def asked(*answers: LivingAIError) -> int:
    """How often a writer that answers so is asked."""

    async def main() -> int:
        bench = Bench(*answers)
        await bench.run()
        return bench.asked

    return asyncio.run(main())


@pytest.mark.parametrize(
    "error", [DAMAGED, StoreUnavailableError("away"), ServiceUnavailableError("it died")]
)
def test_what_is_waited_for(error: LivingAIError) -> None:
    assert asked(*[error] * 20) == 21


@pytest.mark.parametrize(
    ("answers", "times"),
    [
        ([], 1),
        ([EARLIER] * 9, 1),
        ([StoreFormatError("a newer schema")] * 9, 1),
        ([StoreMismatchError("another database")] * 9, 1),
        ([ODD] * 9, 3),
        ([ODD, ODD, DAMAGED, ODD, ODD, DAMAGED], 7),
        ([DAMAGED, ODD, ODD, ODD, DAMAGED], 4),
    ],
)
def test_what_ends_it(
    answers: list[LivingAIError], times: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "livingai.service"):
        assert asked(*answers) == times
    given_up = "it is written to again" in caplog.text
    assert given_up == (len(answers) >= times), "the log says so, unless the store is sound"


def test_it_comes_less_and_less_often() -> None:
    assert doubt_module._LAST_S >= 60
    delays = Backoff(doubt_module._FIRST_S, doubt_module._LAST_S)
    assert sum(delays.next_s() for _ in range(30)) > 60 * 15


def test_an_examination_that_takes_long_is_reported_once() -> None:
    async def main() -> None:
        bench = Bench()
        began, goes_on = asyncio.Event(), asyncio.Event()

        async def takes_long() -> None:
            began.set()
            await goes_on.wait()

        bench.doubt._examine = takes_long
        bench.doubt.begin(DAMAGED)
        await asyncio.wait_for(began.wait(), patience(60))
        bench.doubt.check(3600.0)
        assert bench.told == ["it is damaged"]
        bench.doubt.check(-1.0)
        bench.doubt.check(-1.0)
        assert len(bench.told) == 2
        assert "it is damaged (whether it still is so is being examined" in str(bench.told[1])
        goes_on.set()
        await asyncio.wait_for(bench.over.wait(), patience(60))
        assert bench.told[2:] == [None]

    asyncio.run(main())


@pytest.mark.parametrize("examines", [True, False])
def test_only_a_store_that_can_be_examined_is_doubted(tmp_path: Path, examines: bool) -> None:
    store: Store = SQLiteStore(tmp_path / "a.db") if examines else RedisStore("redis://nowhere")

    async def main() -> list[str]:
        directory = state_directory(tmp_path / "state")
        config = ServiceConfig.build(store, directory.path, EngineConfig())
        dispatcher = Dispatcher(config, directory)
        writer = dispatcher.writers[0]
        dispatcher.doubt(DAMAGED)
        found = [writer.trouble]
        await writer.close()
        return found

    assert asyncio.run(main()) == ["it is damaged" if examines else ""]
