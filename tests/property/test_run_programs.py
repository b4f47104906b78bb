"""Random programs, crashed at random places and resumed until they are done.

Whatever the program and wherever it is interrupted: it ends with the state that it would have had
without a crash, no tool is called twice unless the resolver knows that the first call did nothing,
and once it has ended, running it again calls nothing at all.

A crash is a BaseException on a real engine with a real service and store; from then on everything
that the program does crashes, too, as if the process were gone.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from livingai import CheckpointEngine, ExecutionNode, Resolution
from tests.support.runs import Crash, engine_in, new_id

EXAMPLES = 500 if os.environ.get("CI") else 60

#: Shrinking runs programs by the hundred; "explain" cannot look into another process.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]

LEAVES = st.one_of(
    st.tuples(st.sampled_from(["step", "tool", "charm", "branch"]), st.integers(0, 2)),
    st.tuples(st.sampled_from(["failing step", "failing tool", "flaky"]), st.integers(1, 2)),
    st.tuples(st.just("checkpoint")),
)
Block = list[Any]


def _compound(blocks: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
    one = st.one_of(
        LEAVES,
        st.tuples(st.just("loop"), st.integers(1, 3), blocks),
        st.tuples(st.just("gather"), st.lists(blocks, min_size=2, max_size=3)),
        st.tuples(st.just("nested"), blocks),
        st.tuples(st.just("named"), blocks),
        st.tuples(st.just("either"), blocks, blocks),
    )
    return st.lists(one, min_size=1, max_size=3)


PROGRAMS = st.recursive(st.lists(LEAVES, min_size=1, max_size=3), _compound, max_leaves=12)


class World:
    """What is outside of the process: it survives crashes."""

    def __init__(self, crashes: list[int]) -> None:
        #: Effects by tool call; the resolver may look here, as one asks a payment provider.
        self.effects: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.charms: dict[str, int] = {}
        self.crashes = list(crashes)
        self.left = self._next()
        self.dead = False

    def _next(self) -> int:
        return self.crashes.pop(0) if self.crashes else -1

    def revive(self) -> None:
        """A new process."""
        self.left, self.dead = self._next(), False

    def moment(self) -> None:
        """A place where the process may be killed."""
        if self.dead:
            raise Crash
        if self.left == 0:
            self.dead = True
            raise Crash
        self.left -= 1

    def resolve(self, node: ExecutionNode) -> Resolution:
        """Did it happen? The arguments name the call."""
        key, value = node.input["args"]
        if not self.effects[key]:
            return Resolution.retry()
        if node.metadata["name"] == "failing tool":
            return Resolution.fail(ValueError(key))
        return Resolution.done(f"{key}={value}")


class Program:
    """Interprets a block as a program of recorded calls."""

    def __init__(self, run: Any, world: World) -> None:
        self.run = run
        self.world = world

    async def block(self, ops: Block, at: str, got: list[Any]) -> None:
        for number, op in enumerate(ops):
            await self.one(op, f"{at}.{number}", got)
            self.world.moment()

    async def one(self, op: Any, at: str, got: list[Any]) -> None:
        run, kind = self.run, op[0]
        if kind == "loop":
            for turn in range(op[1]):
                await self.block(op[2], f"{at}[{turn}]", got)
        elif kind == "gather":
            parts: list[list[Any]] = [[] for _ in op[1]]
            await asyncio.gather(
                *(self.block(b, f"{at}|{n}", parts[n]) for n, b in enumerate(op[1]))
            )
            got.append(parts)
        elif kind == "nested":
            got.append(await run.step("nested", self.nested, op[1], at))
        elif kind == "named":
            with run.scope("a name"):
                await self.block(op[1], at, got)
        elif kind == "either":
            side = await run.branch("side", self.coin, at)
            await self.block(op[1 + side], f"{at}?{side}", got)
        elif kind == "checkpoint":
            run.state = list(got)
            await run.checkpoint()
        else:
            got.append(await self.leaf(kind, op[1], at))

    async def nested(self, ops: Block, at: str) -> list[Any]:
        got: list[Any] = []
        await self.block(ops, at, got)
        return got

    async def leaf(self, kind: str, value: int, at: str) -> Any:
        run = self.run
        if kind == "step":
            return await run.step("step", self.step, at, value)
        if kind == "branch":
            return await run.branch("branch", self.step, at, value)
        if kind == "charm":  # comes out differently each time it is really called
            return await run.step("charm", self.charm, at, value)
        if kind == "flaky":
            return await run.using(retries=value).step("flaky", self.flaky, at, value)
        if kind == "tool":
            return await run.tool("tool", self.tool, at, value)
        call = run.tool if kind == "failing tool" else run.step
        try:
            await call(kind, self.fails, at, value)
        except ValueError as error:
            return [type(error).__name__, *error.args]
        raise AssertionError("it did not raise")

    # -- the functions that are called --

    async def step(self, at: str, value: int) -> Any:
        self.world.moment()
        self.world.steps[at] += 1
        await asyncio.sleep(0)
        self.world.moment()
        return {"at": at, "value": (value, b"\0")}

    def charm(self, at: str, value: int) -> int:
        self.world.moment()
        self.world.steps[at] += 1
        return self.world.steps[at]

    def coin(self, at: str) -> int:
        self.world.moment()
        return len(at) % 2

    def flaky(self, at: str, value: int) -> str:
        self.world.moment()
        self.world.steps[at] += 1
        if self.world.steps[at] <= value:
            raise ConnectionError(at)
        return "at last"

    async def tool(self, at: str, value: int) -> str:
        self.world.moment()
        await asyncio.sleep(0)
        self.world.moment()
        self.world.effects[at] += 1
        self.world.moment()
        return f"{at}={value}"

    def fails(self, at: str, value: int) -> None:
        self.world.moment()
        self.world.effects[at] += 1
        raise ValueError(at)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckpointEngine]:
    yield from engine_in(tmp_path_factory.mktemp("programs"))


async def life(engine: CheckpointEngine, run_id: str, ops: Block, world: World) -> Any:
    """One process's attempt; None if it crashed."""
    world.revive()
    try:
        async with engine.run(run_id, resolver=world.resolve) as run:
            got: list[Any] = []
            await Program(run, world).block(ops, "", got)
            run.state = got
            await run.checkpoint()
            return got
    except Crash:
        world.dead = True
        return None
    finally:  # the process is gone, and all its tasks
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def without_charms(got: Any) -> Any:
    """A result without the numbers that differ between two executions."""
    if isinstance(got, list):
        return [without_charms(item) for item in got]
    return "charm" if isinstance(got, int) else got


@pytest.mark.timeout(900)  # 500 examples; about a minute on an idle machine
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(ops=PROGRAMS, crashes=st.lists(st.integers(0, 15), min_size=1, max_size=4))
def test_crashes_change_nothing(engine: CheckpointEngine, ops: Block, crashes: list[int]) -> None:
    undisturbed = asyncio.run(life(engine, new_id(), ops, World([])))
    world, run_id = World(crashes), new_id()
    lives, got = 0, None
    while got is None:
        lives += 1
        assert lives <= len(crashes) + 1
        got = asyncio.run(life(engine, run_id, ops, world))
    event(f"lives: {lives}")
    assert without_charms(got) == without_charms(undisturbed)
    assert not [key for key, count in world.effects.items() if count > 1]

    world.crashes.clear()
    before = world.effects.copy(), world.steps.copy()
    again = asyncio.run(life(engine, run_id, ops, world))
    assert again == got, "a served run gives something else"
    assert (world.effects, world.steps) == before, "a finished run called something again"
    assert engine.latest_sync(run_id)[1] == got
