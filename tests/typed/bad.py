"""Programs that are wrong: a type checker says so in each line that is marked, and in no other."""

from __future__ import annotations

from livingai import (
    CheckpointEngine,
    ReplaySession,
    Retention,
    Service,
    SQLiteStore,
    step,
    tool,
)


class Thing:
    """Nothing that can be recorded."""


def thing() -> Thing:
    return Thing()


def find(count: int) -> list[str]:
    return [""] * count


async def ask(count: int) -> int:
    return count


def synchronous(engine: CheckpointEngine) -> None:
    with engine.run_sync("a") as run:
        run.step("ask", ask, 1)  # wrong
        run.step(ask, 1)  # wrong
        run.tool(ask, 1)  # wrong
        run.branch("ask", ask, 1)  # wrong
        run.using(retries=1).step("ask", ask, 1)  # wrong
        run.step(thing)  # wrong
        run.step("find", find, "a")  # wrong
        run.step(find)  # wrong
        run.step("find", find(1))  # wrong
        run.using(retries=1).tool("find", find, "a")  # wrong
        number: int = run.using(retries=1).step("find", find, 1)  # wrong
        run.step("find", find, number)


async def asynchronous(engine: CheckpointEngine) -> None:
    async with engine.run("a") as run:
        await run.step("ask", ask, "1")  # wrong
        await run.step(find, 1, 2)  # wrong
        await run.using(retries=1).step("ask", ask, "1")  # wrong
        number: int = await run.using(retries=1).step("find", find, 1)  # wrong
        await run.step("find", find(1))  # wrong
        text: str = run.step("ask", ask, number)  # wrong
        await run.step("ask", ask, len(text))


def settings() -> None:
    CheckpointEngine(SQLiteStore("a.db"), historie=False)  # wrong
    CheckpointEngine(SQLiteStore("a.db"), on_full="wait")  # wrong
    Service(SQLiteStore("a.db"), writers="2")  # wrong
    Retention(keep_last="3")  # wrong
    Retention(keep=3)  # wrong
    SQLiteStore("a.db", busy_timeout_ms="1")  # wrong


def keywords(engine: CheckpointEngine) -> None:
    engine.run_sync("a", exclusive="yes")  # wrong
    engine.run_sync("a", exclusiv=True)  # wrong
    engine.run("a", resume="end")  # wrong
    with engine.run_sync("a") as run:
        run.using(retrys=1)  # wrong
        run.using(timeout="1 s")  # wrong
    step(retries="2")  # wrong
    tool(idempotent=True, retry_on=OSError)  # wrong
    ReplaySession(engine, "a").run_sync(thing, strict=1)  # wrong
    ReplaySession(engine, "a").run_sync(thing, modus="full")  # wrong
