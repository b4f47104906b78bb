"""What is asked and recorded around a call, in which order and how safely: the order is the
guarantee.

The engine is a real one that also takes down what a run asks of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    Durability,
    ExecutionNode,
    NodeType,
    RecoveryEngine,
    Resolution,
    SQLiteStore,
    Status,
)
from livingai.errors import InDoubtError
from livingai.runs.ports import ClaimState
from tests.support.agents import engine_settings
from tests.support.runs import Crash, new_id

#: That the owner is asked whether it is one still.
ASK = "ask"


class TracedEngine(CheckpointEngine):
    """Takes down what runs ask of it."""

    trace: list[str]

    def _saved(self, node: ExecutionNode, state: Any, durability: Durability | None) -> None:
        name = str(node.metadata.get("name"))
        level = "" if durability is None else f" {durability.name}"
        self.trace.append(f"{name} {node.status}{level}{'' if state is None else ' +state'}")

    async def save(self, node: ExecutionNode, state: Any = None, **options: Any) -> Any:
        self._saved(node, state, options.get("durability"))
        return await super().save(node, state, **options)

    def save_sync(self, node: ExecutionNode, state: Any = None, **options: Any) -> Any:
        self._saved(node, state, options.get("durability"))
        return super().save_sync(node, state, **options)

    async def history(self, execution_id: str, **options: Any) -> Any:
        self.trace.append("read")
        return await super().history(execution_id, **options)

    def history_sync(self, execution_id: str, **options: Any) -> Any:
        self.trace.append("read")
        return super().history_sync(execution_id, **options)

    async def confirm_claim(self, execution_id: str, claim: str) -> int:
        self.trace.append("store")
        return await super().confirm_claim(execution_id, claim)

    def confirm_claim_sync(self, execution_id: str, claim: str) -> int:
        self.trace.append("store")
        return super().confirm_claim_sync(execution_id, claim)

    def new_claim(self, execution_id: str) -> Any:
        self.trace.append("claim")
        return super().new_claim(execution_id)

    def others_enter(self, execution_id: str) -> bool:
        self.trace.append("others?")
        return super().others_enter(execution_id)

    def claim_state(self, execution_id: str, owned: Any) -> ClaimState:
        self.trace.append(ASK)
        return super().claim_state(execution_id, owned)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedEngine]:
    folder = tmp_path_factory.mktemp("order")
    with TracedEngine(SQLiteStore(folder / "runs.db"), **engine_settings()) as engine:
        engine.trace = []
        yield engine


ENTER = ["claim", "others?", "run pending", "store", ASK, "read"]
BEGIN = [*ENTER, "run running"]
END = [ASK, "run success"]
STEP = [ASK, "called", ASK, "it success"]
TOOL = [ASK, "it running FSYNC", ASK, "called", ASK, "it success"]


def fails(trace: list[str], times: int = 1) -> Callable[[], int]:
    def function() -> int:
        trace.append("called")
        if trace.count("called") <= times:
            raise ValueError("not now")
        return 1

    return function


def checkpoint(run: Any, trace: list[str]) -> None:
    run.state = {"step": 1}
    run.checkpoint()


def failing(kind: str) -> Callable[[Any, list[str]], None]:
    def program(run: Any, trace: list[str]) -> None:
        with suppress(ValueError):
            getattr(run, kind)("it", fails(trace))

    return program


def nested(run: Any, trace: list[str]) -> None:
    run.step("outer", lambda: run.tool("it", trace.append, "called"))


PROGRAMS: dict[str, tuple[Callable[[Any, list[str]], Any], list[str]]] = {
    "step": (lambda run, trace: run.step("it", fails(trace, 0)), STEP),
    "branch": (lambda run, trace: run.branch("it", fails(trace, 0)), STEP),
    "tool": (lambda run, trace: run.tool("it", fails(trace, 0)), TOOL),
    "idempotent tool": (
        lambda run, trace: run.using(idempotent=True).tool("it", fails(trace, 0)), STEP,
    ),
    "step that fails": (failing("step"), [*STEP[:-1], "it failed"]),
    "tool that fails": (failing("tool"), [*TOOL[:-1], "it failed"]),
    "checkpoint": (checkpoint, [ASK, "checkpoint success +state"]),
    "tool in a step": (
        nested,
        [ASK, ASK, "outer running", "it running FSYNC", ASK, "called", ASK, "it success", ASK,
         "outer success"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("program", "expected"), PROGRAMS.values(), ids=PROGRAMS)
def test_the_order_around_a_call(
    traced: TracedEngine, program: Callable[[Any, list[str]], Any], expected: list[str]
) -> None:
    traced.trace.clear()
    with traced.run_sync(new_id()) as run:
        assert traced.trace == BEGIN
        traced.trace.clear()
        program(run, traced.trace)
        assert traced.trace == expected
        traced.trace.clear()
    assert traced.trace == END


async def test_the_order_with_an_event_loop(traced: TracedEngine) -> None:
    trace = traced.trace
    trace.clear()
    async with traced.run(new_id()) as run:
        assert trace == BEGIN
        for call, expected in ((run.step, STEP), (run.branch, STEP), (run.tool, TOOL)):
            trace.clear()
            await call("it", fails(trace, 0))
            assert trace == expected
        trace.clear()
        run.state = 1
        await run.checkpoint()
        assert trace == [ASK, "checkpoint success +state"]
        trace.clear()
    assert trace == END


def test_an_exclusive_run_stores_its_intents(traced: TracedEngine) -> None:
    with traced.run_sync(new_id(), exclusive=True) as run:
        traced.trace.clear()
        run.tool("it", fails(traced.trace, 0))
        assert traced.trace == [ASK, "it running STORE", *TOOL[2:]]


class ContestedEngine(TracedEngine):
    """Another process is in the middle of entering each run."""

    def others_enter(self, execution_id: str) -> bool:
        super().others_enter(execution_id)
        return True


def test_a_contested_run_stores_its_intents(traced: TracedEngine) -> None:
    database = traced.store.path  # type: ignore[attr-defined]
    with ContestedEngine(SQLiteStore(database), **engine_settings()) as engine:
        engine.trace = []
        with engine.run_sync(new_id()) as run:
            engine.trace.clear()
            run.tool("it", fails(engine.trace, 0))
            assert engine.trace == [ASK, "it running STORE", *TOOL[2:]]


def test_attempts(traced: TracedEngine) -> None:
    """Asked before each is counted, and again after a pause; each after the first is announced."""
    trace = traced.trace
    with traced.run_sync(new_id()) as run:
        trace.clear()
        run.using(retries=2, backoff_s=0.001).step("it", fails(trace))
        assert trace == [ASK, "called", ASK, ASK, "it running", "called", ASK, "it success"]
        trace.clear()
        run.using(retries=1, retry_on=(ValueError,)).tool("it", fails(trace))
        assert trace == [
            ASK, "it running FSYNC", ASK, "called", ASK, "it running FSYNC", ASK, "called", ASK,
            "it success",
        ]  # fmt: skip


def in_doubt(engine: TracedEngine) -> str:
    run_id = new_id()

    def die() -> None:
        raise Crash

    run = engine.run_sync(run_id)
    with suppress(Crash), run:
        try:
            run.tool("it", die)
        finally:
            run._owner._pid = 0  # as a forked child, it records no end
    return run_id


ANSWERS = {
    "done": (Resolution.done(1), ["it success"]),
    "fail": (Resolution.fail("no"), ["it failed"]),
    "retry": (Resolution.retry(), TOOL[1:]),
    "nothing": (None, []),
}


@pytest.mark.parametrize(("answer", "recorded"), ANSWERS.values(), ids=ANSWERS)
def test_a_tool_in_doubt(
    traced: TracedEngine, answer: Resolution | None, recorded: list[str]
) -> None:
    """A person may have been asked, for hours: the owner is asked again before that is recorded."""
    trace = traced.trace
    run_id = in_doubt(traced)

    def decide(node: ExecutionNode) -> Resolution | None:
        trace.append("decided")
        return answer

    trace.clear()
    with suppress(InDoubtError, RuntimeError), traced.run_sync(run_id, resolver=decide) as run:
        assert trace == ENTER
        trace.clear()
        with suppress(RuntimeError):
            run.tool("it", fails(trace, 0))
        assert trace == [ASK, "run running", "decided", ASK, *recorded]


def test_what_is_served_is_not_recorded(traced: TracedEngine) -> None:
    trace, run_id = traced.trace, new_id()
    for life in range(2):
        trace.clear()
        with traced.run_sync(run_id) as run:
            trace.clear()
            run.step("it", fails(trace, 0))
            run.tool("it", fails(trace, 0))
            run.state = 1
            run.checkpoint()
            if life:
                assert trace == []
            trace.clear()


# -- recoveries -----------------------------------------------------------------------------------


def saved(engine: TracedEngine) -> str:
    run_id = new_id()
    for name, kind in (("p", NodeType.PROMPT), ("t", NodeType.TOOL)):
        engine.save_sync(ExecutionNode(run_id, kind, Status.RUNNING, metadata={"name": name}))
    return run_id


TAKEN = ["read", "claim", "others?", "recovery success", "store", ASK, "read"]


async def _recover(engine: TracedEngine, run_id: str, how: str, resolver: Any) -> Any:
    recovery = RecoveryEngine(engine)
    if how == "sync":
        return await asyncio.to_thread(recovery.recover_sync, run_id, resolver=resolver)
    return await recovery.recover(run_id, resolver=resolver)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize(("answer", "recorded"), ANSWERS.values(), ids=ANSWERS)
async def test_a_recovery_claims_before_it_reads_what_it_decides_by(
    traced: TracedEngine, how: str, answer: Resolution | None, recorded: list[str]
) -> None:
    """Its first look only asks whether there is anything. A tool's result that its former owner
    records between the two is in the plan."""
    trace = traced.trace
    run_id = await asyncio.to_thread(saved, traced)
    trace.clear()

    def decide(node: ExecutionNode) -> Resolution | None:
        trace.append("decided")
        return answer

    with suppress(InDoubtError):
        await _recover(traced, run_id, how, decide)
    said = {"retry": [], "nothing": []}.get(
        "" if answer is None else answer.action.value,
        [each.replace("it ", "t ") for each in recorded] if answer else [],
    )
    assert trace == [*TAKEN, "decided", ASK, "store", ASK, *said]


def test_a_result_that_is_recorded_before_the_claim_is_in_the_plan(traced: TracedEngine) -> None:
    run_id = saved(traced)
    (node,) = [each for each in traced.nodes_sync(run_id) if each.type is NodeType.TOOL]
    recovery = RecoveryEngine(traced)

    real = traced.new_claim

    def claim(execution_id: str) -> Any:
        node.status, node.output = Status.SUCCESS, "charged"
        traced.save_sync(node)
        return real(execution_id)

    traced.new_claim = claim  # type: ignore[method-assign]
    try:
        found = recovery.recover_sync(run_id)
    finally:
        del traced.new_claim
    assert found.outputs == {node.id: "charged"}
    assert found.plan.in_doubt_nodes == ()


@pytest.mark.parametrize("failing", ["", "p", "t"])
def test_the_order_of_work_that_is_done_again(traced: TracedEngine, failing: str) -> None:
    trace, run_id = traced.trace, saved(traced)
    trace.clear()

    def handler(node: ExecutionNode) -> int:
        trace.append("called")
        if node.metadata["name"] == failing:
            raise ValueError("not now")
        return 1

    with suppress(ValueError):
        RecoveryEngine(traced).replay_sync(
            run_id, handler, resolver=lambda _: Resolution.retry()
        )  # fmt: skip
    prompt = [ASK, "called", ASK, "p success"]
    tool = [ASK, "t running FSYNC", ASK, "called", ASK, f"t {'failed' if failing else 'success'}"]
    done = {"": [*prompt, *tool], "p": prompt[:2], "t": [*prompt, *tool]}[failing]
    assert trace == [*TAKEN, ASK, "store", ASK, *done]


def test_a_resumed_run_goes_on_before_its_first_new_checkpoint(traced: TracedEngine) -> None:
    trace, run_id = traced.trace, new_id()
    with traced.run_sync(run_id) as run:
        run.step("it", int, 1)
    with traced.run_sync(run_id) as run:
        run.step("it", int, 1)
        run.state = 1
        trace.clear()
        run.checkpoint()
        assert trace == [ASK, "run running", "checkpoint success +state"]
