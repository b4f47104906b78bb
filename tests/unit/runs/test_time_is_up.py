"""A function that no thread had begun when its call's time was up is not called any more: what is
recorded of the call is that it failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from livingai import CheckpointEngine, Status
from livingai.runs import threads
from tests.support.runs import Counter, new_id, nodes_of

Body = Callable[[], None]


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[Body]:
    """What threads are to do; they come to it when the test says so."""
    bodies: list[Body] = []
    monkeypatch.setattr(threads, "_start", bodies.append)
    return bodies


def test_without_an_event_loop(engine: CheckpointEngine, waiting: list[Body]) -> None:
    done, run_id = Counter(), new_id()
    with engine.run_sync(run_id) as run, pytest.raises(TimeoutError):
        run.using(timeout=0.001).tool("charge", done.add)
    _begin_late(engine, run_id, waiting, done)


async def test_with_an_event_loop(engine: CheckpointEngine, waiting: list[Body]) -> None:
    done, run_id = Counter(), new_id()
    async with engine.run(run_id) as run:
        with pytest.raises(TimeoutError):
            await run.using(timeout=0.001).tool("charge", done.add)
    _begin_late(engine, run_id, waiting, done)


def _begin_late(engine: CheckpointEngine, run_id: str, waiting: list[Body], done: Counter) -> None:
    (body,) = waiting
    body()
    assert done.calls == []
    (node,) = nodes_of(engine, run_id, "charge")
    assert node.status is Status.FAILED
