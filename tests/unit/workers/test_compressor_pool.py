"""When the compressors are started."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livingai.workers.dispatcher import compressor_pool
from livingai.workers.dispatcher.compressor_pool import CompressorPool
from tests.support.patience import patience


@pytest.mark.parametrize("error", [OSError, RuntimeError, MemoryError, ValueError])
def test_a_start_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Whatever it fails with, also where nobody waits for it."""

    async def main() -> None:
        tried = asyncio.Event()

        def fail(count: int) -> Any:
            tried.set()
            raise error("not now")

        pool = CompressorPool(1, "auto", None)
        with monkeypatch.context() as patched:
            patched.setattr(compressor_pool, "make_processes", fail)
            patched.setattr(compressor_pool, "_LATER_S", 0.0)
            pool._start_later()
            await tried.wait()
        assert pool.pids() == []
        assert "not now" in pool.where
        pool._start_at = 0.0
        pool.check()
        pool._known.clear()
        await pool.warm()
        assert len(pool.pids()) == 1
        assert pool.where == "in 1 processes"
        pool.close()

    asyncio.run(asyncio.wait_for(main(), patience(60)))


def test_closed_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(compressor_pool, "_LATER_S", 0.05)
        pool = CompressorPool(1, "auto", None)
        pool._start_later()
        pool.close()
        await asyncio.sleep(0.2)
        assert pool.pids() == []

    asyncio.run(main())


def test_who_waits_for_a_start_that_fails_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service is up without compressors, too."""

    def fail(count: int) -> Any:
        raise OSError("no semaphores here")

    async def main() -> None:
        monkeypatch.setattr(compressor_pool, "make_processes", fail)
        pool = CompressorPool(1, "auto", None)
        await pool.warm()
        assert "no semaphores here" in pool.where
        pool.close()

    asyncio.run(asyncio.wait_for(main(), patience(60)))
