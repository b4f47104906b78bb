"""Replay of a real program: what is served, made and refused, call by call, in each mode."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode, ReplaySession, Run, Status, SyncRun
from livingai.errors import (
    ConfigurationError,
    ConsentRequiredError,
    FunctionMissingError,
    NotRecordedError,
    ReplayDivergedError,
    ResultEncodingError,
    StillBeingWrittenError,
)
from livingai.runs.decorators import step, tool
from tests.support.place import Place
from tests.support.records import rows_of


@pytest.fixture
def called() -> list[str]:
    """What was really called."""
    return []


class Agent:
    """plan, sub (look inside, think inside), two looks at once, a failing step, pay, end."""

    def __init__(self, called: list[str], *, tip: int = 0, extra: bool = False) -> None:
        self.called, self.tip, self.extra = called, tip, extra
        self.failure: Any = None

    def think(self, about: Any) -> str:
        self.called.append("think")
        return f"thought {about}"

    def look(self, where: str) -> dict[str, Any]:
        self.called.append("look")
        return {"where": where, "size": len(where)}

    def pay(self, amount: int) -> dict[str, Any]:
        self.called.append("pay")
        return {"paid": amount}

    def fail(self) -> None:
        self.called.append("fail")
        raise LookupError("nothing there")

    async def sub(self, run: Run, what: str) -> Any:
        found = await run.tool("look", self.look, what)
        return await run.step("think", self.think, found["size"])

    async def __call__(self, run: Run) -> Any:
        if self.extra:
            await run.step("extra", self.think, "extra")
        plan = await run.step("plan", self.think, "goal")
        part = await run.step("sub", self.sub, run, plan)
        using = run.using(idempotent=True)
        seen = await asyncio.gather(*(using.tool("see", self.look, at) for at in ("a", "bb")))
        try:
            await run.step("fail", self.fail)
        except LookupError as error:
            self.failure = error.args
        paid = await run.tool("pay", self.pay, amount=seen[1]["size"] + self.tip)
        run.state = {"part": part, "paid": paid}
        await run.checkpoint()
        return await run.step("end", self.think, "end")


async def record(engine: CheckpointEngine, called: list[str]) -> dict[str, ExecutionNode]:
    async with engine.run("run-1") as run:
        await Agent(called)(run)
    await engine.flush()
    called.clear()
    return {str(node.metadata["name"]): node for node in await engine.nodes("run-1")}


async def test_mock_tools_of_an_unchanged_program(
    state_dir: Place, engine: CheckpointEngine, called: list[str]
) -> None:
    await record(engine, called)
    before = rows_of(state_dir.database, "run-1")
    result = await ReplaySession(engine, "run-1").run(Agent(called))
    assert result.same, result.report()
    assert result.counts["same"] == len(result.nodes) == 10
    assert called == ["think", "think", "fail", "think"]
    assert result.output == "thought end"
    assert result.state == {"part": "thought 12", "paid": {"paid": 2}}
    nodes = await engine.nodes(result.execution_id)
    assert {n.metadata["parent_execution"] for n in nodes if n.type != "memory"} == {"run-1"}
    assert nodes[0].metadata["parent_execution"] == "run-1"
    # A replay is a record itself, and can be replayed.
    again = await ReplaySession(engine, result.execution_id).run(Agent(called))
    assert again.same, again.report()
    await engine.flush()
    assert rows_of(state_dir.database, "run-1") == before


async def test_changed_arguments_are_served_and_reported(
    engine: CheckpointEngine, called: list[str]
) -> None:
    await record(engine, called)
    session = ReplaySession(engine, "run-1")
    result = await session.run(Agent(called, tip=10))
    assert "pay" not in called
    (pay,) = result.diverged
    assert (pay.name, pay.change, pay.how) == ("pay", "changed", "served")
    assert "input.kwargs.amount: 2 -> 12" in result.report()
    with pytest.raises(ReplayDivergedError, match="2 -> 12"):
        await session.run(Agent(called, tip=10), strict=True)


async def test_an_extra_call_does_not_change_the_results_of_the_others(
    engine: CheckpointEngine, called: list[str]
) -> None:
    await record(engine, called)
    result = await ReplaySession(engine, "run-1").run(Agent(called, extra=True))
    assert {"look", "pay"}.isdisjoint(called)
    assert [(one.name, one.change) for one in result.diverged] == [("extra", "new")]


async def test_what_is_not_recorded_is_not_mocked(
    engine: CheckpointEngine, called: list[str]
) -> None:
    await record(engine, called)

    async def other(run: Run) -> None:
        await run.step("plan", Agent(called).think, "goal")
        for _ in range(2):  # the program lets it pass: it gets it again
            with suppress(NotRecordedError):
                await run.tool("wipe", Agent(called).pay, 1)

    session = ReplaySession(engine, "run-1")
    result = await session.run(other)
    assert "pay" not in called
    assert result.error is not None
    assert result.error.type == "NotRecordedError"
    assert result.counts == {"same": 1, "changed": 0, "new": 0, "missing": 9}
    await session.run(other, allow_side_effects=True)
    assert called.count("pay") == 2


async def test_counterfactual_runs_what_depends_on_it(
    state_dir: Place, engine: CheckpointEngine, called: list[str]
) -> None:
    recorded = await record(engine, called)
    before = rows_of(state_dir.database, "run-1")
    session = ReplaySession(engine, "run-1")
    other = {"where": "x", "size": 99}
    how: dict[str, Any] = {"mode": "counterfactual", "node_id": recorded["look"].id}
    result = await session.run(Agent(called), **how, overrides={"output": other})
    assert called == ["think"], "the one inside of sub; all else is served"
    assert result.state == {"part": "thought 99", "paid": {"paid": 2}}
    assert [one.name for one in result.diverged] == ["sub", "look", "think"]
    assert [str(one) for one in result.state_differences] == [
        "state.part: 'thought 12' -> 'thought 99'"
    ]
    called.clear()
    same = await session.run(Agent(called), **how, overrides={"output": recorded["look"].output})
    assert same.same, same.report()
    assert called == []
    await engine.flush()
    assert rows_of(state_dir.database, "run-1") == before


async def test_counterfactual_input(engine: CheckpointEngine, called: list[str]) -> None:
    recorded = await record(engine, called)
    session = ReplaySession(engine, "run-1")
    how: dict[str, Any] = {
        "mode": "counterfactual", "node_id": recorded["pay"].id,
        "overrides": {"input": {"args": [], "kwargs": {"amount": 7}}},
    }  # fmt: skip
    with pytest.raises(ConsentRequiredError, match="'pay'"):
        await session.run(Agent(called), **how)
    assert called == []
    result = await session.run(Agent(called), **how, allow_side_effects=True)
    assert called == ["pay"]
    assert result.state["paid"] == {"paid": 7}
    with pytest.raises(ConfigurationError, match="the input of a recorded call must be"):
        await session.run(Agent(called), **{**how, "overrides": {"input": 7}})


async def test_counterfactual_asks_before_a_tool_with_other_arguments(
    engine: CheckpointEngine, called: list[str]
) -> None:
    """Even if the program lets the error pass."""
    await record(engine, called)
    seen = [n for n in await engine.nodes("run-1") if n.metadata.get("name") == "see"][1]

    async def careless(run: Run) -> None:
        with suppress(ConsentRequiredError):
            await Agent(called)(run)

    with pytest.raises(ConsentRequiredError, match="'pay'"):
        await ReplaySession(engine, "run-1").run(
            careless, mode="counterfactual", node_id=seen.id,
            overrides={"output": {"where": "bb", "size": 500}},
        )  # fmt: skip
    assert "pay" not in called


async def test_full(engine: CheckpointEngine, called: list[str]) -> None:
    await record(engine, called)
    session = ReplaySession(engine, "run-1")
    with pytest.raises(ConsentRequiredError, match="FULL of 'run-1' would really call"):
        await session.run(Agent(called), mode="full")
    assert called == []
    result = await session.run(Agent(called), mode="full", allow_side_effects=True)
    assert result.same, result.report()
    assert called.count("look") == 3
    assert called.count("pay") == 1


async def test_from_node(engine: CheckpointEngine, called: list[str]) -> None:
    recorded = await record(engine, called)
    session = ReplaySession(engine, "run-1")
    agent_of = Agent(called)
    result = await session.run(agent_of, mode="from_node", node_id=recorded["fail"].id)
    assert agent_of.failure == ("nothing there",)
    assert result.same, result.report()
    assert called == ["fail", "think"], "pay is served without consent"
    called.clear()
    seen: list[Any] = []

    async def agent(run: Run) -> None:
        seen.append((run.restored_state, run.resumed))
        await Agent(called)(run)

    await session.run(agent, mode="from_node", node_id=recorded["end"].id)
    assert called == ["think"]
    assert seen == [({"part": "thought 12", "paid": {"paid": 2}}, True)]
    called.clear()
    await session.run(
        Agent(called), mode="from_node", node_id=recorded["pay"].id, allow_side_effects=True
    )
    assert called == ["pay", "think"]
    called.clear()
    inside = await session.run(Agent(called), mode="from_node", node_id=recorded["think"].id)
    assert inside.same, "what is inside of a call is reached though the call began before"
    assert called == ["think", "look", "look", "fail", "think"], "idempotent tools run again"


def test_sync_programs_decorators_and_threads(engine: CheckpointEngine, called: list[str]) -> None:
    @tool
    def charge(amount: int) -> int:
        called.append("charge")
        return amount

    @step
    def price() -> int:
        called.append("price")
        return 5

    def program() -> int:
        return charge(price())

    with engine.run_sync("run-1"):
        assert program() == 5
    called.clear()
    session = ReplaySession(engine, "run-1")
    assert session.run_sync(program).same
    assert asyncio.run(session.run(program)).same, "a plain program runs in a thread"
    assert called == ["price", "price"]

    async def asynchronous(run: Run) -> None:
        pass

    with pytest.raises(ConfigurationError, match="await"):
        session.run_sync(asynchronous)


def test_functions_by_name(engine: CheckpointEngine, called: list[str]) -> None:
    """Over the recorded graph, each node's function is called as it was called then."""
    agent = Agent(called)
    with engine.run_sync("run-1") as run:
        run.step("plan", agent.think, "goal")
        run.tool("pay", agent.pay, amount=3)
        run.step("large", agent.think, "x" * 20_000)
    called.clear()
    session = ReplaySession(engine, "run-1")
    with pytest.raises(FunctionMissingError, match="calls of large, plan"):
        session.run_sync({"pay": agent.pay}, new_id="mine")
    result = session.run_sync({"plan": agent.think, "large": agent.think})
    assert [one.change for one in result.nodes] == ["same", "same", "changed"]
    assert "too large to be recorded whole" in result.report()
    assert called == ["think"]


def test_a_program_that_raises(
    state_dir: Place, engine: CheckpointEngine, called: list[str]
) -> None:
    def program(run: SyncRun) -> None:
        run.step("plan", Agent(called).think, "goal")
        raise LookupError("lost")

    with pytest.raises(LookupError), engine.run_sync("run-1") as run:
        program(run)
    engine.flush_sync()
    before = rows_of(state_dir.database, "run-1")
    session = ReplaySession(engine, "run-1")
    result = session.run_sync(program)
    assert result.error is not None
    assert result.error_recorded
    assert result.same, "it ended as it had ended"

    def other(run: SyncRun) -> None:
        run.step("plan", Agent(called).think, "goal")
        raise ValueError("lost")

    result = session.run_sync(other)
    assert not result.same
    assert "ValueError: lost" in result.report()
    life = engine.nodes_sync(result.execution_id)[0]
    assert life.status is Status.FAILED
    engine.flush_sync()
    assert rows_of(state_dir.database, "run-1") == before


def test_a_result_that_cannot_be_encoded(engine: CheckpointEngine) -> None:
    with engine.run_sync("run-1") as run:
        run.step("plan", lambda: 1)
    with pytest.raises(ResultEncodingError):
        ReplaySession(engine, "run-1").run_sync(lambda run: run.step("plan", object))


def test_in_doubt_is_not_served(state_dir: Place, engine: CheckpointEngine) -> None:
    """A process died inside a tool; a replay of what it left has nothing to serve there."""

    def program(run: SyncRun) -> None:
        run.step("plan", lambda: 1)
        run.tool("die", os._exit, 0)

    pid = os.fork()
    if pid == 0:
        with state_dir.engine() as own, own.run_sync("run-1") as run:
            program(run)
    assert os.waitpid(pid, 0)[1] == 0
    result = ReplaySession(engine, "run-1").run_sync(program)
    assert result.error is not None
    assert "in doubt" in result.error.message


def test_a_run_that_is_under_way(engine: CheckpointEngine) -> None:
    with engine.run_sync("run-1") as run:
        run.step("plan", lambda: 1)
        with pytest.raises(StillBeingWrittenError):
            ReplaySession(engine, "run-1").run_sync(lambda run: run.step("plan", lambda: 1))
    assert ReplaySession(engine, "run-1").run_sync(lambda run: run.step("plan", lambda: 1)).same
