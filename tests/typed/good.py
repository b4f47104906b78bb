"""Programs that are right: a type checker finds nothing here, and knows what calls give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, assert_type

from livingai import (
    CallOptions,
    CheckpointEngine,
    ExecutionNode,
    NodeType,
    Receipt,
    ReplayResult,
    ReplaySession,
    Resolution,
    Retention,
    RunSettings,
    Service,
    SQLiteStore,
    step,
    tool,
)
from livingai.protocol.history import Recorded
from livingai.runs.effects import Claim, ReadHistory, Save, Work, do


class Found(TypedDict):
    count: int


def find(count: int, *, word: str = "") -> list[str]:
    return [word] * count


def found() -> Found:
    return {"count": 1}


def nothing() -> None:
    """Give nothing."""


def maybe(x: int | None) -> dict[str, int] | None:
    return None if x is None else {"x": x}


def mapping() -> Mapping[str, object]:
    return {}


def choose() -> Literal["a", "b"]:
    return "a"


def untyped() -> Any:
    return 1


async def ask(count: int, *, word: str = "") -> list[str]:
    return [word] * count


@step
def show(a: int) -> str:
    return str(a)


@tool(idempotent=True)
async def send(a: int) -> str:
    return str(a)


@step(name="named", retries=2, backoff_s=0.5, retry_on=(OSError,), timeout=None, thread=False)
def optional(a: int) -> str:
    return str(a)


settings = RunSettings(resolver=lambda node: Resolution.done(node.id))
options = CallOptions(retries=1)


def synchronous(engine: CheckpointEngine) -> None:
    with engine.run_sync("a") as run:
        assert_type(run.step("find", find, 1, word="x"), list[str])
        assert_type(run.step(find, 1, word="x"), list[str])
        assert_type(run.tool(find, 1), list[str])
        assert_type(run.branch("find", find, 1), list[str])
        assert_type(run.step(found), Found)
        assert_type(run.step(maybe, 1), dict[str, int] | None)
        assert_type(run.step(mapping), Mapping[str, object])
        assert_type(run.step(show, 1), str)
        assert_type(run.using(retries=1).step("find", find, 1), list[str])
        assert_type(run.using(retries=1).tool(find, 1, word="c"), list[str])
        run.step(nothing)
        run.step(choose)
        run.step(untyped)
        run.step("load", json.loads, "1")
        run.step("three", lambda: 3)
        run.checkpoint()


async def asynchronous(engine: CheckpointEngine) -> None:
    async with engine.run("a") as run:
        assert_type(await run.step("find", find, 1, word="x"), list[str])
        assert_type(await run.step("ask", ask, 1, word="x"), list[str])
        assert_type(await run.step(ask, 1, word="x"), list[str])
        assert_type(await run.tool(find, 1, word="x"), list[str])
        assert_type(await run.branch(find, 1), list[str])
        assert_type(await run.using(timeout=1.0).step("ask", ask, 1), list[str])
        assert_type(await run.using(timeout=1.0).tool(find, 1), list[str])
        both = await asyncio.gather(run.step(find, 1), run.step(ask, 2))
        assert_type(both, tuple[list[str], list[str]])
        assert_type(await asyncio.create_task(run.step(ask, 2)), list[str])
        assert_type(await send(1), str)
        await run.step("three", lambda: 3)
        await run.checkpoint()


def keywords(engine: CheckpointEngine) -> None:
    with engine.run_sync(
        "a", resolver=lambda node: Resolution.retry(), exclusive=True, resume="checkpoint",
        retry_failed=True, metadata={"a": 1},
    ) as run:  # fmt: skip
        assert_type(run.using(retries=1, retry_on=(OSError,), timeout=1).step(find, 1), list[str])
        assert_type(optional(1), str)
    session = ReplaySession(engine, "a")
    result = session.run_sync({"find": find}, mode="full", allow_side_effects=True, new_id="b")
    assert_type(result, ReplayResult)


def effects() -> Work[int]:
    assert_type((yield from do(Save(ExecutionNode("a", NodeType.MEMORY)))), Receipt)
    assert_type((yield from do(ReadHistory("a"))).nodes, list[Recorded])
    epoch = yield from do(Claim("a", "token"))
    assert_type(epoch, int)
    return epoch


def main() -> None:
    store = SQLiteStore("agent.db", busy_timeout_ms=100)
    keep = Retention(keep_last=3, max_age_s=60)
    with (
        Service(store, writers=1, codec="raw", retention=keep),
        CheckpointEngine(store, history=False, budget_ms=100, on_full="raise") as engine,
    ):
        synchronous(engine)
