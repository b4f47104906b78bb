"""A dispatcher that is asked to stop: with what was accepted before, or at once."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from livingai.config import EngineConfig, ServiceConfig
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher.dispatcher import Dispatcher
from tests.support.journals import Writer, state_directory


def test_one_that_drains_may_be_told_to_end_at_once(tmp_path: Path) -> None:
    """Its successor waits for it; what is not stored is in the journals."""

    async def main() -> None:
        directory = state_directory(tmp_path / "state")
        store = SQLiteStore(tmp_path / "a.db")
        config = ServiceConfig.build(store, directory.path, EngineConfig())
        with closing(Writer(directory)) as owner:
            owner.save("run-1", b"x")
            dispatcher = Dispatcher(config, directory)
            with closing(dispatcher.intake), closing(dispatcher._ending):
                for drain, over in ((True, False), (False, True), (True, True)):
                    dispatcher.stop(drain=drain)
                    for _ in range(5):
                        await asyncio.sleep(0)
                    assert dispatcher._over() == over

    asyncio.run(main())
