"""Recorded programs: what is served, what is made again, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    Durability,
    ExecutionNode,
    NodeType,
    Resolution,
    Status,
    current_run,
    step,
    tool,
)
from livingai.errors import (
    ConfigurationError,
    DivergenceError,
    FencedError,
    InDoubtError,
    RecordedError,
    ResultEncodingError,
    RunError,
)
from tests.support.runs import Crash, engine_in, new_id


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointEngine]:
    yield from engine_in(tmp_path_factory.mktemp("runs"))


class Counter:
    """Functions of a program, and how often they were called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def add(self, *args: Any, **kwargs: Any) -> int:
        self.calls.append((args, kwargs))
        return len(self.calls)

    async def later(self, value: Any, ticks: int = 0) -> Any:
        for _ in range(ticks):
            await asyncio.sleep(0)
        self.calls.append(value)
        return value


def nodes_of(engine: CheckpointEngine, run_id: str, name: str) -> list[ExecutionNode]:
    return [n for n in engine.nodes_sync(run_id) if n.metadata.get("name") == name]


# -- resume -------------------------------------------------------------------------------------


async def test_example_of_the_issue(engine: CheckpointEngine) -> None:
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


# -- concurrency --------------------------------------------------------------------------------


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


# -- nesting, exceptions ------------------------------------------------------------------------


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


# -- divergence ---------------------------------------------------------------------------------


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


def test_arguments_are_taken_down_at_the_call(engine: CheckpointEngine) -> None:
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


# -- tools in doubt -----------------------------------------------------------------------------


def crash_in_tool(engine: CheckpointEngine, run_id: str, **settings: Any) -> list[int]:
    """A run that crashes inside of its tool once; what the tool was called with."""
    calls: list[int] = []

    def charge(amount: int) -> str:
        calls.append(amount)
        if len(calls) == 1:
            raise Crash
        return "again"

    with pytest.raises(Crash), engine.run_sync(run_id) as run:
        run.tool("charge", charge, 5)
    with engine.run_sync(run_id, **settings) as run:
        calls.append(run.tool("charge", charge, 5))  # type: ignore[arg-type]
    return calls


def test_in_doubt_without_a_resolver(engine: CheckpointEngine) -> None:
    run_id = new_id()
    for _ in range(2):
        with pytest.raises(InDoubtError, match="charge") as caught:
            crash_in_tool(engine, run_id)
        (node,) = nodes_of(engine, run_id, "charge")
        assert caught.value.node_ids == (node.id,)
        assert node.status is Status.RUNNING
        run_id = new_id()


def test_in_doubt_is_decided_once(engine: CheckpointEngine) -> None:
    run_id, asked = new_id(), []

    def resolver(node: ExecutionNode) -> Resolution:
        asked.append(node.input)
        return Resolution.done({"receipt": "R-1"})

    assert crash_in_tool(engine, run_id, resolver=resolver) == [5, {"receipt": "R-1"}]
    with engine.run_sync(run_id) as run:
        assert run.tool("charge", lambda _: 0, 5) == {"receipt": "R-1"}
    assert asked == [{"args": [5], "kwargs": {}}]
    assert nodes_of(engine, run_id, "charge")[0].metadata["resolved"] == "done"


def test_in_doubt_resolved_to_retry_and_to_fail(engine: CheckpointEngine) -> None:
    retried = crash_in_tool(engine, new_id(), resolver=lambda _: Resolution.retry())
    assert retried == [5, 5, "again"]
    with pytest.raises(ValueError, match="gave up"):
        crash_in_tool(engine, new_id(), resolver=lambda _: Resolution.fail(ValueError("gave up")))
    with pytest.raises(InDoubtError):
        crash_in_tool(engine, new_id(), resolver=lambda _: None)


async def test_asynchronous_resolver(engine: CheckpointEngine) -> None:
    run_id = new_id()

    async def charge() -> str:
        raise Crash

    async def resolver(node: ExecutionNode) -> Resolution:
        await asyncio.sleep(0)
        return Resolution.done(str(node.status))

    with pytest.raises(Crash):
        async with engine.run(run_id) as run:
            await run.tool("charge", charge)
    async with engine.run(run_id, resolver=resolver) as run:
        assert [node.metadata["name"] for node in run.in_doubt] == ["charge"]
        assert await run.tool("charge", charge) == "running"


async def test_cancelled_tool_is_in_doubt(engine: CheckpointEngine) -> None:
    run_id = new_id()

    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def life() -> None:
        async with engine.run(run_id) as run:
            await run.tool("hang", hang)

    task = asyncio.create_task(life())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(InDoubtError):
        await life()


def test_idempotent_tool_is_made_again(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    @tool(idempotent=True)
    def put(key: str) -> int:
        if calls.add(key) == 1:
            raise Crash
        return 9

    with pytest.raises(Crash), engine.run_sync(run_id):
        put("k")
    with engine.run_sync(run_id):
        assert put("k") == 9
    assert len(calls.calls) == 2


async def test_cancelled_while_the_intent_is_synced(engine: CheckpointEngine) -> None:
    """The next intent is synced all the same."""
    for _ in range(50):
        node = ExecutionNode(new_id(), NodeType.TOOL, Status.RUNNING)
        saving = asyncio.create_task(engine.save(node, durability=Durability.FSYNC))
        await asyncio.sleep(0)
        saving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saving
    async with asyncio.timeout(20):
        await engine.save(node, durability=Durability.FSYNC)


# -- results ------------------------------------------------------------------------------------


def test_result_that_cannot_be_recorded(engine: CheckpointEngine) -> None:
    calls, run_id = Counter(), new_id()

    def bad() -> object:
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
        run.step("bad", object)
    with engine.run_sync(run_id) as run:
        assert run.step("bad", lambda: "plain") == "plain"


# -- options ------------------------------------------------------------------------------------


def test_retries_are_recorded(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    def flaky() -> int:
        if calls.add() < 3:
            raise ConnectionError("busy")
        return 1

    with engine.run_sync(run_id) as run:
        assert run.using(retries=3, backoff_s=0.001).step("flaky", flaky) == 1
        with pytest.raises(ConfigurationError, match="retry_on"):
            run.using(retries=1).tool("flaky", flaky)
        with pytest.raises(ConfigurationError, match="unknown option"):
            run.using(retrys=1).step("flaky", flaky)
    (node,) = nodes_of(engine, run_id, "flaky")
    assert [a[:2] for a in node.metadata["attempts"]] == [["ConnectionError", "busy"]] * 2


def test_attempts_count_across_crashes(engine: CheckpointEngine) -> None:
    run_id, calls = new_id(), Counter()

    @tool(retries=3, retry_on=(ConnectionError,), idempotent=True)
    def flaky() -> int:
        if calls.add() == 3:
            raise Crash
        raise ConnectionError(str(len(calls.calls)))

    with pytest.raises(Crash), engine.run_sync(run_id):
        flaky()
    with pytest.raises(ConnectionError, match="5"), engine.run_sync(run_id):
        flaky()
    assert len(calls.calls) == 5  # four attempts, one of them interrupted


def test_another_attempt_is_served_what_the_last_one_did(engine: CheckpointEngine) -> None:
    charged, tries = Counter(), Counter()

    def outer() -> int:
        ticket = run.tool("charge", charged.add)
        if run.step("ask", tries.add) < 3:
            raise ConnectionError
        return ticket

    def ask_again() -> int:
        ticket = run.tool("charge", charged.add)
        run.step("unsure", unsure)
        return ticket

    def unsure() -> int:
        if tries.add() < 6:
            raise ConnectionError
        return 0

    with engine.run_sync(new_id()) as run:
        with pytest.raises(ConnectionError):  # what was recorded is served: it never gets to 3
            run.using(retries=3).step("outer", outer)
        assert len(tries.calls) == 1
        assert run.using(retries=5).step("again", ask_again) == 2
    assert len(charged.calls) == 2


async def test_timeouts(engine: CheckpointEngine) -> None:
    run_id, hold = new_id(), threading.Event()

    @step(timeout=0.01)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @tool(timeout=0.01)
    def blocks() -> None:
        hold.wait(30)

    for _ in range(2):
        async with engine.run(run_id) as run:
            with pytest.raises(TimeoutError):
                await hangs()
            with pytest.raises(TimeoutError):
                blocks()
            assert await run.using(timeout=30).step("quick", lambda: 1) == 1
    hold.set()
    statuses = {n.metadata["name"]: n.status for n in await engine.nodes(run_id)}
    assert statuses["blocks"] == statuses["hangs"] == Status.FAILED


async def test_decorated_functions(engine: CheckpointEngine) -> None:
    calls, run_id = Counter(), new_id()

    @step
    async def think(topic: str) -> str:
        calls.add(topic)
        if (run := current_run()) is not None:
            run.record_cost(tokens=7)
        return topic.upper()

    @tool(name="pay")
    def charge(amount: int) -> int:
        return calls.add(amount)

    assert current_run() is None
    assert (await think("plain"), charge(1)) == ("PLAIN", 2)  # outside of a run: plain functions
    for _ in range(2):
        async with engine.run(run_id) as run:
            assert await asyncio.gather(think("a"), think("b")) == ["A", "B"]
            assert charge(5) == 5
            assert await run.step("named", think, "c") == "C"
    assert len(calls.calls) == 6
    lines = {line.group: line for line in await engine.costs("name", run_id)}
    assert (lines["think"].nodes, lines["think"].cost_tokens) == (2, 14)
    assert lines["named"].cost_tokens == 7
    (whole,) = await engine.costs(prefix=run_id)
    assert whole.cost_tokens == 21
    assert len(engine.costs_sync("day", run_id)) == 1
    with pytest.raises(ConfigurationError):
        engine.costs_sync("week", run_id)  # type: ignore[arg-type]


# -- misuse, ownership --------------------------------------------------------------------------


async def test_misuse(engine: CheckpointEngine) -> None:
    run = engine.run_sync(new_id())
    with pytest.raises(RunError, match="not entered"):
        run.step("a", str)
    with pytest.raises(ConfigurationError, match="unknown setting"):
        engine.run("x", resolve=None)
    with pytest.raises(ConfigurationError, match="start or checkpoint"):
        engine.run("x", resume="end")
    with run:
        with pytest.raises(ConfigurationError, match="name and a function"):
            run.step(str, "a")  # type: ignore[arg-type]
        with pytest.raises(RunError, match="asynchronous"):
            run.step("a", asyncio.sleep, 0)
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
