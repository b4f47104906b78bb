"""Mistakes that a new user makes: what is said of them names the thing and what to do."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from livingai import (
    CallOptions,
    CheckpointEngine,
    EngineConfig,
    ExecutionNode,
    ReplaySession,
    Resolution,
    Retention,
    RunSettings,
    Service,
    SQLiteStore,
    Status,
    open_store,
    step,
    tool,
)
from livingai.errors import (
    ConfigurationError,
    InvalidNodeError,
    NodeNotFoundError,
    NotAwaitedError,
    ResultEncodingError,
    StateEncodingError,
)
from tests.support.patience import patience
from tests.support.runs import Counter, Crash, new_id, nodes_of

# -- values that cannot be recorded --


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Detail:
    code: int


async def coroutine() -> int:
    return 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), (r"'x' \(builtins.object\), call 0, .*: result: cannot encode object; return "
                   r"plain values \(dict, list, str, numbers, \.\.\.\)\.")),
        ({"a": [1, object()]}, r"\(builtins.dict\).*result\.a\[1\]: cannot encode object"),
        (Colour.RED, r"test_mistakes.Colour\).*return its \.value"),
        (Detail(1), r"return dataclasses\.asdict\(\) of it"),
        ((n for n in "ab"), r"\(builtins.generator\).*return list\(\) of it"),
        ([range(3)], r"result\[0\]: cannot encode range; return list\(\) of it"),
        ({object: 1}, r"result\.keys\(\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["step", "tool", "branch"])
def test_a_result_that_cannot_be_encoded_is_named(
    engine: CheckpointEngine, kind: str, value: Any, said: str
) -> None:
    with pytest.raises(ResultEncodingError, match=said) as caught, engine.run_sync(new_id()) as run:
        getattr(run, kind)("x", lambda: value)
    assert "state" not in str(caught.value).split("plain values")[0]
    assert "The call was made." in str(caught.value)


def test_a_result_that_is_too_large(engine: CheckpointEngine) -> None:
    most = engine.config.max_state_bytes
    with pytest.raises(ResultEncodingError, match=rf"'x'.*it has {most + 5}.*return where"):  # noqa: SIM117
        with engine.run_sync(new_id()) as run:
            run.step("x", lambda: b"x" * most)


def test_states_and_nodes_that_cannot_be_encoded_are_named(engine: CheckpointEngine) -> None:
    with engine.run_sync(new_id()) as run:
        run.state = {"notes": [object()]}
        with pytest.raises(StateEncodingError, match=r"^run\.state\.notes\[0\]: cannot encode obj"):
            run.checkpoint()
        run.state = None
    for field in ("input", "output", "metadata"):
        node = ExecutionNode(new_id())
        setattr(node, field, {"a": object()})
        with pytest.raises(InvalidNodeError, match=rf"node\.{field}\.a: cannot encode object"):
            engine.save_sync(node)
    with pytest.raises(StateEncodingError, match=r"^state\.a: cannot encode object"):
        engine.save_sync(ExecutionNode(new_id()), {"a": object()})
    with pytest.raises(StateEncodingError, match=r"^tags\.a: cannot encode object"):
        engine.save_sync(ExecutionNode(new_id()), tags={"a": object()})


def test_a_resolvers_result_that_cannot_be_encoded_is_named(engine: CheckpointEngine) -> None:
    run_id = new_id()

    def crash() -> None:
        raise Crash

    with pytest.raises(Crash), engine.run_sync(run_id) as run:
        run.tool("pay", crash)
    with (
        pytest.raises(InvalidNodeError, match=r"done\(result\) for the tool 'pay'.*result: cannot"),
        engine.run_sync(run_id, resolver=lambda _: Resolution.done(object())) as run,
    ):
        run.tool("pay", crash)


# -- keywords --

#: A type checker refuses what the test gets wrong on purpose.
UNTYPED_ENGINE: Any = CheckpointEngine
UNTYPED_SERVICE: Any = Service


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda e: UNTYPED_ENGINE(e.store, bugdet=5), r"setting of CheckpointEngine: bugdet"),
        (lambda e: UNTYPED_ENGINE(e.store, bugdet=5), r"\); there are budget_ms, cache_b"),
        (lambda e: UNTYPED_ENGINE(e.store, budget=5), r"did you mean 'budget_ms'"),
        (lambda e: UNTYPED_ENGINE(e.store, xyzzy=5), r"xyzzy; there are budget_ms"),
        (lambda e: UNTYPED_SERVICE(e.store, writer=2), r"Service: writer \(did you mean 'writer"),
        (lambda e: e.run("x", resolve=None), r"of a run: resolve \(did you mean 'resolver'"),
        (lambda e: e.run_sync("x", retry=1), r"'retry_failed'"),
        (lambda e: e.run_sync("x").using(retry=1), r"of a call: retry \(did you mean 'retr"),
        (lambda e: e.run("x").using(time_out=1), r"of a call: time_out \(did you mean 'timeout'"),
        (lambda e: EngineConfig(bugdet_ms=1), r"of EngineConfig: bugdet_ms.*'budget_ms'"),  # type: ignore[call-arg]
        (lambda e: CallOptions(retrys=1), r"of a call: retrys.*'retries'"),  # type: ignore[call-arg]
        (lambda e: RunSettings(resolve=1), r"of a run: resolve.*'resolver'"),  # type: ignore[call-arg]
        (lambda e: Retention(state="x"), r"of Retention: state"),  # type: ignore[call-arg]
        (lambda e: open_store("redis://h/0?prefx=a"), r"URL: prefx; did you mean 'prefix'"),
        (lambda e: open_store("sqlite:///a.db?timeout=3"), r"takes no parameters \(timeout=3\)"),
        (lambda e: step(retrys=1), r"'retries'"),  # type: ignore[call-overload]
        (lambda e: tool(idempotend=True), r"'idempotent'"),  # type: ignore[call-overload]
        (lambda e: ReplaySession(e, "x").run_sync(print, overides={}), r"'overrides'"),  # type: ignore[call-arg]
        (lambda e: e.run("x").using(retries="3"), r"retries must be a whole number"),
        (lambda e: e.run("x").using(timeout=0), r"timeout must be a number of seconds"),
        (lambda e: e.run("x").using(retry_on=OSError), r"retry_on must be a tuple of exception"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(
    engine: CheckpointEngine, use: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        use(engine)


# -- a call that was made already, or is given no name --


def plan(goal: str = "win") -> str:
    return f"plan to {goal}"


class Agent:
    def think(self) -> str:
        return "thought"

    def __call__(self) -> str:
        return "called"


@pytest.mark.parametrize("kind", ["step", "tool", "branch"])
async def test_a_result_in_place_of_a_function_is_refused(
    engine: CheckpointEngine, kind: str
) -> None:
    with warnings.catch_warnings(), engine.run_sync(new_id()) as run:
        warnings.simplefilter("error")
        results: tuple[tuple[Any, ...], ...] = (("x", plan()), ("x", None), (plan() and 5,))
        for given in results:
            with pytest.raises(ConfigurationError, match=rf"pass f, 1 instead: run\.{kind}\("):
                getattr(run, kind)(*given)
        with pytest.raises(
            ConfigurationError, match=rf"coroutine\(\.\.\.\).*run\.{kind}\('x', coro"
        ):
            getattr(run, kind)("x", coroutine())
        for given in ((), ("x",), ("",), ("", plan)):
            with pytest.raises(ConfigurationError, match=r"takes a name and a function: run\."):
                getattr(run, kind)(*given)
        with pytest.raises(ConfigurationError, match="a lambda has no name"):
            getattr(run, kind)(lambda: 1)
        gc.collect()
    async with engine.run(new_id()) as other:
        with pytest.raises(
            ConfigurationError, match=r"run\.step\('y', \.\.\.\)\(\.\.\.\) was called"
        ):
            other.step("x", other.step("y", plan))  # type: ignore[call-overload]
        other._pending._waiting.clear()  # of the inner one, as the next test has it


async def test_a_call_without_a_name_gets_its_functions_name(engine: CheckpointEngine) -> None:
    run_id = new_id()
    for _ in range(2):
        with engine.run_sync(run_id) as run:
            assert run.step(plan, "lose") == "plan to lose"
            assert run.tool(plan, goal="x") == "plan to x"
            assert run.step(Agent().think) == "thought"
            assert run.branch(Agent()) == "called"
            assert run.step(functools.partial(plan, "y")) == "plan to y"
            assert run.step(tool(name="pay")(plan)) == "plan to win"
            assert run.using(retries=1).step(len, "abc") == 3
    names = [node.metadata["name"] for node in await engine.nodes(run_id)]
    assert names[1:8] == ["plan", "plan", "think", "Agent", "plan", "pay", "len"]
    async with engine.run(new_id()) as other:
        assert await other.step(coroutine) == 1
        assert await other.using(timeout=5).tool(plan, "win") == "plan to win"


# -- await --


@step
async def decorated() -> int:
    return 1


@pytest.mark.parametrize(
    ("forget", "said"),
    [
        (lambda run: run.step("plan", plan), (r"run\.step\('plan', \.\.\.\) was called but never "
         r"awaited, so nothing was done: write `await run\.step\('plan'")),
        (lambda run: run.tool(plan), r"run\.tool\('plan', \.\.\.\) was"),
        (lambda run: run.branch("b", plan), r"run\.branch\('b'"),
        (lambda run: run.using(retries=1).step("u", plan), r"run\.step\('u'"),
        (lambda run: run.checkpoint(), r"run\.checkpoint\(\)"),
        (lambda run: decorated(), r"decorated\(\.\.\.\)"),
        (lambda run: [run.step(f"s{n}", plan) for n in range(5)], r"'s2', .* and 2 more were"),
    ],
)  # fmt: skip
async def test_a_forgotten_await_ends_the_run_with_an_error(
    engine: CheckpointEngine, forget: Callable[[Any], Any], said: str
) -> None:
    run_id = new_id()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotAwaitedError, match=said):
            async with engine.run(run_id) as run:
                forget(run)
        gc.collect()
    assert [node.status for node in nodes_of(engine, run_id, "run")] == [Status.FAILED]
    async with engine.run(run_id) as run:  # nothing was done, so the repaired program goes on
        assert await run.step("plan", plan) == "plan to win"


@pytest.mark.parametrize("by", ["place", "name"])
async def test_an_argument_that_was_not_awaited_is_refused(
    engine: CheckpointEngine, by: str
) -> None:
    run_id = new_id()

    async def program(forget: bool) -> str:
        async with engine.run(run_id) as run:
            goal = run.step("plan", plan)
            given: Any = goal if forget else await goal
            if by == "name":
                return await run.step("plan on", plan, goal=given)
            return await run.step("plan on", plan, given)

    with pytest.raises(
        NotAwaitedError, match=r"argument of 'plan on' is run\.step\('plan', \.\.\.\)"
    ):
        await program(forget=True)
    assert await program(forget=False) == "plan to plan to win"


async def test_a_forgotten_await_is_noted_where_it_ends_the_program(
    engine: CheckpointEngine,
) -> None:
    with pytest.raises(TypeError) as caught:
        async with engine.run(new_id()) as run:
            run.step("plan", plan)["steps"]  # type: ignore[index]
    assert "write `await run.step('plan', ...)`" in caught.value.__notes__[0]


async def test_a_call_that_is_under_way_at_the_end_is_an_error(engine: CheckpointEngine) -> None:
    """As documented: a task must not outlive the run that it makes calls in."""
    run_id, begun, go_on = new_id(), asyncio.Event(), asyncio.Event()

    async def slow() -> int:
        begun.set()
        await go_on.wait()
        return 1

    async def program() -> None:
        async with engine.run(run_id) as run:
            tasks.append(asyncio.create_task(run.tool("slow", slow)))
            await begun.wait()
        raise AssertionError("the run has ended as if all was well")

    tasks: list[asyncio.Task[int]] = []
    with pytest.raises(NotAwaitedError, match=r"run\.tool\('slow'.* was still under way"):
        await program()
    assert [node.status for node in nodes_of(engine, run_id, "run")] == [Status.FAILED]
    go_on.set()
    assert await tasks[0] == 1
    async with engine.run(run_id) as run:
        assert await run.tool("slow", slow) == 1


async def test_cancelled_or_closed_calls_are_no_error(engine: CheckpointEngine) -> None:
    """Cancelled before they began, or closed: no mistake."""
    done = Counter()

    async def slow() -> int:
        await asyncio.Event().wait()
        return 1

    async with engine.run(new_id()) as run:
        task = asyncio.create_task(run.step("never", slow))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        run.step("closed", slow).close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.step("late", slow), 0.01)
        assert await asyncio.gather(run.step("a", done.add), asyncio.wait_for(
            run.tool("b", done.later, "b"), patience(30))) == [1, "b"]  # fmt: skip
        later = run.step("later", done.add)
        assert await later == 3


# -- which node is meant --


@pytest.fixture(scope="module")
def weather(engine: CheckpointEngine) -> str:
    run_id = new_id()
    with engine.run_sync(run_id) as run:
        program(run)
    return run_id


def program(run: Any) -> Any:
    run.step("plan", plan)
    run.tool("weather", lambda: "rain")
    return [run.step("say", plan, str(n)) for n in range(2)]


@pytest.mark.parametrize("node_id", ["weather", "1", None])
def test_nodes_by_name_and_path(engine: CheckpointEngine, weather: str, node_id: Any) -> None:
    session = ReplaySession(engine, weather)
    (node,) = nodes_of(engine, weather, "weather")
    overrides = {"output": "sun"} if node_id else {"weather": {"output": "sun"}}
    result = session.run_sync(program, mode="counterfactual", node_id=node_id, overrides=overrides)
    assert [each.recorded.id for each in result.nodes if each.how == "replaced"] == [node.id]  # type: ignore[union-attr]
    assert f"weather (replaced)  call 1  {node.id}" in result.report()
    result = session.run_sync(program, mode="from_node", node_id=node_id or node.id)
    assert [each.how for each in result.nodes] == ["served", "served", "run", "run"]


@pytest.mark.parametrize(
    ("node_id", "said"),
    [("say", r"2 calls 'say'; name one by its path or id: say \(2, .*say \(3, "),
     ("wether", r"name 'wether'; did you mean weather \(1, .*\)\? It has plan \(0, "),
     ("77", r"no node with the id, path or name '77'\. It has plan")],
)  # fmt: skip
def test_unknown_nodes_are_refused_with_a_hint(
    engine: CheckpointEngine, weather: str, node_id: str, said: str
) -> None:
    session = ReplaySession(engine, weather)
    with pytest.raises(NodeNotFoundError, match=said):
        session.run_sync(program, mode="from_node", node_id=node_id)
    with pytest.raises(NodeNotFoundError, match=said):
        session.run_sync(program, mode="counterfactual", overrides={node_id: {"output": 1}})


@pytest.mark.parametrize(
    ("options", "said"),
    [({"mode": "counterfactual", "overrides": {"output": 1}}, "needs node_id=.*whose output is"),
     ({"mode": "counterfactual", "overrides": {"input": {"args": []}}}, "needs node_id=.*input is"),
     ({"mode": "counterfactual", "overrides": [1]}, "overrides must be a dict such as"),
     ({"mode": "counterfactual", "overrides": {"weather": {"output": 1}, "1": {"output": 2}}},
      "two of the overrides"),
     ({"mode": "from_node"}, "needs node_id"), ({"mode": "from_node", "node_id": 3}, "not 3")],
)  # fmt: skip
def test_wrong_replay_requests_are_refused(
    engine: CheckpointEngine, weather: str, options: Any, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ReplaySession(engine, weather).run_sync(program, **options)


def test_the_service_takes_settings(tmp_path: Any) -> None:
    service = Service(SQLiteStore(str(tmp_path / "a.db")), compressors=3)
    assert service.config.compressors == 3
    with pytest.raises(ConfigurationError, match="Service takes a store"):
        Service("agent.db")  # type: ignore[arg-type]
