"""The status of a run, as its store lists it: whatever ended a life; entering without a call is no
end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    ExecutionNode,
    ReplaySession,
    SQLiteStore,
    Status,
    SyncRun,
)
from livingai.errors import DivergenceError, FencedError, InDoubtError, RunError
from livingai.runs.policy import ResumeAt
from livingai.stores.base import ExecutionInfo
from tests.support.runs import Counter, Crash, engine_in, new_id, nodes_of

_folders: list[Path] = []


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointEngine]:
    _folders.append(tmp_path_factory.mktemp("runs"))
    yield from engine_in(_folders[-1])


def info_of(engine: CheckpointEngine, run_id: str) -> ExecutionInfo:
    engine.drain_sync()
    with SQLiteStore(_folders[-1] / "runs.db") as store:
        (info,) = store.list_executions(prefix=run_id, limit=1)
    assert info.execution_id == run_id
    return info


def stands(engine: CheckpointEngine, run_id: str) -> tuple[str, str]:
    info = info_of(engine, run_id)
    return info.status, info.error


def record(engine: CheckpointEngine, run_id: str) -> list[tuple[Any, ...]]:
    """All that is recorded of a run besides its lives."""
    return [
        (node.id, node.status, node.output, node.completed_at)
        for node in engine.nodes_sync(run_id)
        if node.metadata.get("role") != "run"
    ]


def interrupted(engine: CheckpointEngine) -> str:
    """A run that crashed inside of its tool, behind a step: the tool is in doubt. What the record
    says is what a killed process leaves."""
    run_id = new_id()

    def die() -> None:
        raise Crash

    run = engine.run_sync(run_id)
    with run:
        run.step("ask", int, 1)
        with contextlib.suppress(Crash):
            run.tool("charge", die)
        run._owner._pid = 0  # as a forked child, it records no end
    return run_id


ERRORS: list[tuple[BaseException, str]] = [
    (ValueError("no such city"), "ValueError: no such city"),
    (OSError(28, "full"), "OSError: [Errno 28] full"),
    (ExceptionGroup("two", [ValueError(1)]), "ExceptionGroup: two (1 sub-exception)"),
    (FencedError("another run was"), "FencedError: another run was"),
    (DivergenceError("a\nb"), "DivergenceError: a b"),
    (RunError("x" * 1000), f"RunError: {'x' * 390}…"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (asyncio.CancelledError("enough"), "CancelledError: enough"),
    (SystemExit(3), "SystemExit: 3"),
    (GeneratorExit(), "GeneratorExit"),
    (Crash(), "Crash"),
]


@pytest.mark.parametrize(("error", "shown"), ERRORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("calls", [0, 1])
def test_every_error_that_ends_a_run_is_recorded(
    engine: CheckpointEngine, error: BaseException, shown: str, calls: int
) -> None:
    run_id = new_id()

    async def asynchronous() -> None:
        async with engine.run(run_id) as run:
            for number in range(calls):
                await run.step("ask", int, number)
            raise error

    def synchronous() -> None:
        with engine.run_sync(run_id) as run:
            for number in range(calls):
                run.step("ask", int, number)
            raise error

    for program in (synchronous, lambda: asyncio.run(asynchronous())):
        with pytest.raises(type(error)):
            program()
        info = info_of(engine, run_id)
        assert (info.status, info.error) == ("failed", shown)
        assert info.entered_at is not None
        assert info.ended_at is not None
        assert info.ended_at >= info.entered_at
    with engine.run_sync(run_id) as run:
        for number in range(calls):
            run.step("ask", int, number)
        run.state = "done"
    assert stands(engine, run_id) == ("success", "")


async def test_a_task_that_is_cancelled(engine: CheckpointEngine) -> None:
    run_id, begun = new_id(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def program() -> None:
        async with engine.run(run_id) as run:
            await run.step("wait", wait)

    task = asyncio.create_task(program())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stands, engine, run_id) == ("failed", "CancelledError")


def test_a_run_has_failed_even_if_the_program_catches_its_error(engine: CheckpointEngine) -> None:
    run_id = interrupted(engine)
    with engine.run_sync(run_id) as run:
        run.step("ask", int, 1)
        with contextlib.suppress(InDoubtError):
            run.tool("charge", int)
    status, error = stands(engine, run_id)
    assert (status, error.partition(":")[0]) == ("failed", "InDoubtError")


def test_a_run_is_running_meanwhile_and_after_a_crash(engine: CheckpointEngine) -> None:
    run_id = new_id()
    with engine.run_sync(run_id) as run:
        assert stands(engine, run_id) == ("running", "")
        run.step("ask", int, 1)
        assert stands(engine, run_id) == ("running", "")
    assert stands(engine, run_id) == ("success", "")
    assert stands(engine, interrupted(engine)) == ("running", "")


def test_a_resumed_run_is_running_from_its_first_new_call_on(engine: CheckpointEngine) -> None:
    run_id = new_id()
    with contextlib.suppress(ValueError), engine.run_sync(run_id) as run:
        run.step("ask", int, 1)
        raise ValueError("one")
    with engine.run_sync(run_id) as run:
        run.step("ask", int, 1)
        assert stands(engine, run_id) == ("failed", "ValueError: one"), "only served so far"
        assert run.step("look", lambda: stands(engine, run_id)) == ("running", "")
        assert stands(engine, run_id) == ("running", "")
    assert stands(engine, run_id) == ("success", "")


# -- to look in ------------------------------------------------------------------------------------


def finished(engine: CheckpointEngine) -> str:
    run_id = new_id()
    with engine.run_sync(run_id) as run:
        run.tool("charge", int, 5)
        run.state = {"done": True}
        run.checkpoint()
    return run_id


def failed(engine: CheckpointEngine) -> str:
    run_id = new_id()
    with contextlib.suppress(ValueError), engine.run_sync(run_id) as run:
        run.tool("charge", int, 5)
        run.state = {"done": False}
        run.checkpoint()
        raise ValueError("no")
    return run_id


@pytest.mark.parametrize("resume", ["start", "checkpoint"])
@pytest.mark.parametrize("make", [finished, failed, interrupted])
async def test_entering_a_run_without_a_call_changes_nothing(
    engine: CheckpointEngine, make: Callable[[CheckpointEngine], str], resume: ResumeAt
) -> None:
    run_id = await asyncio.to_thread(make, engine)
    before = await asyncio.to_thread(
        lambda: (
            info_of(engine, run_id).status,
            info_of(engine, run_id).error,
            record(engine, run_id),
        )
    )
    for _ in range(2):
        with engine.run_sync(run_id, resume=resume) as run:
            assert (run.state, run.restored_state) is not None
        async with engine.run(run_id, resume=resume) as again:
            assert again.in_doubt == run.in_doubt
    after = await asyncio.to_thread(
        lambda: (
            info_of(engine, run_id).status,
            info_of(engine, run_id).error,
            record(engine, run_id),
        )
    )
    assert after == before
    session = ReplaySession(engine, run_id)
    if make is not interrupted:
        result = await session.run(lambda run: run.tool("charge", int, 5), mode="mock_tools")
        assert result.nodes, "who has looked in is not still at work on it"


def test_an_error_before_the_first_call_fails_only_an_unfinished_run(
    engine: CheckpointEngine,
) -> None:
    """A finished run does not fail by that; one that is not finished may have failed to begin."""
    done, open_ = finished(engine), interrupted(engine)
    for run_id in (done, open_):
        with pytest.raises(KeyError), engine.run_sync(run_id) as run:
            raise KeyError(run.id)
    assert stands(engine, done) == ("success", "")
    assert stands(engine, open_) == ("failed", f"KeyError: {open_!r}")


def test_a_new_run_without_calls_has_ended(engine: CheckpointEngine) -> None:
    run_id = new_id()
    with engine.run_sync(run_id):
        pass
    assert stands(engine, run_id) == ("success", "")


# -- an end before the last recorded call ----------------------------------------------------------


def test_a_program_that_omits_a_recorded_tool_fails(engine: CheckpointEngine) -> None:
    """In doubt or not, and though it makes no call at all: it has a result."""
    for run_id in (finished(engine), interrupted(engine)):
        before = record(engine, run_id)
        with (
            pytest.raises(DivergenceError, match="without making the call"),
            engine.run_sync(run_id) as run,
        ):
            run.state = "a result"
        status, error = stands(engine, run_id)
        assert (status, error.partition(":")[0]) == ("failed", "DivergenceError")
        assert record(engine, run_id) == before


@pytest.mark.parametrize("where", ["task", "scope"])
async def test_omitted_tools_of_tasks_and_scopes_are_noticed(
    engine: CheckpointEngine, where: str
) -> None:
    run_id, done = new_id(), Counter()

    async def program(part: bool, kind: str) -> None:
        async with engine.run(run_id) as run:
            await run.step("plan", done.add)

            async def beat() -> None:
                await getattr(run, kind)("beat", done.later, 1)

            if not part:
                return
            if where == "task":
                await asyncio.create_task(beat())
            else:
                with run.scope("left"):
                    await beat()

    await program(True, "step")
    await program(False, "step")  # a heartbeat, say: how often it came is left to chance
    run_id = new_id()
    await program(True, "tool")
    with pytest.raises(DivergenceError, match="without making the call 'beat'"):
        await program(False, "tool")
    assert len(done.calls) == 4


def test_tools_of_scopes_before_the_checkpoint_are_not_missed(engine: CheckpointEngine) -> None:
    run_id, done = new_id(), Counter()
    for life in range(2):
        with engine.run_sync(run_id, resume="checkpoint") as run:
            run.state = run.state or {}
            if not run.state:
                with run.scope("left"):
                    run.tool("charge", done.add)
                run.state["charged"] = True
                run.checkpoint()
            run.step("tell", int, life * 0)
    assert len(done.calls) == 1
    assert stands(engine, run_id) == ("success", "")


# -- several owners --------------------------------------------------------------------------------


def test_a_fenced_process_does_not_change_the_status(engine: CheckpointEngine) -> None:
    run_id = new_id()

    def stale(end: Callable[[SyncRun], Any]) -> None:
        with engine.run_sync(run_id) as run:
            run.step("ask", int, 1)
            with engine.run_sync(run_id) as successor:
                successor.step("ask", int, 1)
            end(run)

    def fail(run: SyncRun) -> None:
        raise ValueError("zombie")

    for end, error in (
        (lambda run: run.step("ask", int, 2), FencedError),
        (fail, ValueError),
        (lambda run: None, FencedError),
    ):
        with pytest.raises(error):
            stale(end)
        assert stands(engine, run_id) == ("success", "")


def test_forks_and_replays_stand_as_they_ended(engine: CheckpointEngine) -> None:
    run_id = interrupted(engine)
    fork = new_id()
    engine.fork_sync(run_id, fork)
    assert stands(engine, fork) == ("running", "")
    source = failed(engine)
    engine.fork_sync(source, f"{source}-fork")
    assert stands(engine, f"{source}-fork") == ("failed", "ValueError: no")

    def program(run: Any) -> None:
        run.tool("charge", int, 5)

    replay = ReplaySession(engine, source).run_sync(program, mode="mock_tools")
    assert stands(engine, replay.execution_id) == ("success", "")

    def broken(run: Any) -> None:
        program(run)
        raise LookupError("here")

    replay = ReplaySession(engine, source).run_sync(broken, mode="mock_tools")
    assert stands(engine, replay.execution_id) == ("failed", "LookupError: here")


def test_plain_executions_stand_as_their_newest_node(engine: CheckpointEngine) -> None:
    run_id = new_id()
    engine.save_sync(ExecutionNode(run_id, status=Status.RUNNING))
    assert stands(engine, run_id) == ("running", "")
    engine.save_sync(ExecutionNode(run_id, status=Status.SUCCESS))
    info = info_of(engine, run_id)
    assert (info.status, info.is_run) == ("success", False)


def test_a_life_keeps_its_marks(engine: CheckpointEngine) -> None:
    """Whatever metadata a program gives it, it is a life."""
    run_id = new_id()
    with engine.run_sync(run_id, metadata={"name": "nightly", "role": "user", "tenant": 1}):
        pass
    assert info_of(engine, run_id).is_run
    (node,) = nodes_of(engine, run_id, "nightly")
    assert (node.metadata["role"], node.metadata["tenant"]) == ("run", 1)
