"""Recorded programs with tasks, threads and calls inside of calls."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
)
from livingai.errors import (
    FencedError,
    RunError,
)
from tests.support.patience import patience
from tests.support.runs import Counter, Crash, new_id, nodes_of


async def test_gather_does_not_depend_on_speed(engine: CheckpointEngine) -> None:
    run_id = new_id()

    async def life(ticks: list[int], crash: bool) -> Any:
        done = Counter()

        async def slowly(value: Any, number: int) -> Any:
            return await done.later(value, ticks[number])

        async def branch(number: int) -> list[Any]:
            first = await run.step("first", slowly, "same", number)
            return [first, await run.tool("second", slowly, f"{number}!", number)]

        async with engine.run(run_id) as run:
            got = await asyncio.gather(
                branch(0), branch(1), branch(2), run.step("direct", slowly, "d", 1)
            )
            if crash:
                raise Crash
            return got, done.calls

    with pytest.raises(Crash):
        await life([9, 0, 4], True)
    expected = [["same", "0!"], ["same", "1!"], ["same", "2!"], "d"]
    assert await life([0, 9, 2], False) == (expected, [])


async def test_tasks_that_start_tasks_first(engine: CheckpointEngine) -> None:
    """Whose calls come first does not matter, even where a task starts others before its own."""
    run_id = new_id()

    async def life(ticks: list[int], crash: bool) -> Any:
        done = Counter()

        async def leaf(name: str, number: int) -> Any:
            for _ in range(ticks[number]):
                await asyncio.sleep(0)
            return await run.tool("leaf", done.later, name)

        async def branch(name: str) -> Any:
            got = await asyncio.gather(leaf(f"{name}0", 0), leaf(f"{name}1", 1))
            return [*got, await run.step("own", done.later, name)]

        async with engine.run(run_id) as run:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(branch(name)) for name in "ab"]
            if crash:
                raise Crash
        return [task.result() for task in tasks], done.calls

    with pytest.raises(Crash):
        await life([5, 0], True)
    assert await life([0, 7], False) == ([["a0", "a1", "a"], ["b0", "b1", "b"]], [])
    assert asyncio.get_running_loop().get_task_factory() is None


async def test_two_runs_and_a_task_factory_of_the_user(engine: CheckpointEngine) -> None:
    made: list[Any] = []

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def life(name: str) -> list[int]:
        async with engine.run(name) as run:
            return await asyncio.gather(*(part(run, number) for number in range(3)))

    async def part(run: Any, number: int) -> int:
        return int(await run.step("part", int, number))

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        names = [new_id(), new_id()]
        for _ in range(2):
            assert await asyncio.gather(*map(life, names)) == [[0, 1, 2]] * 2
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(None)
    assert len(made) == 16
    paths = [n.metadata["call"] for n in nodes_of(engine, names[0], "part")]
    assert sorted(paths) == ["t0.0", "t1.0", "t2.0"]


def test_threads_need_a_name(engine: CheckpointEngine) -> None:
    done, run_id = Counter(), new_id()
    lock = threading.Lock()

    def life() -> dict[str, Any]:
        got: dict[str, Any] = {}

        def work(name: str) -> None:
            with run.scope(name):
                value = run.tool("one", done.add, name), run.step("two", str, name)
            with lock:
                got[name] = value

        with engine.run_sync(run_id) as run:
            threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            failed: list[Exception] = []

            def nameless() -> None:
                try:
                    run.step("x", str, 1)
                except RunError as error:
                    failed.append(error)

            thread = threading.Thread(target=nameless)
            thread.start()
            thread.join()
            assert "run.scope" in str(failed[0])
        return got

    assert life() == life()
    assert len(done.calls) == 3


async def test_call_that_outlives_its_step(engine: CheckpointEngine) -> None:
    left: list[asyncio.Task[Any]] = []
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        await run.step("late", str, 1)

    async def outer() -> None:
        left.append(asyncio.create_task(late()))
        await asyncio.sleep(0)

    async with engine.run(new_id()) as run:
        await run.step("outer", outer)
        go.set()
        with pytest.raises(RunError, match="has ended"):
            await left[0]


async def test_tasks_of_a_run_that_was_pushed_out_of_the_index(engine: CheckpointEngine) -> None:
    """They ask the store, and the run goes on under its claim."""
    done, run_id = Counter(), new_id()

    async def push_out() -> None:
        handle = engine.open_handle()
        with handle.lock:
            del handle.owned[run_id]  # as thousands of other executions do

    async with engine.run(run_id) as run:
        await run.step("first", done.later, 0)
        for turn in range(5):
            await push_out()
            values = [3 * turn + number for number in range(3)]
            assert values == await asyncio.gather(
                *(run.tool("charge", done.later, value) for value in values)
            )
            assert run.epoch == 1
    assert sorted(done.calls) == [0, *range(15)]


async def test_run_that_was_pushed_out_and_taken_over(engine: CheckpointEngine) -> None:
    done, run_id = Counter(), new_id()
    with pytest.raises(FencedError):  # noqa: PT012
        async with engine.run(run_id) as run:
            del engine.open_handle().owned[run_id]
            with engine.run_sync(run_id):
                pass
            del engine.open_handle().owned[run_id]
            failed = await asyncio.gather(
                *(run.tool("charge", done.later, n) for n in range(3)), return_exceptions=True
            )
            assert {type(error) for error in failed} == {FencedError}
            await run.step("more", done.later, 4)
    assert done.calls == []


def test_run_that_was_pushed_out_does_not_fence_a_later_one(engine: CheckpointEngine) -> None:
    """The later run begins while the store confirms the older one's claim."""
    done, run_id = Counter(), new_id()
    with pytest.raises(FencedError), engine.run_sync(run_id) as older:  # noqa: PT012
        older.step("first", done.add, 0)
        del engine.open_handle().owned[run_id]
        check = older._owner.check()
        next(check)
        with engine.run_sync(run_id) as later:
            later.step("first", done.add, 0)
            with pytest.raises(FencedError, match="the later run goes on"):
                check.send(older.epoch)
            later.step("second", done.add, 1)
    assert [node.status for node in nodes_of(engine, run_id, "second")] == ["success"]


def test_threads_of_a_run_that_were_pushed_out_together(engine: CheckpointEngine) -> None:
    """Many of them find out at the same time; nobody is fenced."""
    run_id = new_id()
    done = Counter()
    failed: list[Exception] = []
    with engine.run_sync(run_id) as run:
        run.step("first", str, 0)
        for turn in range(20):
            start = threading.Barrier(4)

            def work(name: str, start: threading.Barrier = start) -> None:
                try:
                    with run.scope(name):
                        start.wait(patience(60))
                        run.tool("charge", done.add, name)
                except (FencedError, threading.BrokenBarrierError) as error:
                    failed.append(error)

            del engine.open_handle().owned[run_id]
            threads = [
                threading.Thread(target=work, args=(f"{turn}-{number}",)) for number in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed
            assert run.epoch == 1
    assert len(done.calls) == 80


async def test_a_scope_across_tasks_is_the_same_from_any_task(engine: CheckpointEngine) -> None:
    """Of the program, and of a call; in the second life the tasks are others."""
    done, run_id = Counter(), new_id()

    async def life(deep: bool) -> list[int]:
        async with engine.run(run_id) as run:

            async def charge(name: str) -> int:
                with run.scope(name, across_tasks=True):
                    return await run.tool("charge", done.add, name)

            async def wrapped(name: str) -> int:
                return await asyncio.create_task(charge(name)) if deep else await charge(name)

            async def inside() -> int:
                return await asyncio.create_task(wrapped("inner"))

            return [await wrapped("one"), await wrapped("two"), await run.step("in", inside)]

    assert await life(False) == await life(True) == [1, 2, 3]
    assert [args for args, _ in done.calls] == [("one",), ("two",), ("inner",)]
    paths = [node.metadata["call"] for node in await engine.nodes(run_id)
             if node.metadata["name"] == "charge"]  # fmt: skip
    assert paths == ["(one).0", "(two).0", "0.(inner).0"]
