"""A journal that is full because the store takes nothing: what ``on_full`` promises."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from livingai import ExecutionNode
from livingai.errors import JournalFullError
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.agents import Agent
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen

SMALL: dict[str, Any] = {
    "segment_bytes": 1 << 16, "journal_bytes": 1 << 18, "cache_bytes": 0, "patch_from_bytes": 0,
}  # fmt: skip


def fill(agent: AgentSide, execution: str, first: int, most: int = 500) -> int:
    """Save until the journal is full; the step that was not accepted."""
    for step in range(first, first + most):
        try:
            acts.save(agent, execution, step)
        except JournalFullError as error:
            full = error
            break
    else:
        raise AssertionError(f"{most} saves fitted into the journal")
    assert isinstance(full, TimeoutError)
    assert "livingai status" in str(full)
    assert "kept" in str(full)
    return step


def warm(place: Place, **settings: Any) -> tuple[Agent, list[int]]:
    """An agent with one stored step, and its service's writers."""
    agent = place.agent(**SMALL, **settings)
    agent.call(acts.save, place.run, 0)
    agent.settled(1)
    return agent, place.pids()["writers"]


def check_all_stored(place: Place, agent: Agent, steps: int) -> None:
    """Nothing was lost, nothing came twice."""
    agent.settled(steps)
    assert peek.stored_steps(place.database, place.run) == list(range(steps))
    assert peek.stored_state(place.database, place.run) == state_of(place.run, steps - 1)


def test_raise(served: Place) -> None:
    agent, writers = warm(served, on_full="raise")
    with frozen(writers):
        refused = agent.call(fill, served.run, 1)
        for _ in range(3):
            with pytest.raises(JournalFullError):
                agent.call(acts.save, served.run, refused)
        assert agent.call(acts.latest, served.run)[1] == state_of(served.run, refused - 1)
    agent.settled(refused)
    agent.call(acts.save, served.run, refused)
    check_all_stored(served, agent, refused + 1)


def test_block_then_raise(served: Place) -> None:
    agent, writers = warm(served, on_full="block", on_full_timeout_s=0.4)
    with frozen(writers):
        began = time.monotonic()
        refused = agent.call(fill, served.run, 1)
        assert time.monotonic() - began >= 0.4
    check_all_stored(served, agent, refused)


def test_block_until_there_is_room(served: Place) -> None:
    agent, writers = warm(served, on_full="block", on_full_timeout_s=60.0)
    with frozen(writers):
        agent.send(acts.save_many, f"{served.run} 2", 200)
        with pytest.raises(AssertionError, match="no answer"):
            agent.receive(timeout=0.5)
    agent.receive()
    agent.settled(201)
    assert peek.stored_steps(served.database, f"{served.run} 2") == list(range(200))


def test_write_through(served: Place) -> None:
    agent, writers = warm(served, on_full="write_through")
    with frozen(writers):
        agent.send(acts.save_many, f"{served.run} 2", 200)
        with pytest.raises(AssertionError, match="no answer"):
            agent.receive(timeout=0.5)
    agent.receive()
    agent.settled(201)
    assert peek.stored_steps(served.database, f"{served.run} 2") == list(range(200))


def write_through_once(agent: AgentSide, execution: str, first: int) -> bool:
    """Save until one save has to wait for room; whether it was stored when it returned. While it
    waits the writers go on: by that it is known."""
    oldest = None
    for step in range(first, first + 500):
        node = acts.make_node(execution, step)
        receipt = agent.keep(agent.engine.save_sync(node, state_of(execution, step)))
        oldest = oldest or receipt
        if oldest.done():
            return receipt.done()
    raise AssertionError("no save had to wait")


def test_write_through_returns_when_stored(served: Place) -> None:
    agent, writers = warm(served, on_full="write_through")
    with frozen(writers):
        agent.send(write_through_once, served.run, 1)
        with pytest.raises(AssertionError, match="no answer"):
            agent.receive(timeout=1.5)
    assert agent.receive() is True
    agent.settled()


@pytest.mark.parametrize("on_full", ["block", "write_through"])
def test_event_loop_is_free_while_a_save_waits(served: Place, on_full: str) -> None:
    async def main() -> None:
        async with served.engine(**SMALL, on_full=on_full) as engine:
            await (await engine.save(ExecutionNode(served.run), b"first"))
            with frozen(served.pids()["writers"]):
                saving = asyncio.create_task(save_all(engine))
                done, _ = await asyncio.wait([saving], timeout=0.5)
                assert not done, "the journal did not fill up"
                for _ in range(50):  # the loop turns while the save waits
                    await asyncio.sleep(0)
                assert not saving.done()
            await asyncio.wait_for(saving, patience(30))

    async def save_all(engine: Any) -> None:
        for step in range(100):
            await engine.save(acts.make_node(served.run, step), state_of(served.run, step))

    asyncio.run(main())
    assert peek.stored_state(served.database, served.run) == state_of(served.run, 99)


def test_async_raise(served: Place) -> None:
    async def main() -> int:
        async with served.engine(**SMALL, on_full="raise") as engine:
            await (await engine.save(ExecutionNode(served.run), b"first"))
            with frozen(served.pids()["writers"]):
                for step in range(200):
                    try:
                        await engine.save(
                            acts.make_node(served.run, step),
                            state_of(served.run, step),
                        )
                    except JournalFullError:
                        return step
        raise AssertionError("the journal did not fill up")

    refused = asyncio.run(main())
    assert peek.stored_state(served.database, served.run) == state_of(served.run, refused - 1)


def test_a_state_larger_than_the_journal(served: Place) -> None:
    """One record always fits once everything before it is stored."""
    agent, _ = warm(served, on_full="block")
    agent.call(acts.save, served.run, 1, size=1_000_000)
    agent.call(acts.save, served.run, 2, size=2_000_000)
    agent.call(acts.save, served.run, 3)
    agent.settled(4)
    assert peek.stored_state(served.database, served.run) == state_of(served.run, 3)


def test_the_journal_does_not_grow(state_dir: Place) -> None:
    """Far more than ``journal_bytes`` goes through it."""
    agent, _ = warm(state_dir)
    agent.call(acts.save_many, "run-2", 300, size=20_000)
    agent.settled(301)
    (journal,) = state_dir.journals()
    sizes = [os.stat(f"{journal}/{n}").st_size for n in os.listdir(journal) if n.endswith(".seg")]
    assert sum(sizes) <= SMALL["journal_bytes"]
    assert peek.stored_steps(state_dir.database, "run-2") == list(range(300))


def test_the_deadline_is_each_callers_own(served: Place) -> None:
    """However many tasks wait for room, each waits as long as was said, and holds no thread."""

    async def main() -> None:
        async with served.engine(**SMALL, on_full_timeout_s=0.5) as engine:
            await (await engine.save(ExecutionNode(served.run), b"first"))
            with frozen(served.pids()["writers"]):

                async def save(number: int) -> float:
                    while True:
                        began = time.monotonic()
                        try:
                            await engine.save(
                                ExecutionNode(f"{served.run} {number}"), bytes(30_000)
                            )
                        except JournalFullError:
                            return time.monotonic() - began

                waited = await asyncio.gather(*map(save, range(40)))
            assert min(waited) >= 0.5
            assert max(waited) < patience(4), "one after the other they wait for 20 s"

    asyncio.run(main())
