"""Exceptions of recorded calls, and results that cannot be recorded: what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    Resolution,
    Status,
)
from livingai.errors import (
    ConfigurationError,
    InDoubtError,
    JournalFullError,
    RecordedError,
    ResultEncodingError,
    StoreUnavailableError,
)
from tests.support.runs import Counter, Crash, new_id, nodes_of


async def test_nested_steps(engine: CheckpointEngine) -> None:
    done, run_id = Counter(), new_id()

    async def life(crash: bool) -> Any:
        async def outer(n: int) -> list[Any]:
            got = [await run.tool("inner", done.later, i) for i in range(n)]
            if crash:
                raise Crash
            return [*got, await asyncio.gather(run.step("x", done.later, "x"))]

        async with engine.run(run_id) as run:
            return await run.step("outer", outer, 2)

    with pytest.raises(Crash):
        await life(True)
    assert await life(False) == [0, 1, ["x"]]
    assert await life(False) == [0, 1, ["x"]]
    assert done.calls == [0, 1, "x"]
    nodes = await engine.nodes(run_id)
    by_name = {node.metadata["name"]: node for node in nodes}
    assert by_name["inner"].parent_id == by_name["outer"].id
    assert by_name["outer"].status is Status.SUCCESS


class CardDeclined(Exception):
    """An exception with a constructor of its own."""

    def __init__(self, code: int, card: str) -> None:
        super().__init__(f"card {card} declined")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [ValueError("no", 3), KeyError("k"), FileNotFoundError(2, "none"), CardDeclined(51, "x"),
     UnicodeDecodeError("utf-8", b"a", 0, 1, "why"), ZeroDivisionError()],
)  # fmt: skip
def test_exceptions_come_back(engine: CheckpointEngine, error: Exception) -> None:
    done, run_id = Counter(), new_id()

    def fails() -> None:
        done.add()
        raise error

    for _ in range(2):
        with engine.run_sync(run_id) as run:
            for name in ("a", "b"):
                with pytest.raises(type(error)) as caught:
                    (run.step if name == "a" else run.tool)(name, fails)
                assert caught.value.args == error.args
                assert str(caught.value) == str(error)
                assert getattr(caught.value, "code", 0) == getattr(error, "code", 0)
    assert len(done.calls) == 2
    assert nodes_of(engine, run_id, "b")[0].status is Status.FAILED


def test_exception_of_a_type_that_is_gone(engine: CheckpointEngine) -> None:
    run_id = new_id()

    def fails() -> None:
        raise type("Gone", (Exception,), {})("lost")

    with pytest.raises(Exception, match="lost"), engine.run_sync(run_id) as run:
        run.tool("a", fails)
    with pytest.raises(RecordedError, match="Gone: lost"), engine.run_sync(run_id) as run:
        run.tool("a", fails)
    assert [n.status for n in nodes_of(engine, run_id, "run")] == [Status.FAILED] * 2


def test_failed_steps_are_made_again_on_request(engine: CheckpointEngine) -> None:
    run_id, broken = new_id(), [True]

    def work() -> int:
        if broken:
            raise OSError("down")
        return 7

    for retry_failed in (False, True):
        with pytest.raises(OSError, match="down"), engine.run_sync(run_id) as run:
            run.step("a", work)
        broken.clear()
        if retry_failed:
            with engine.run_sync(run_id, retry_failed=True) as run:
                assert run.step("a", work) == 7


def test_result_that_cannot_be_recorded(engine: CheckpointEngine) -> None:
    calls, run_id = Counter(), new_id()

    def bad() -> Any:
        calls.add()
        return {"deep": [object()]}

    for _ in range(2):
        with (
            pytest.raises(ResultEncodingError, match=r"'bad' \(builtins.dict\).*deep"),
            engine.run_sync(run_id) as run,
        ):
            run.tool("bad", bad)
    assert len(calls.calls) == 1, "a tool whose result was lost was called again"
    (node,) = nodes_of(engine, run_id, "bad")
    assert node.status is Status.FAILED
    assert node.error is not None
    assert node.error.type == "ResultEncodingError"
    with pytest.raises(ResultEncodingError), engine.run_sync(new_id()) as run:
        run.step("bad", bad)


def test_repaired_step_goes_on(engine: CheckpointEngine) -> None:
    run_id = new_id()
    with pytest.raises(ResultEncodingError), engine.run_sync(run_id) as run:
        run.step("bad", object)  # type: ignore[call-overload]
    with engine.run_sync(run_id) as run:
        assert run.step("bad", lambda: "plain") == "plain"


def test_exception_groups_come_back(engine: CheckpointEngine) -> None:
    run_id, handled = new_id(), Counter()

    def fails() -> None:
        inner = ExceptionGroup("inner", [CardDeclined(51, "x"), OSError(2, "none")])
        raise ExceptionGroup("several", [ValueError("v"), inner])

    for _ in range(2):
        with engine.run_sync(run_id) as run:
            try:
                run.step("fails", fails)
            except* CardDeclined as group:
                (inner,) = group.exceptions
                assert isinstance(inner, ExceptionGroup)
                handled.add(inner.exceptions[0].code)  # type: ignore[union-attr]
            except* (OSError, ValueError) as group:
                handled.add(str(group))
    assert handled.calls[:2] == handled.calls[2:]
    assert len(handled.calls) == 4


def test_exception_with_something_that_cannot_be_kept(engine: CheckpointEngine) -> None:
    """As errors of web clients have it: the response is lost, the rest is there."""
    run_id = new_id()

    def fails() -> None:
        error = CardDeclined(503, "x")
        error.response = object()  # type: ignore[attr-defined]
        raise error

    for _ in range(2):
        with engine.run_sync(run_id) as run, pytest.raises(CardDeclined) as caught:
            run.tool("fails", fails)
        assert caught.value.code == 503
    assert not hasattr(caught.value, "response")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_exceptions_that_are_hard_to_record(engine: CheckpointEngine) -> None:
    """The tool has its outcome all the same; else it would be in doubt, though it is not."""
    run_id, calls = new_id(), Counter()

    def fails(error: Exception) -> None:
        calls.add()
        raise error

    with pytest.raises(ValueError, match="xxx"), engine.run_sync(run_id) as run:  # noqa: PT012
        with pytest.raises(Unspeakable):
            run.tool("unspeakable", lambda: fails(Unspeakable()))
        run.tool("huge", lambda: fails(ValueError("x" * (engine.config.max_state_bytes + 1))))
    with pytest.raises(ValueError, match=r"xxx.*characters in all"), engine.run_sync(run_id) as run:  # noqa: PT012
        with pytest.raises(RecordedError, match="RuntimeError"):
            run.tool("unspeakable", lambda: fails(Unspeakable()))
        run.tool("huge", lambda: fails(ValueError("x")))
    assert len(calls.calls) == 2


@pytest.mark.parametrize("error", [StoreUnavailableError, JournalFullError, ConfigurationError])
def test_errors_of_the_recording_are_no_outcome(
    engine: CheckpointEngine, error: type[Exception]
) -> None:
    """They are about the record, not about the work: nothing is recorded of the call that they
    leave through, it is not tried again, and the next life makes it."""
    run_id, calls = new_id(), Counter()

    def works() -> int:
        if calls.add() <= 2:
            raise error("away")
        return 7

    with engine.run_sync(run_id) as run:
        with pytest.raises(error, match="away"):
            run.using(retries=3).step("a step", works)
        with pytest.raises(error, match="away"):
            run.tool("a tool", works)
    assert len(calls.calls) == 2
    assert Status.FAILED not in {node.status for node in engine.nodes_sync(run_id)}
    with engine.run_sync(run_id) as run:
        assert run.step("a step", works) == 7
        with pytest.raises(InDoubtError):
            run.tool("a tool", works)
    assert len(calls.calls) == 3


def test_lost_result_is_given_by_a_resolver(engine: CheckpointEngine) -> None:
    """A tool whose result could not be recorded is not called again, but need not be the end."""
    run_id, calls = new_id(), Counter()

    def life(result: Any, **settings: Any) -> object:
        with engine.run_sync(run_id, **settings) as run:
            return run.tool("pay", lambda: calls.add() and result)

    with pytest.raises(ResultEncodingError) as caught:
        life(object())
    assert "resolver" in "".join(caught.value.__notes__)
    for resolver in (None, lambda _: None):
        with pytest.raises(ResultEncodingError):
            life("repaired", resolver=resolver)
    assert life("repaired", resolver=lambda _: Resolution.done("receipt 1")) == "receipt 1"
    assert life("repaired") == "receipt 1"
    assert len(calls.calls) == 1
