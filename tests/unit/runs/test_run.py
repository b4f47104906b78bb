"""Recorded programs: what is served, what is made again, what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from typing import Any, NamedTuple

import pytest

from livingai import (
    CheckpointEngine,
    NodeType,
)
from livingai.errors import (
    ConfigurationError,
    DivergenceError,
    FencedError,
    InvalidNodeError,
    RunError,
)
from tests.support.runs import Counter, Crash, new_id, nodes_of


async def test_a_crashed_run_is_resumed_and_served_its_results(engine: CheckpointEngine) -> None:
    done, run_id = Counter(), new_id()

    async def make_plan(goal: str) -> dict[str, Any]:
        return {"goal": goal, "at": done.add("plan"), "pair": (1, {2})}

    async def life(crash: bool) -> Any:
        async with engine.run(run_id) as run:
            plan = await run.step("plan", make_plan, "win")
            ticket = await run.tool("charge", done.add, amount=5)
            run.state = {"plan": plan, "ticket": ticket}
            await run.checkpoint()
            if crash:
                raise Crash
            return run.state, run.resumed

    with pytest.raises(Crash):
        await life(True)
    state = {"plan": {"goal": "win", "at": 1, "pair": (1, {2})}, "ticket": 2}
    assert await life(False) == (state, True)
    assert len(done.calls) == 2
    node, stored = await engine.latest(run_id)
    assert (node.metadata["name"], stored) == ("checkpoint", state)


def test_sync_twin(engine: CheckpointEngine) -> None:
    done, run_id = Counter(), new_id()
    for resumed in (False, True):
        with engine.run_sync(run_id) as run:
            assert run.resumed is resumed
            assert [run.step("a", done.add, i) for i in range(3)] == [1, 2, 3]
            assert run.tool("b", done.add, x=1) == 4
            assert run.branch("c", done.add) == 5
    assert len(done.calls) == 5
    kinds = [n.type for n in engine.nodes_sync(run_id) if n.metadata.get("call")]
    assert kinds == [NodeType.PROMPT] * 3 + [NodeType.TOOL, NodeType.BRANCH]


def test_state_begins_empty_and_is_found_in_restored_state(engine: CheckpointEngine) -> None:
    run_id = new_id()
    with engine.run_sync(run_id) as run:
        run.state = [1]
        assert run.checkpoint() is not None
        run.state = [1, 2]
        run.checkpoint()
    with engine.run_sync(run_id) as run:
        assert (run.state, run.restored_state) == (None, [1, 2])


def test_resume_at_the_checkpoint(engine: CheckpointEngine) -> None:
    done, run_id = Counter(), new_id()

    def life(stop: int) -> list[int]:
        with engine.run_sync(run_id, resume="checkpoint") as run:
            run.state = run.state or []
            while len(run.state) < 6:
                run.state = [*run.state, run.tool("next", done.add, len(run.state))]
                if len(run.state) == stop:
                    raise Crash  # its result is recorded, the state is not
                run.checkpoint()
            return list(run.state)

    with pytest.raises(Crash):
        life(4)
    assert life(0) == [1, 2, 3, 4, 5, 6]
    assert len(done.calls) == 6


def test_inner_checkpoint_is_no_place_to_resume(engine: CheckpointEngine) -> None:
    run_id = new_id()

    def inner(run: Any) -> None:
        run.state = 1
        run.checkpoint()

    with engine.run_sync(run_id) as run:
        run.step("outer", inner, run)
    with (
        pytest.raises(RunError, match="not recorded by the program itself"),
        engine.run_sync(run_id, resume="checkpoint"),
    ):
        pass


@pytest.mark.parametrize("what", ["name", "kind", "argument", "order", "more", "fewer"])
def test_changed_program(engine: CheckpointEngine, what: str) -> None:
    done, run_id = Counter(), new_id()
    with engine.run_sync(run_id) as run:
        run.step("plan", done.add, {"goal": "win", "deep": [1, 2, {"x": 3}]})
        run.tool("charge", done.add, amount=5)
    with pytest.raises(DivergenceError) as caught, engine.run_sync(run_id) as run:  # noqa: PT012
        if what == "order":
            run.tool("charge", done.add, amount=5)
        run.step("plan", done.add, {"goal": "win", "deep": [1, 2, {"x": 3}]})
        if what == "more":
            run.step("extra", done.add)
        if what == "kind":
            run.step("charge", done.add, amount=5)
        if what == "name":
            run.tool("charge_card", done.add, amount=5)
        if what == "argument":
            try:
                run.tool("charge", done.add, amount=6)
            except DivergenceError:
                run.tool("charge", done.add, amount=5)  # too late: the run is over
    text = str(caught.value)
    assert run_id in text
    if what == "argument":
        assert "-  amount: 5" in text
        assert "+  amount: 6" in text
    assert len(done.calls) == 2


def test_arguments_are_recorded_as_they_are_at_the_call(engine: CheckpointEngine) -> None:
    run_id = new_id()

    def spoil(items: list[int]) -> int:
        items.append(1)
        return len(items)

    for _ in range(2):
        with engine.run_sync(run_id) as run:
            assert run.step("spoil", spoil, [0]) == 2
            nan, words = float("nan"), {f"word {n}" for n in range(50)}
            assert run.step("odd", lambda *_: 1, nan, words, (1,), b"x") == 1
            assert run.step("large", len, [words] * 100) == 100
            assert run.step("client", lambda _: 2, object()) == 2
    assert nodes_of(engine, run_id, "large")[0].input["bytes"] > 16_384
    assert nodes_of(engine, run_id, "spoil")[0].input["args"] == [[0]]
    with pytest.raises(DivergenceError), engine.run_sync(run_id) as run:  # noqa: PT012
        run.step("spoil", spoil, [0])
        run.step("odd", lambda *_: 1, nan, words, (1,), b"y")


async def test_misuse(engine: CheckpointEngine) -> None:
    run = engine.run_sync(new_id())
    with pytest.raises(RunError, match="not entered"):
        run.step("a", str)
    with pytest.raises(ConfigurationError, match="unknown setting"):
        engine.run("x", resolve=None)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="'start' or 'checkpoint'"):
        engine.run("x", resume="end")  # type: ignore[arg-type]
    with run:
        with pytest.raises(ConfigurationError, match="name and a function"):
            run.step(3, "a")  # type: ignore[call-overload]
        with pytest.raises(RunError, match="asynchronous"):
            run.step("a", asyncio.sleep, 0)  # type: ignore[call-overload]
    with pytest.raises(RunError, match="entered before"), run:
        pass


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_later_run_of_a_process_fences_the_former(
    engine: CheckpointEngine, exclusive: bool
) -> None:
    run_id, done = new_id(), Counter()
    with engine.run_sync(run_id, exclusive=exclusive) as first:
        first.tool("a", done.add)
        with engine.run_sync(run_id, exclusive=exclusive) as second:
            assert second.epoch == first.epoch + 1
            for _ in range(2):
                with pytest.raises(FencedError):
                    first.tool("b", done.add)
            assert second.tool("a", done.add) == 1
            assert second.tool("b", done.add) == 2
    assert len(done.calls) == 2


def test_asynchronous_function_in_a_run_without_a_loop(engine: CheckpointEngine) -> None:
    """Refused before its intent is recorded: it is not in doubt."""
    run_id = new_id()

    async def charge() -> None:
        raise AssertionError("called")

    with pytest.raises(RunError, match="asynchronous"), engine.run_sync(run_id) as run:
        run.tool("charge", charge)  # type: ignore[call-overload]
    with engine.run_sync(run_id) as run:
        assert run.tool("charge", lambda: 5) == 5


@pytest.mark.parametrize("run_id", ["", 5, None])
def test_an_invalid_run_id_is_refused(engine: CheckpointEngine, run_id: Any) -> None:
    with pytest.raises(InvalidNodeError, match="a run's id must be a non-empty string"):
        engine.run(run_id)


def test_run_inside_of_another_runs_step(engine: CheckpointEngine) -> None:
    """Calls of the outer run count where it is, not where the inner one is."""
    outer_id, done = new_id(), Counter()

    def delegate(outer: Any) -> list[int]:
        with engine.run_sync(f"{outer_id}/inner") as inner:
            return [inner.step("a", done.add), outer.step("b", done.add)]

    for _ in range(2):
        with engine.run_sync(outer_id) as outer:
            assert outer.step("delegate", delegate, outer) == [1, 2]
            assert outer.step("c", done.add) == 3
    assert nodes_of(engine, outer_id, "b")[0].metadata["call"] == "0.0"
    assert len(done.calls) == 3


@dataclasses.dataclass
class Order:
    amount: int
    client: object = dataclasses.field(default_factory=object, compare=False)


class Speed(enum.Enum):
    SLOW = 1
    FAST = 2


class Place(NamedTuple):
    street: str


@pytest.mark.parametrize("what", ["nothing", "order", "speed", "place", "nested"])
def test_objects_as_arguments(engine: CheckpointEngine, what: str) -> None:
    """Objects cannot be encoded, but compared as far as they declare what they are made of."""
    run_id = new_id()

    def life(amount: int, speed: Speed, street: str, nested: int) -> int:
        with engine.run_sync(run_id) as run:
            return run.tool(
                "ship", lambda *_, **__: 1, Order(amount), speed, Place(street),
                deep={"orders": [Order(nested)], "self": object()},
            )  # fmt: skip

    assert life(5, Speed.SLOW, "Elm", 1) == 1
    if what == "nothing":
        assert life(5, Speed.SLOW, "Elm", 1) == 1
        return
    with pytest.raises(DivergenceError, match=r"(?s)\n-.*\n\+"):
        life(
            6 if what == "order" else 5,
            Speed.FAST if what == "speed" else Speed.SLOW,
            "Oak" if what == "place" else "Elm",
            2 if what == "nested" else 1,
        )


def test_a_state_changed_inside_of_a_step_is_warned_of(
    engine: CheckpointEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A step that changes the state changes nothing when it is served; that is logged."""
    run_id = new_id()

    def life() -> Any:
        with engine.run_sync(run_id) as run:
            run.state = {"notes": []}
            run.step("hidden", lambda: run.state["notes"].append("x"))
            run.checkpoint()
            return run.state, run.restored_state

    assert life() == ({"notes": ["x"]}, None)
    assert caplog.messages == []
    assert life() == ({"notes": []}, {"notes": ["x"]})
    assert "state.notes[0]: 'x' -> (nothing)" in caplog.text
