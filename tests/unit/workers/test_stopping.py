"""A dispatcher that is asked to stop: with what was accepted before, or at once."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from livingai.config import EngineConfig, ServiceConfig
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher.dispatcher import Dispatcher
from tests.support.journals import Writer, state_directory


def stopped(folder: Path, *drains: bool, drain_s: float = 60.0) -> list[bool]:
    """Whether a dispatcher that has a record to store is over, after each request to stop."""

    async def main() -> list[bool]:
        directory = state_directory(folder / "state")
        store = SQLiteStore(folder / "a.db")
        config = ServiceConfig.build(store, directory.path, EngineConfig(drain_s=drain_s))
        over = []
        with closing(Writer(directory)) as owner:
            owner.save("run-1", b"x")
            dispatcher = Dispatcher(config, directory)
            with closing(dispatcher.intake), closing(dispatcher._ending):
                for drain in drains:
                    dispatcher.stop(drain=drain)
                    for _ in range(5):
                        await asyncio.sleep(0)
                    over.append(dispatcher._over())
        return over

    return asyncio.run(main())


def test_one_that_drains_may_be_told_to_end_at_once(tmp_path: Path) -> None:
    """Its successor waits for it; what is not stored is in the journals."""
    assert stopped(tmp_path, True, False, True) == [False, True, True]


def test_one_that_drains_has_an_end(tmp_path: Path) -> None:
    """However long the store takes nothing."""
    assert stopped(tmp_path, True, drain_s=0.0) == [True]
    assert stopped(tmp_path, True) == [False]
